"""A run of foundry-train, with all that it does at each step, and other loops that take turns with it.

Every loop takes a few steps, then the next one does, in one process: so that what else the machine does in
the meantime meets all of them alike. A turn's first steps of the run are left out: while the others had
theirs, its batches were made ahead.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from robot_foundry.loader.load import PREFETCHED_BATCHES
from robot_foundry.trainer import loop
from robot_foundry.trainer.loop import RunParts, StepPlan
from robot_foundry.trainer.run import run_task

WARM = PREFETCHED_BATCHES + 2  # steps at the begin of a turn that are not counted


@dataclass(frozen=True)
class Taken:
    """Seconds of a step: of a clock at the wall, and of all threads of this process."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Taken:
        """When all that was asked of a GPU is done."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return cls(time.perf_counter(), time.process_time())

    def since(self, begin: Taken) -> Taken:
        return Taken(self.wall - begin.wall, self.cpu - begin.cpu)


Turn = Sequence[Taken]
Loop = Callable[[int], Turn]  # takes so many steps


@dataclass(frozen=True)
class Spread:
    """A figure of each turn: the median of all, and between which values their middle half lies."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, median, high = (float(value) for value in np.percentile(values, (25, 50, 75)))
        return cls(median, low, high)


def timed_steps(task: Any, after: Callable[[int], None] = lambda done: None) -> list[Taken]:
    """What each step of a run takes, records and checkpoints in it; `after` is called behind it, untimed."""
    steps, report = list[Taken](), loop.report
    begin = Taken.now()

    def timed(parts: RunParts, plan: StepPlan, done: int) -> None:
        nonlocal begin
        report(parts, plan, done)
        steps.append(Taken.now().since(begin))
        after(done)
        begin = Taken.now()

    with patch.object(loop, "report", timed), warnings.catch_warnings(action="ignore"):
        run_task(task, quiet=True)
    return steps


def in_turns(task: Any, others: Mapping[str, Loop], steps: int) -> tuple[list[Turn], dict[str, list[Turn]]]:
    """The steps of each turn of the run, and those of the others, by name.

    The run is to have a multiple of WARM + steps steps.
    """
    theirs: dict[str, list[Turn]] = {name: [] for name in others}

    def after(done: int) -> None:
        if done % (WARM + steps) == 0:
            for name, take in others.items():
                theirs[name].append(take(WARM + steps)[WARM:])

    every = timed_steps(task, after)
    turns = [every[at + WARM : at + WARM + steps] for at in range(0, len(every), WARM + steps)]
    return turns, theirs


def median_step(turn: Turn, clock: str) -> float:
    return float(np.median([getattr(step, clock) for step in turn]))


def ratio(ours: Sequence[Turn], theirs: Sequence[Turn], clock: str) -> Spread:
    """The steps a second of ours over those of theirs, turn by turn."""
    pairs = zip(ours, theirs, strict=True)
    return Spread.of([median_step(b, clock) / median_step(a, clock) for a, b in pairs])
