"""Canonical JSON and the digests that name things: equal values give equal bytes, on any machine."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from robot_foundry.runtime.errors import FoundryError

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(obj: Any) -> bytes:
    """UTF-8 JSON of `obj` with keys sorted by code point, no white space and no trailing newline.

    Accepts None, bool, int, float, str, list, tuple (written as a list) and dict with str keys. Anything
    else, NaN, infinities and lone surrogates raise `FoundryError` naming the place. Integers and floats
    stay distinct (1 is not 1.0), and floats are written in the shortest form that reads back the same.
    """
    _check(obj, "$")
    text = _ENCODER.encode(obj)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        _check_texts(obj, "$")
        raise


def digest_of(obj: Any) -> str:
    """32 hex digits: the first 128 bits of the SHA-256 of `canonical_json(obj)`."""
    return sha256_hex(canonical_json(obj))[:32]


def sha256_hex(data: bytes | bytearray | memoryview) -> str:
    """64 hex digits: the SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def _check(obj: Any, where: str) -> None:
    if obj is None or isinstance(obj, bool | int | str):
        return
    if isinstance(obj, float):
        if not math.isfinite(obj):
            raise FoundryError(f"canonical JSON cannot hold {obj} at {where}")
    elif isinstance(obj, list | tuple):
        for i, item in enumerate(obj):
            if type(item) is not str:  # manifests hold 100,000s of texts
                _check(item, f"{where}[{i}]")
    elif isinstance(obj, dict):
        for name, item in obj.items():
            if not isinstance(name, str):
                raise FoundryError(f"canonical JSON needs text keys, got {name!r} at {where}")
            if type(item) is not str:
                _check(item, f"{where}.{name}")
    else:
        raise FoundryError(f"canonical JSON cannot hold a {type(obj).__name__} at {where}")


def _check_texts(obj: Any, where: str) -> None:
    """Name the first text that is no Unicode."""
    if isinstance(obj, str):
        try:
            obj.encode("utf-8")
        except UnicodeEncodeError:
            raise FoundryError(
                f"canonical JSON cannot hold the lone surrogate in {obj!r} at {where}"
            ) from None
    elif isinstance(obj, list | tuple):
        for i, item in enumerate(obj):
            _check_texts(item, f"{where}[{i}]")
    elif isinstance(obj, dict):
        for name, item in obj.items():
            _check_texts(name, where)
            _check_texts(item, f"{where}.{name}")


def check_keys(obj: Any, expected: Sequence[str], where: str) -> None:
    """Refuse anything but a JSON object with exactly the keys `expected`."""
    if type(obj) is dict and obj.keys() == set(expected):
        return
    if not isinstance(obj, Mapping):
        raise FoundryError(f"{where} is not a JSON object")
    missing = sorted(set(expected) - set(obj))
    unknown = sorted(set(obj) - set(expected))
    if missing or unknown:
        parts = [f"lacks {', '.join(missing)}"] if missing else []
        parts += [f"has the unknown keys {', '.join(unknown)}"] if unknown else []
        raise FoundryError(f"{where} {' and '.join(parts)}")
