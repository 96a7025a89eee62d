"""JSON of a source, of which nothing is trusted: each key once, and plain values that JSON can write."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

BOM = b"\xef\xbb\xbf"
DEEPEST = 64
TOO_DEEP = f"it is nested deeper than {DEEPEST} levels"
MOST_SHOWN = 40
_TYPES = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}


class UnusableJson(Exception):
    """The message is the reason, a sentence about 'it'."""


def json_object(data: bytes) -> dict[str, Any]:
    """The JSON object in UTF-8. UnusableJson if it is none."""
    values = json_value(data)
    if not isinstance(values, dict):
        raise UnusableJson(f"it is {type_of(values)}, expected an object")
    return values


def json_value(data: bytes) -> Any:
    """The JSON in UTF-8. UnusableJson if it is none."""
    try:
        values = _DECODER.decode(data.removeprefix(BOM).decode())
    except UnicodeDecodeError as error:
        raise UnusableJson("it is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise UnusableJson(f"it is not JSON: {error.msg}") from error
    except RecursionError as error:
        raise UnusableJson(TOO_DEEP) from error
    except ValueError as error:  # as Python says of integers that it takes too long to read
        raise UnusableJson("it holds a number of too many digits") from error
    if isinstance(values, dict | list):
        _check_depth(values, DEEPEST)
    return values


def unicode_text(text: str, name: str) -> str:
    """The text; UnusableJson if no UTF-8 can be made of it. `name` is its key."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UnusableJson(f"its {name[:MOST_SHOWN]!r} holds a lone surrogate") from error
    return text


def plain(value: Any, name: str) -> Any:
    """As canonical JSON can hold it: NaN and infinities are texts. UnusableJson for a lone surrogate."""
    if isinstance(value, str):
        return unicode_text(value, name)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {unicode_text(inner, name): plain(item, name) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, name) for item in value]
    return value


def type_of(value: Any) -> str:
    """What a user calls the type of a value of JSON."""
    return "null" if value is None else _TYPES.get(type(value), "a text")


def _check_depth(value: Any, levels: int) -> None:
    """Found at the same depth in every process, unlike a RecursionError."""
    if levels == 0:
        raise UnusableJson(TOO_DEEP)
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            _check_depth(item, levels - 1)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise UnusableJson(f"it has the key {twice[:MOST_SHOWN]!r} twice")
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=float)
