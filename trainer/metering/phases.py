"""What a rank is doing at this moment, as the loop says: for signs of life, and for profiles."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

START, DATA, RANKS, FORWARD, BACKWARD, OPTIMIZER, RECORD, HELD_OUT, CHECKPOINT, ENDED = PHASES = (
    "start", "data", "ranks", "forward", "backward", "optimizer", "record", "held_out", "checkpoint", "ended",
)  # fmt: skip


class Phases:
    """One phase after the other. Any thread may read what the thread of the loop says.

    phase    what is done now
    step     optimiser steps that have ended
    stepped  when the last of them did, or the first could begin, in seconds of `clock`
    span     around each phase, by its name, while a profile is taken
    """

    def __init__(self, step: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.phase, self.step = START, step
        self.clock, self.stepped = clock, clock()
        self.span: Callable[[str], AbstractContextManager[object]] | None = None
        self._open: AbstractContextManager[object] | None = None

    def enter(self, phase: str) -> None:
        """From here on this is done."""
        self.phase = phase
        if self._open is not None:
            self._open.__exit__(None, None, None)
            self._open = None
        if self.span is not None:
            self._open = self.span(phase)
            self._open.__enter__()

    def ended(self, step: int) -> None:
        """So many steps have ended."""
        self.step, self.stepped = step, self.clock()
