"""Stop requests from outside: noted when they come, answered at the next step boundary."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)


class StopFlag:
    """Inside a `with`, SIGTERM, SIGUSR2 and Ctrl-C set `requested`; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopFlag:
        for number in STOPPING:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number)
