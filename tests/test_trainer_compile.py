"""Blocks that are compiled learn as those that are not, whoever holds their weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from foundry_testing.trained_tasks import LLM
from foundry_testing.trainer_runs import records, run_phases, tensors
from torch._dynamo.utils import counters

from robot_foundry.catalog.store import Store
from robot_foundry.runtime.errors import FoundryError, FoundryWarning
from robot_foundry.trainer.ranks.compiling import check_compiler

COMPILED = ("run.compile=true", "data.val_fraction='0'")
EAGER = ("run.compile=false", "data.val_fraction='0'")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


def losses(run_dir: Path) -> torch.Tensor:
    return torch.tensor([record["loss"] for record in records(run_dir)], dtype=torch.float64)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return LLM.make_store(tmp_path_factory.mktemp("store"))


@needs_compiler
@pytest.mark.filterwarnings("ignore:no held-out loss")
def test_a_compiled_run_learns_the_same_and_either_goes_on_with_the_other(
    store: Store, tmp_path: Path
) -> None:
    counters.clear()
    eager = LLM.run(store, tmp_path / "eager", *EAGER, "run.steps=4")
    compiled = LLM.run(store, tmp_path / "compiled", *COMPILED, "run.steps=4")
    assert (losses(tmp_path / "eager") - losses(tmp_path / "compiled")).abs().max() <= 1e-5
    # One graph for both blocks, for the one kind of pass that there is.
    assert counters["stats"]["unique_graphs"] == 1 and not counters["recompiles"]
    assert tensors(eager.checkpoint).keys() == tensors(compiled.checkpoint).keys()

    shutil.copytree(tmp_path / "compiled", tmp_path / "moved")
    with pytest.warns(FoundryWarning, match="run.compile True there and False here"):
        LLM.run(store, tmp_path / "moved", *EAGER, "run.steps=6")
    LLM.run(store, tmp_path / "compiled", *COMPILED, "run.steps=6")
    LLM.run(store, tmp_path / "eager", *EAGER, "run.steps=6")
    for name in ("moved", "compiled"):
        assert (losses(tmp_path / "eager") - losses(tmp_path / name)).abs().max() <= 1e-5, name


@needs_compiler
def test_compiled_ranks_learn_the_same(store: Store, tmp_path: Path) -> None:
    """DDP, and FSDP2 with what is computed again."""
    alone = LLM.run(store, tmp_path / "alone", "run.steps=3").run_dir
    more = {"ddp": (), "fsdp": ("run.shard=0", "run.recompute=true")}
    phases = [
        {
            "size": 2,
            "arguments": LLM.arguments(store, tmp_path / name, "run.steps=3", "run.compile=true", *settings),
        }
        for name, settings in more.items()
    ]
    done = run_phases([{**phase, "kill": None} for phase in phases], timeout=None)
    assert json.loads(done.stdout.splitlines()[-1]) == [[0, 0], [0, 0]], done.stderr
    for name in more:
        there, here = (
            [record["loss"] for record in records(folder) if "loss" in record]
            for folder in (alone, tmp_path / name)
        )
        assert there == pytest.approx(here, abs=1e-5), name
        assert not [
            key for key in tensors(tmp_path / name / "checkpoints" / "step-00000003") if "_orig" in key
        ]


def test_without_a_compiler_one_sentence_says_so(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(FoundryError, match="run.compile needs a C[+][+] compiler, .* no no-such-compiler"):
        LLM.run(store, tmp_path / "run", "run.compile=true")
    with pytest.raises(FoundryError):
        check_compiler()
    assert not (tmp_path / "run" / "checkpoints").exists()
