"""Stop requests from outside: noted when they come, answered at the next step boundary."""

from __future__ import annotations

import os
import signal
from threading import Thread
from types import FrameType, TracebackType
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
INSISTING = (signal.SIGTERM, signal.SIGINT)


class StopFlag:
    """Inside a `with`, SIGTERM, SIGUSR2 and Ctrl-C set `requested`.

    A second SIGTERM or Ctrl-C ends the process at once, even where it waits for another rank and no Python
    runs: a thread of its own reads the numbers of the signals as they come.
    """

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopFlag:
        read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        Thread(target=_watch, args=(read,), name="signals", daemon=True).start()
        for number in STOPPING:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._write)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = self.requested or signal.Signals(number)


def _watch(read: int) -> None:
    """End the process at the second signal that insists; ends itself when the other end is closed."""
    insisted = 0
    while numbers := os.read(read, 64):
        insisted += sum(number in INSISTING for number in numbers)
        if insisted > 1:
            last = signal.Signals(next(number for number in reversed(numbers) if number in INSISTING))
            os.write(2, f"\nEnded at once by a second signal ({last.name}).\n".encode())
            os._exit(128 + last)
    os.close(read)
