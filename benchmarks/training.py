"""Training: what steps of the packaged recipes take on this machine.

    OMP_NUM_THREADS=1 python benchmarks/training.py [--steps 8] [--json FILE] [--only vla|llm]

Policies: samples a second and thread, the time of a step, and chunks a second, of one robot arm (10 dims),
random pictures and 20-byte instructions, no loading. Time is CPU time, the least of several steps, so that
other work on the machine matters less.

Language models: tokens a second of `foundry-train llm llm_tiny` from a store, with all that a run does at
each step, beside a bare loop over the same model in this process: batches that lie ready, forward, backward,
clip, step of the same optimisers. Both take turns of 5 × --steps steps; the ratio is of the median steps.
And the CPU time that loading a batch takes, as a share of that of a step.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import load
from robot_foundry.trainer.meters import read_metrics
from robot_foundry.trainer.models.layers.initial import allocated, initialise
from robot_foundry.trainer.models.llm import LLM, TextInputs
from robot_foundry.trainer.models.tokenizer import ByteTokenizer
from robot_foundry.trainer.models.vla import VLA, Geometry, Inputs, Targets
from robot_foundry.trainer.optim.average import Ema
from robot_foundry.trainer.optim.muon import Muon
from robot_foundry.trainer.optim.optimizers import Optimizers, parameter_groups
from robot_foundry.trainer.recipes.form import PACKAGED
from robot_foundry.trainer.run import run_task
from robot_foundry.trainer.tasks.llm import recipe as llm_recipe
from robot_foundry.trainer.tasks.llm.config import LLMTaskConfig
from robot_foundry.trainer.tasks.llm.inputs import text_inputs
from robot_foundry.trainer.tasks.llm.resolving import resolve_llm
from robot_foundry.trainer.tasks.vla.config import VLATaskConfig
from robot_foundry.trainer.tasks.vla.draws import build_draws
from robot_foundry.trainer.tasks.vla.recipe import read_recipe

SUPPORT = Path(__file__).parent.parent / "tests" / "support"
TURNS = 3
DIMS = 10
TEXT = "touch the yellow can"


def random_inputs(config: VLATaskConfig, batch: int) -> Inputs:
    window, rng = config.data.window, np.random.default_rng(0)
    assert window.image is not None
    views = len(window.cameras) * window.history
    tokens, obs = ByteTokenizer(config.model.text_length).rows([TEXT] * batch)
    draws = build_draws(
        np.arange(batch), 0, draws=config.model.draws, density=config.model.density, state_noise=0.05,
        state_shape=(window.history, DIMS), action_shape=(window.horizon, DIMS),
    )  # fmt: skip
    pixels = rng.integers(0, 256, (batch, views, *window.image, 3), dtype=np.uint8)
    return Inputs(
        torch.from_numpy(pixels),
        torch.ones(batch, views, dtype=torch.bool),
        torch.from_numpy(tokens),
        torch.from_numpy(obs),
        torch.randn(batch, window.history, DIMS),
        torch.ones(batch, window.history, DIMS, dtype=torch.bool),
        Targets(
            torch.randn(batch, window.horizon, DIMS),
            torch.ones(batch, window.horizon, DIMS, dtype=torch.bool),
            torch.ones(batch),
        ),
        draws,
    )


def least(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def measure(config: VLATaskConfig, steps: int) -> dict[str, float]:
    window, batch = config.data.window, config.data.global_batch
    assert window.image is not None
    sizes = Geometry(DIMS, DIMS, window.history, window.horizon, window.image)
    model = initialise(allocated(lambda: VLA(config.model, sizes), "cpu"), seed=0)
    optimizers = Optimizers(model, config.optim)
    ema = Ema(model, power=config.optim.ema_power, maximum=config.optim.ema_max)
    inputs, one = random_inputs(config, batch), random_inputs(config, 1)
    finite = torch.tensor(True)

    def gradient() -> None:
        optimizers.zero_grad()
        total, count = model(inputs)["action"]
        (total / count).backward()

    @torch.inference_mode()
    def chunks(seen: Inputs) -> None:
        assert seen.targets is not None
        model.sample(seen, torch.randn_like(seen.targets.value_BTA), seen.targets.mask_BTA)

    gradient_s = least(gradient, steps)
    update_s = least(lambda: optimizers.step(finite, 1e-3), steps)
    update_s += least(lambda: ema.update(0, finite), steps)
    return {
        "batch": batch,
        "draws": config.model.draws,
        "parameters": sum(p.numel() for p in model.parameters()),
        "samples_per_s": batch / (gradient_s + update_s),
        "gradient_ms": 1000 * gradient_s,
        "update_ms": 1000 * update_s,
        "one_chunk_ms": 1000 * least(lambda: chunks(one), steps),
        "chunks_per_s": batch / least(lambda: chunks(inputs), steps),
    }


def token_store(folder: Path) -> Store:
    """A store with 'words', about a million tokens of bytes."""
    sys.path.insert(0, str(SUPPORT))
    from foundry_testing.small_corpus import small_corpus
    from foundry_testing.tokens import write_tokens

    from robot_foundry.catalog.tokens.tokenizers import keep

    store = Store(folder)
    written = write_tokens(store, "words", [small_corpus(1500, longest=24)])
    keep(store, written.tokenizer)
    return store


def bare_steps(config: LLMTaskConfig, batches: Iterator[TextInputs]) -> Callable[[int], list[float]]:
    """Takes so many steps of a loop that does nothing else, and gives the seconds of each."""
    model = initialise(allocated(lambda: LLM(config.model), "cpu"), seed=0)
    adamw, muon = parameter_groups(model, config.optim)
    optimizers = [torch.optim.AdamW(adamw, betas=config.optim.betas, fused=True), Muon(muon)]

    def steps(count: int) -> list[float]:
        seconds = []
        for inputs, _ in zip(batches, range(count), strict=False):
            begin = time.perf_counter()
            for optimizer in optimizers:
                optimizer.zero_grad()
            total, number = model(inputs)["text"]
            (total / number).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip)
            for optimizer in optimizers:
                optimizer.step()
            seconds.append(time.perf_counter() - begin)
        return seconds

    return steps


def measure_llm(folder: Path, steps: int) -> dict[str, float]:
    """See the module's own words; a vocabulary of 8,192 whatever the tokenizer has."""
    store = token_store(folder / "store")
    settings = ["data.mix=words", f"data.store={store.url}", f"run.dir={folder / 'run'}", "run.log_every=1"]
    asked = [*settings, "data.val_fraction='0'", "model.decoder.vocabulary=8192"]
    config = resolve_llm(llm_recipe.read_recipe("llm_tiny", asked)).config
    rows, batch = config.data.rows, config.data.global_batch
    with load("words", rows, seed=0, global_batch=batch, store=store, threads=0) as loader:
        loading_s = least(lambda: text_inputs(loader.batch(1)), steps)
        ready = [text_inputs(loader.batch(b)) for b in range(16)]
    bare, ours_s, bare_s = bare_steps(config, cycle(ready)), [], []
    for turn in range(1, TURNS + 1):
        run = replace(config.run, steps=5 * steps * turn, tokens=None, samples=None)
        with warnings.catch_warnings(action="ignore"):  # nothing is held out
            run_task(resolve_llm(replace(config, run=run)), quiet=True)
        records = read_metrics(folder / "run")[-5 * steps + 1 :]  # the first of each turn starts the run
        ours_s += [batch / record["samples_per_s"] for record in records]
        begin = time.process_time()
        bare_s += bare(5 * steps)[1:]
        step_s = (time.process_time() - begin) / (5 * steps)
    tokens = batch * rows.length
    return {
        "batch": batch,
        "length": rows.length,
        "parameters": sum(p.numel() for p in LLM(config.model).parameters()),
        "tokens_per_s": tokens / float(np.median(ours_s)),
        "bare_tokens_per_s": tokens / float(np.median(bare_s)),
        "ratio": float(np.median(bare_s)) / float(np.median(ours_s)),
        "loading_ms": 1000 * loading_s,
        "loading_share": loading_s / step_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=("vla", "llm"))
    options = parser.parse_args()
    found = {"threads": torch.get_num_threads(), "torch": torch.__version__, "recipes": {}}
    if options.only != "llm":
        for path in sorted(PACKAGED.glob("vla_*.yaml")):
            found["recipes"][path.stem] = measure(read_recipe(path, ["data.mix=none"]), options.steps)
            print(path.stem, json.dumps(found["recipes"][path.stem]))
    if options.only != "vla":
        with tempfile.TemporaryDirectory() as folder:
            found["recipes"]["llm_tiny"] = measure_llm(Path(folder), options.steps)
        print("llm_tiny", json.dumps(found["recipes"]["llm_tiny"]))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
