"""Checkpoints: how much longer a run takes for each, where a step waits for all of it and where for a copy.

    OMP_NUM_THREADS=1 python benchmarks/checkpoints.py [--saves 8] [--every 10] [--only vla_tiny|llm_35m]

Runs of foundry-train with `run.async_save` true and false take turns, in this process: the packaged recipe
vla_tiny on small pictures, and a language model of 35 million parameters. The time of a step is the median
of those in the second half between two saves. What a checkpoint costs is the sum, over the steps from one
save to the next, of their medians above that; `waited` is the median of what the loop itself says that a
step waited (`save_wait`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robot_foundry.catalog.store import Store
from robot_foundry.trainer.meters import read_metrics
from robot_foundry.trainer.run import run_task
from robot_foundry.trainer.tasks.llm import recipe as llm_recipe
from robot_foundry.trainer.tasks.llm.resolving import resolve_llm
from robot_foundry.trainer.tasks.vla import recipe as vla_recipe
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
TURNS = 2
DECODER = "model.decoder={preset: llm_100m, depth: 4, vocabulary: 8192}"


def vla_tiny(folder: Path, *settings: str) -> Any:
    from foundry_testing.trainer_runs import make_store

    store = _store(folder, make_store)
    asked = ["data.mix=lift", f"data.store={store.url}", *settings]
    return resolve_vla(vla_recipe.read_recipe("vla_tiny", asked))


def llm_35m(folder: Path, *settings: str) -> Any:
    from foundry_testing.llm_runs import make_store

    store = _store(folder, make_store)
    asked = ["data.mix=tales", f"data.store={store.url}", DECODER, "data.global_batch=2", *settings]
    return resolve_llm(llm_recipe.read_recipe("llm_tiny", asked))


def _store(folder: Path, make: Callable[[Path], Store]) -> Store:
    return Store(folder / "store") if (folder / "store").exists() else make(folder / "store")


def steps_between_saves(task: Any, every: int) -> tuple[list[list[float]], list[float]]:
    """The seconds of the steps after each save but the last, and what the first of them waited for it."""
    with warnings.catch_warnings(action="ignore"):  # of what is held out
        run_task(task, quiet=True)
    records = [record for record in read_metrics(task.run_dir) if "loss" in record]
    seconds = [task.config.global_batch / record["samples_per_s"] for record in records]
    rows = [seconds[at : at + every] for at in range(every, len(seconds) - every + 1, every)]
    return rows, [record["save_wait"] for record in records[every::every]]


def measure(make: Callable[..., Any], folder: Path, saves: int, every: int) -> dict[str, dict[str, float]]:
    found: dict[str, tuple[list[list[float]], list[float]]] = {"true": ([], []), "false": ([], [])}
    size = 0
    for turn in range(TURNS):
        for mode, (rows, waits) in found.items():
            settings = (
                f"run.dir={folder / f'run-{turn}-{mode}'}", f"run.steps={every * (saves + 1)}",
                f"run.save_every={every}", "run.keep_last=1", "run.log_every=1", "run.eval_samples=1",
                f"run.async_save={mode}",
            )  # fmt: skip
            task = make(folder, *settings)
            more, waited = steps_between_saves(task, every)
            rows += more
            waits += waited
            [written] = (task.run_dir / "checkpoints").iterdir()
            size = sum(path.stat().st_size for path in written.iterdir())
    return {f"async_save={mode}": _cost(*values, size) for mode, values in found.items()}


def _cost(rows: list[list[float]], waits: list[float], size: int) -> dict[str, float]:
    seconds = np.array(rows)
    step = float(np.median(seconds[:, seconds.shape[1] // 2 :]))
    return {
        "checkpoint_mb": size / 1e6,
        "step_ms": 1000 * step,
        "waited_ms": 1000 * float(np.median(waits)),
        "waited_steps": float(np.median(waits)) / step,
        "cost_steps": float((np.median(seconds, axis=0) - step).sum()) / step,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--saves", type=int, default=8)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--only", choices=("vla_tiny", "llm_35m"))
    options = parser.parse_args()
    print("threads", torch.get_num_threads())
    for make in (vla_tiny, llm_35m):
        if options.only in (None, make.__name__):
            with tempfile.TemporaryDirectory() as folder:
                for mode, found in measure(make, Path(folder), options.saves, options.every).items():
                    print(make.__name__, mode, json.dumps({name: round(x, 2) for name, x in found.items()}))


if __name__ == "__main__":
    main()
