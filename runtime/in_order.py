"""Work that threads do while the caller goes on, with results in the order in which it was asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Key = TypeVar("Key")
Result = TypeVar("Result")


def in_order(
    pool: Executor, tasks: Iterable[tuple[Key, Callable[[], Result]]], most: int
) -> Iterator[tuple[Key, Result]]:
    """Key and result of each task; up to `most` are under way while the caller makes the next one."""
    under_way = deque[tuple[Key, Future[Result]]]()
    for key, task in tasks:
        under_way.append((key, pool.submit(task)))
        if len(under_way) > most:
            first, future = under_way.popleft()
            yield first, future.result()
    for key, future in under_way:
        yield key, future.result()
