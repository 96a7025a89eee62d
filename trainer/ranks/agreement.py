"""Ranks that agree before they train: on what they resolved, on the plan, on the code and on the checkpoint.

What one rank finds wrong here ends all of them with one sentence; none waits for a rank that will not come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from robot_foundry.runtime.distributed.cluster import package_versions
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.ranks.ranks import Ranks

T = TypeVar("T")
# What computes, decodes or reads tables.
LIBRARIES = ("torch", "numpy", "pyarrow", "simplejpeg", "pillow")


def unlike(
    before: Mapping[str, Any], now: Mapping[str, Any], path: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """The path and both values of each leaf in which two nested mappings differ."""
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from unlike(old, new, f"{path}{name}.")
        elif old != new:
            yield f"{path}{name}", old, new


def agree(ranks: Ranks, values: Mapping[str, Any], hint: str | None = None) -> None:
    """FoundryError on every rank, that says what differs and where, unless all have equal (JSON) values."""
    first, *others = ranks.gather(dict(values))
    lines = [
        f"\n  rank {rank}: {path} is {here!r}, on rank 0 {there!r}"
        for rank, theirs in enumerate(others, start=1)
        for path, there, here in unlike(first, theirs)
    ]
    if lines:
        raise FoundryError(f"the ranks do not agree, so nothing was trained:{''.join(lines)}", hint=hint)


def everywhere(ranks: Ranks, work: Callable[[], T]) -> T:
    """`work()` on every rank; if it fails on any, all of them raise a FoundryError that names the ranks."""
    if ranks.size == 1:
        return work()
    value, problem = _tried(work)
    failed = [(rank, one) for rank, one in enumerate(ranks.gather(problem)) if one is not None]
    if failed:
        listed = "; ".join(f"rank {rank}: {one['message']}" for rank, one in failed)
        raise FoundryError(listed, hint=failed[0][1]["hint"])
    return value


def from_main(ranks: Ranks, work: Callable[[], Any]) -> Any:
    """The JSON value of `work()` on the main rank, on every rank; if it fails there, all raise its error."""
    if ranks.size == 1:
        return work()
    value, problem = _tried(work) if ranks.is_main else (None, None)
    value, problem = ranks.gather([value, problem])[0]
    if problem is not None:
        raise FoundryError(problem["message"], hint=problem["hint"])
    return value


def versions() -> dict[str, str]:
    """The code of this package, by the hash of its files, and the libraries that bits depend on."""
    return package_versions(names=LIBRARIES)


def _tried(work: Callable[[], T]) -> tuple[Any, dict[str, Any] | None]:
    try:
        return work(), None
    except FoundryError as error:
        return None, {"message": error.message, "hint": error.hint}
    except OSError as error:
        where = "" if error.filename is None else f": {error.filename}"
        return None, {"message": f"{error.strerror or error}{where}", "hint": None}
