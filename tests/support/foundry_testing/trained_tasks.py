"""What tests of any training run need of a task: a store, and shrunk runs on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundry_testing import llm_runs, trainer_runs
from robot_foundry.catalog.store import Store
from robot_foundry.trainer.outcome import Outcome
from robot_foundry.trainer.run import run_task
from robot_foundry.trainer.tasks.llm.resolving import resolve_llm
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla


@dataclass(frozen=True)
class TrainedTask:
    """A task by the name of its command; `mix` is a dataset of the store that `make_store` makes."""

    name: str
    mix: str
    settings: tuple[str, ...]
    make_store: Callable[[Path], Store]
    tiny: Callable[..., Any]
    resolve: Callable[[Any], Any]

    def __str__(self) -> str:
        return self.name

    def resolved(self, store: Store, run_dir: Path, *overrides: str) -> Any:
        return self.resolve(self.tiny(store, run_dir, *overrides))

    def run(self, store: Store, run_dir: Path, *overrides: str) -> Outcome:
        return run_task(self.resolved(store, run_dir, *overrides), quiet=True)

    def arguments(self, store: Store, run_dir: Path, *overrides: str) -> list[str]:
        """Those of foundry-train for the same run."""
        where = (f"data.mix={self.mix}", f"data.store={store.url}", f"run.dir={run_dir}")
        return [self.name, *self.settings, *where, *overrides]


VLA = TrainedTask("vla", "lift", trainer_runs.TINY, trainer_runs.make_store, trainer_runs.tiny, resolve_vla)
LLM = TrainedTask("llm", "tales", llm_runs.TINY, llm_runs.make_store, llm_runs.tiny, resolve_llm)
