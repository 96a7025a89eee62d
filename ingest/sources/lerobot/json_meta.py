"""JSON of a LeRobot dataset, none of which is trusted: sizes are bounded, and types are looked at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from robot_foundry.ingest.sources.base import GIT_LFS, Refused

# Statistics of each episode can make tables large; this is far beyond what a real one has.
LARGEST_META = 1 << 30
POINTER = "the file is a Git LFS pointer and not the data, which `git lfs pull` would fetch"


def whole(value: Any) -> int | None:
    """A number that counts, as writers also put into floats; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        return None
    return int(value) if value == int(value) else None


def json_object(content: bytes, name: str) -> dict[str, Any]:
    """The object in a file. Refused if it holds none."""
    if content.startswith(GIT_LFS):
        raise Refused(f"{name}: {POINTER}")
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{name} is no JSON: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(values, dict):
        raise Refused(f"{name} is no JSON object")
    return values


def json_lines(content: bytes, name: str) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Number and object of each line that is not blank; None where it is none. Refused for a pointer."""
    if content.startswith(GIT_LFS):
        raise Refused(f"{name}: {POINTER}")
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            values = None
        yield number, values if isinstance(values, dict) else None
