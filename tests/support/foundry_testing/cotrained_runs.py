"""Shrunk runs of policies that learn pairs and text beside robots, for tests."""

from __future__ import annotations

from pathlib import Path

from foundry_testing import trainer_runs, vlm_runs
from robot_foundry.catalog.store import Store
from robot_foundry.trainer.outcome import Outcome
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla
from robot_foundry.trainer.tasks.vla.vla_task import VLATask

TOKENIZER = "data.tokenizer=byte"
PAIRS = "data.pairs={mix: things, global_batch: 8, weight: 0.5, rows: {length: 96}}"
TEXT = vlm_runs.TEXT


def make_store(path: Path) -> Store:
    """The datasets of robots, of pairs and of text of the other shrunk runs."""
    vlm_runs.make_store(path)
    return trainer_runs.make_store(path)


def resolved(store: Store, run_dir: Path | str, *overrides: str) -> VLATask:
    return resolve_vla(trainer_runs.tiny(store, run_dir, TOKENIZER, *overrides))


def run(store: Store, run_dir: Path, *overrides: str) -> Outcome:
    """Of all three streams."""
    return trainer_runs.run(store, run_dir, TOKENIZER, PAIRS, TEXT, *overrides)
