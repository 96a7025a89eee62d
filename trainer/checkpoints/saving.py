"""What a run writes into its checkpoints, besides tensors, and when."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from robot_foundry.runtime.errors import FoundryWarning
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.checkpoints.resume import Start
from robot_foundry.trainer.meters import Meters
from robot_foundry.trainer.ranks import machine
from robot_foundry.trainer.ranks.ranks import World
from robot_foundry.trainer.substitutes import Substitutes
from robot_foundry.trainer.tasks.vla.inputs import Scales
from robot_foundry.trainer.tasks.vla.resolve import Job, checkpoint_files, lineage


@dataclass
class Saver:
    """Called with a step by all ranks, it writes the checkpoint and deletes those that are not kept."""

    job: Job
    start: Start
    peers: World
    tensors: Mapping[str, Tensor]
    scales: Scales
    meters: Meters
    replaced: Substitutes
    history: History
    written: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.written = None if self.start.folder is None else self.start.step

    def __call__(self, step: int) -> None:
        if step == self.written:
            return
        run = self.job.config.run
        state = {
            "step": step,
            "identity": self.start.state.get("identity", self.job.identity),
            **self.meters.state(),
            "substituted": self.replaced.counts,
            "ranks": self.history.ranks,
        }
        files = self._files() if self.peers.is_main else {}
        checkpoint.save(self.job.run_dir, state, self.tensors, files, self.peers)
        self.written = step
        if self.peers.is_main:
            checkpoint.retain(self.job.run_dir, step, keep_last=run.keep_last, keep_every=run.keep_every)

    def _files(self) -> dict[str, str]:
        told = {"events": self.history.events, "damaged": self.replaced.damaged}
        text = json.dumps({**self._lineage, **told}, indent=1, allow_nan=False)
        return {**self._constant_files, "lineage.json": text}

    @cached_property
    def _constant_files(self) -> dict[str, str]:
        return checkpoint_files(self.job, self.scales)

    @cached_property
    def _lineage(self) -> dict[str, Any]:
        return lineage(self.job, self.start.lineage)


@dataclass(frozen=True)
class History:
    """What a run's bits depend on besides its recipe, for each rank, and what happened to it so far.

    An event is {"step", "event"}: a sentence for people.
    """

    ranks: list[dict[str, Any]]
    events: list[dict[str, Any]]

    @classmethod
    def begin(cls, start: Start, peers: World, job: Job) -> History:
        """That of the checkpoint, and what is to be told of going on from it."""
        ranks = peers.gather(machine.facts(peers, job.config.run))
        changed = machine.changes(start.state.get("ranks", ()), ranks)
        if changed is not None and peers.is_main:
            warnings.warn(changed, FoundryWarning, stacklevel=2)
        found = [*start.passed_over, *([] if changed is None else [changed])]
        events = [{"step": start.step, "event": sentence} for sentence in found]
        return cls(ranks, [*start.lineage.get("events", ()), *events])
