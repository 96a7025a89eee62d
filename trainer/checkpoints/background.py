"""Work that a run does beside its steps: one piece at a time, and each tells the loop how it ended."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class Background:
    """A thread for one piece of work at a time; without `beside` the caller does it. Leaving waits for it."""

    def __init__(self, *, beside: bool) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints") if beside else None
        self._under_way: Future[None] | None = None

    def __enter__(self) -> Background:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=True)

    def start(self, work: Callable[[], None]) -> None:
        """Begin `work`, once what was under way has ended; raises as `wait`."""
        self.wait()
        if self._thread is not None:
            self._under_way = self._thread.submit(work)
            return
        work()

    def wait(self) -> None:
        """Until nothing is under way. Raises what the work raised, once."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()
