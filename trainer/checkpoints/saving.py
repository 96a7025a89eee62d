"""What a run writes into its checkpoints, besides tensors, and when."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from torch import Tensor

from robot_foundry.trainer.checkpoints import tensors
from robot_foundry.trainer.checkpoints.resume import Resumable, Start
from robot_foundry.trainer.checkpoints.retention import RetentionSettings, retain
from robot_foundry.trainer.checkpoints.run_history import History
from robot_foundry.trainer.meters import Meters
from robot_foundry.trainer.ranks.ranks import Ranks


class Described(Protocol):
    """What a checkpoint holds beside tensors and what happened to the run."""

    def files(self) -> dict[str, str]:
        """For whoever uses the weights: texts by file name."""

    def lineage(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """Where the run comes from; `before` is what the checkpoint says that it goes on from, or empty."""


class ReplacedSamples(Protocol):
    """Samples read in the place of damaged ones: how many, by split, and which members were damaged."""

    counts: dict[str, int]
    damaged: list[dict[str, Any]]


@dataclass
class Saver:
    """Called with a step by all ranks, it writes the checkpoint and deletes those that are not kept."""

    run: Resumable
    described: Described
    retention: RetentionSettings
    start: Start
    ranks: Ranks
    tensors: Mapping[str, Tensor]
    meters: Meters
    replaced: ReplacedSamples
    history: History
    written: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.written = None if self.start.folder is None else self.start.step

    def __call__(self, step: int) -> None:
        if step == self.written:
            return
        state = {
            "step": step,
            "identity": self.start.state.get("identity", self.run.identity),
            **self.meters.state(),
            "substituted": self.replaced.counts,
            "ranks": self.history.ranks,
        }
        files = self._files() if self.ranks.is_main else {}
        tensors.save(self.run.run_dir, state, self.tensors, files, self.ranks)
        self.written = step
        if self.ranks.is_main:
            retain(self.run.run_dir, step, self.retention)

    def _files(self) -> dict[str, str]:
        events = {"events": self.history.events, "damaged": self.replaced.damaged}
        text = json.dumps({**self._lineage, **events}, indent=1, allow_nan=False)
        return {**self._constant_files, "lineage.json": text}

    @cached_property
    def _constant_files(self) -> dict[str, str]:
        return self.described.files()

    @cached_property
    def _lineage(self) -> dict[str, Any]:
        return self.described.lineage(self.start.lineage)
