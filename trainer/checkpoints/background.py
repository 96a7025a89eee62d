"""Work that a run does beside its steps: one piece at a time, and each tells the loop how it ended."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """A thread for one piece of work at a time; without `beside` the caller does it. Leaving waits for it."""

    def __init__(self, *, beside: bool) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints") if beside else None
        self._under_way: Future[T] | None = None

    def __enter__(self) -> Background[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=True)

    def start(self, work: Callable[[], T]) -> None:
        """Begin `work`, while nothing is under way."""
        assert self._under_way is None
        if self._thread is not None:
            self._under_way = self._thread.submit(work)
            return
        self._under_way = Future()
        self._under_way.set_result(work())

    def wait(self) -> T | None:
        """What the work under way gave, once it has ended, or what it raised; None where there is none."""
        under_way, self._under_way = self._under_way, None
        return None if under_way is None else under_way.result()
