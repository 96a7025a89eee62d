"""Which checkpoints of a run are kept."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from robot_foundry.trainer.checkpoints.checkpoint import complete, remove, write_pointer
from robot_foundry.trainer.checkpoints.replica import Replica
from robot_foundry.trainer.meters import read_metrics

BEST = "best.json"  # a pointer file in a run's folder


@dataclass(frozen=True)
class RetentionSettings:
    """When checkpoints are written, where to, and how long they are kept, in optimiser steps."""

    save_every: int = 500
    async_save: bool = True  # false: a step waits until all is written, and no copy is held in memory
    checkpoints: str | None = None  # URL in an object store of the run's copies; they stay in its folder, too
    keep_last: int = 3
    keep_every: int | None = None  # checkpoints at multiples of it are never deleted
    keep_best: bool = False  # that of the lowest held-out loss too, which RUN/best.json names


def retain(run_dir: Path, step: int, settings: RetentionSettings, replica: Replica | None = None) -> None:
    """Delete checkpoints that are neither among the last, at a multiple of `keep_every` steps, nor the best;
    and their copies.

    `step` was written last: those beyond it were passed over when the run resumed, so they do not count.
    """
    written = {at: folder for at, folder in complete(run_dir).items() if at <= step}
    copied = [] if replica is None else [at for at in replica.steps() if at <= step]
    measured = _held_out(run_dir, written) if settings.keep_best else {}
    best = _lowest(measured)
    if best is not None:
        write_pointer(run_dir / BEST, written[best], step=best, held_out=measured[best])
    for at in _surplus(written, best, settings):
        remove(written[at])
    if replica is not None:
        best = _best_copy(replica, copied, measured) if settings.keep_best else None
        for at in _surplus(copied, best, settings):
            replica.remove(at)


def _best_copy(replica: Replica, copied: Collection[int], measured: Mapping[int, float]) -> int | None:
    """The copy of the lowest held-out loss, of those measured here and where the run was before."""
    before = replica.best()
    best = _lowest({at: loss for at, loss in {**before, **measured}.items() if at in copied})
    if best is not None and best not in before:
        replica.name_best(best, measured[best])
    return best


def _lowest(measured: Mapping[int, float]) -> int | None:
    """The step of the lowest loss, of equal ones the first; None where there is none."""
    return min(measured, key=lambda at: (measured[at], at), default=None)


def _surplus(steps: Collection[int], best: int | None, settings: RetentionSettings) -> Iterator[int]:
    for at in sorted(steps)[: -settings.keep_last]:
        if at != best and (settings.keep_every is None or at % settings.keep_every):
            yield at


def _held_out(run_dir: Path, written: Collection[int]) -> dict[int, float]:
    """By step the held-out loss of those checkpoints of which there is one."""
    losses = {
        record["step"]: record.get("held_out") for record in read_metrics(run_dir) if "held_out" in record
    }
    return {at: loss for at, loss in losses.items() if at in written and loss is not None}
