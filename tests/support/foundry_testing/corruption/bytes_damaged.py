"""Damage to the bytes of a file, whatever they mean."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def cut(path: Path, rng: random.Random, least: int = 1) -> None:
    """Keep `least` bytes or more, and lose one or more."""
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(least, len(data))])


def flip(path: Path, rng: random.Random, spans: Sequence[tuple[int, int]] = ()) -> int:
    """Flip one bit in one of the spans [start, end), or anywhere; tells in which byte."""
    data = bytearray(path.read_bytes())
    spans = [span for span in spans if span[0] < span[1]] or [(0, len(data))]
    start, end = rng.choices(spans, [end - start for start, end in spans])[0]
    at = rng.randrange(start, end)
    data[at] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return at


def poke(path: Path, at: int, put: bytes) -> None:
    """Overwrite bytes at a place, which a negative number counts from the end."""
    data = bytearray(path.read_bytes())
    at = at if at >= 0 else len(data) + at
    data[at : at + len(put)] = put
    path.write_bytes(data)


def around(spans: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """What lies between the spans of a file of this size."""
    gaps, place = [], 0
    for start, end in sorted(spans):
        if place < start:
            gaps.append((place, start))
        place = max(place, end)
    return [*gaps, (place, size)] if place < size else gaps


def within(path: Path, part: bytes) -> tuple[int, int]:
    """Where these bytes lie in the file."""
    start = path.read_bytes().index(part)
    return start, start + len(part)
