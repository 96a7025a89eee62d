"""What ranks do for one checkpoint: each tries its part, and all of them learn how it went for each."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.ranks.ranks import Ranks

T = TypeVar("T")
_FULL = (errno.ENOSPC, errno.EDQUOT)


class NotWritten(FoundryError):
    """A checkpoint for which there is no room, or that an object store does not take: the run can go on."""


def together(ranks: Ranks, work: Callable[[], T]) -> list[T]:
    """What `work` gives on each rank, on all of them, in their order.

    Where it fails on any rank all of them raise: `NotWritten` if nothing else failed, else FoundryError.
    """
    value: T | None = None
    problem: FoundryError | None = None
    try:
        value = work()
    except Exception as error:  # whatever it is, the other ranks wait to hear of it
        problem = _as_problem(error)
    every = ranks.gather_objects((value, problem))
    problems = [(rank, failed) for rank, (_, failed) in enumerate(every) if failed is not None]
    if problems:
        rank, first = next((one for one in problems if not isinstance(one[1], NotWritten)), problems[0])
        if rank != ranks.rank:
            raise type(first)(f"rank {rank} failed: {first.message}", hint=first.hint)
        raise first
    return [given for given, _ in every]  # type: ignore[misc]  # each is what `work` gave


def on_main(ranks: Ranks, work: Callable[[], T]) -> T:
    """As `together`, where the main rank alone has something to do."""
    return together(ranks, lambda: work() if ranks.is_main else None)[0]  # type: ignore[return-value]


def _as_problem(error: Exception) -> FoundryError:
    refused = _refused(error)
    if isinstance(error, FoundryError):
        return error
    if refused is None:
        return FoundryError(str(error) or type(error).__name__)
    said = f"{refused.strerror or refused}{'' if refused.filename is None else f': {refused.filename}'}"
    if refused.errno in _FULL:
        return NotWritten(said, hint="free space there")
    return FoundryError(said)


def _refused(error: BaseException | None) -> OSError | None:
    """What the system said: PyTorch has errors of its own for a file that cannot be written."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error
