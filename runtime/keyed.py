"""Keyed randomness: every random choice is a pure function of what it is for, never of what ran before.

A *key* is a 64-bit integer derived from typed parts, such as `key("noise", seed, k)`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from operator import index as as_integer
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLY_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = np.uint64(0x94D049BB133111EB)
_MASK_64 = (1 << 64) - 1


def key(*parts: int | str) -> int:
    """A 64-bit key of the parts: BLAKE2b over type, length and value, so 1 differs from "1"."""
    state = hashlib.blake2b(digest_size=8)
    for part in parts:
        state.update(_encoded(part))
    return int.from_bytes(state.digest(), "little")


def generator(*parts: int | str) -> np.random.Generator:
    """A NumPy generator (Philox) that depends on the parts alone."""
    return np.random.Generator(np.random.Philox(key=key(*parts)))


def generators(parts: Sequence[int | str], last: Iterable[int]) -> Iterator[np.random.Generator]:
    """`generator(*parts, i)` for each i of `last`: the same numbers in a fraction of the time.

    They are one object that is set anew for each i, so draw from one before the next is asked for.
    """
    prefix = hashlib.blake2b(b"".join(map(_encoded, parts)), digest_size=8)
    philox = np.random.Philox(key=0)
    random = np.random.Generator(philox)
    fresh: Any = philox.state
    for i in last:
        state = prefix.copy()
        state.update(_encoded(int(i)))
        fresh["state"]["key"][0] = int.from_bytes(state.digest(), "little")
        philox.state = fresh
        yield random


def mix64(x: NDArray[np.uint64], key: int) -> NDArray[np.uint64]:
    """A keyed bijection on 64-bit integers, elementwise; same shape as `x`.

    Two rounds of the SplitMix64 finaliser (Steele, Lea and Flood 2014) with the key between them.
    """
    keyed = _finalise(np.asarray(x, dtype=np.uint64)) ^ np.uint64(key & _MASK_64)
    return _finalise(keyed)


def uniform(key: int, index: NDArray[np.integer]) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) with 53 random bits, one for each integer of `index` (same shape)."""
    bits = mix64(np.asarray(index).astype(np.uint64), key)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _encoded(part: int | str) -> bytes:
    if isinstance(part, str):
        tag, value = b"s", part.encode("utf-8")
    else:
        tag, value = b"i", str(as_integer(part)).encode("ascii")
    return tag + len(value).to_bytes(8, "little") + value


def _finalise(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        z = z + _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _MULTIPLY_1
        z = (z ^ (z >> np.uint64(27))) * _MULTIPLY_2
    return z ^ (z >> np.uint64(31))
