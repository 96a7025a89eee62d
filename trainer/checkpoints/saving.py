"""What a run writes into its checkpoints, besides tensors, and when.

A step waits for a copy of what is trained; it is written, proven and named beside the next steps, and what
is not kept is deleted. One checkpoint is written at a time.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from robot_foundry.runtime.errors import FoundryError, FoundryWarning
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.trainer.checkpoints.background import Background
from robot_foundry.trainer.checkpoints.checkpoint import FOLDER
from robot_foundry.trainer.checkpoints.copies import Copies, live
from robot_foundry.trainer.checkpoints.proof import MANIFEST, step_name
from robot_foundry.trainer.checkpoints.replica import Replica
from robot_foundry.trainer.checkpoints.resume import Resumable, Start
from robot_foundry.trainer.checkpoints.retention import RetentionSettings, retain
from robot_foundry.trainer.checkpoints.run_history import History
from robot_foundry.trainer.checkpoints.together import NotWritten, on_main
from robot_foundry.trainer.checkpoints.writing import Plan, Snapshot, copy, write
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


@dataclass(frozen=True)
class Saved:
    """How a save ended: where the checkpoint is, and why it, or its copy, was given up."""

    step: int
    folder: Path | None
    refused: NotWritten | None = None


@dataclass
class Saver:
    """Called with a step by all ranks, it writes the checkpoint and deletes those that are not kept.

    ranks     those of the thread that writes: their exchanges are beside those of the training
    constant  names of tensors that never change
    replica   where copies go
    """

    run: Resumable
    described: Described
    retention: RetentionSettings
    start: Start
    ranks: Ranks
    tensors: Mapping[str, Tensor]
    constant: Collection[str]
    meters: Meters
    replaced: ReplacedSamples
    history: History
    background: Background[Saved]
    replica: Replica | None = None
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        self._whole = self.start.folder  # the last that is
        self._done = self.start.step if self.start.folder is not None and self.start.copied else None
        self._last: Saved | None = None
        self._failed = int(self.start.state.get("failed_saves", 0))  # how many were, in the whole run
        self._waited = 0.0
        self._copies = Copies(self.tensors, self.constant)

    def __call__(self, step: int) -> None:
        """Begin to write the checkpoint of a step that has none yet, once no other is under way.

        Raises what went wrong with the one before, unless the run can go on without it.
        """
        begin = self.clock()
        self._settle()
        if step != self._done:
            self.background.start(partial(self._save, self._snapshot(step)))
        self._waited += self.clock() - begin

    def finish(self, step: int) -> None:
        """Wait until there is a checkpoint of `step`, the last. FoundryError where there can be none."""
        self._settle()
        if self._last is None or self._last.step != step:
            self(step)
            self._settle()
        if (
            self._last is None
        ):  # all was written before; whether all was deleted that is not kept is not known
            self._retain(step, self.replica)
        if self._last is not None and (error := self._last.refused) is not None:
            raise FoundryError(
                f"{error.message}; {self._standing()}",
                hint=f"{error.hint}; then the same command goes on from there",
            )

    def figures(self) -> dict[str, float]:
        """Seconds that steps waited for checkpoints since this was asked, and saves that were given up."""
        waited, self._waited = self._waited, 0.0
        return {"save_wait": waited, "failed_saves": self._failed}

    def _settle(self) -> None:
        """Take in how the save that is under way ends."""
        saved = self.background.wait()
        if saved is None:
            return
        self._last, self._whole = saved, saved.folder or self._whole
        if saved.refused is None:
            self._done = saved.step
        else:
            self._failed += 1

    def _snapshot(self, step: int) -> Snapshot:
        """The run as it stands now, which later steps do not change."""
        names = self._plan.names
        taken = self._copies.take(names) if self.retention.async_save else live(self.tensors, names)
        state = {
            "step": step,
            "identity": self.start.state.get("identity", self.run.identity),
            **self.meters.state(),
            "substituted": dict(self.replaced.counts),
            "failed_saves": self._failed,
            "ranks": self.history.ranks,
        }
        kill_point("checkpoint-copied")
        return Snapshot(state, taken, self._files() if self.ranks.is_main else {})

    def _save(self, snapshot: Snapshot) -> Saved:
        """In the background. A checkpoint that is given up is told, and the run goes on."""
        folder = None
        try:
            self._retain(self._done, None)  # what nobody keeps may have the room that this one needs
            folder = self._standing_at(snapshot.step)
            if folder is None:
                folder = write(self.run.run_dir / FOLDER, snapshot, self._plan, self.ranks)
            if self.replica is not None:
                copy(folder, self.replica, self.ranks)
            self._retain(snapshot.step, self.replica)
        except NotWritten as error:
            if self.ranks.is_main:
                told = f"{error.message}; the run goes on, {self._standing()}, and the next save tries again"
                warnings.warn(f"{told}: {error.hint}", FoundryWarning, stacklevel=2)
            return Saved(snapshot.step, folder, error)
        return Saved(snapshot.step, folder)

    def _retain(self, step: int | None, replica: Replica | None) -> None:
        if step is not None:
            on_main(self.ranks, partial(retain, self.run.run_dir, step, self.retention, replica))

    def _standing_at(self, step: int) -> Path | None:
        """The checkpoint of this step, where it is whole and lacks nothing but its copy."""
        whole = self._whole
        if whole is None or whole.name != step_name(step) or not (whole / MANIFEST).is_file():
            return None
        return whole

    def _standing(self) -> str:
        return "there is no whole one yet" if self._whole is None else f"the last whole one is {self._whole}"

    @cached_property
    def _plan(self) -> Plan:
        return Plan.of(self.tensors, self.ranks)

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
