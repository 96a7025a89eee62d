"""A document from JSON: an object with the text under a key, and metadata under others."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from robot_foundry.ingest.sources.text.unusable import Unusable
from robot_foundry.ingest.text.spec import TextContent
from robot_foundry.runtime.errors import nearest
from robot_foundry.shards.text.blocks import Document

BOM = b"\xef\xbb\xbf"
DEEPEST = 64
TOO_DEEP = f"it is nested deeper than {DEEPEST} levels"
_TYPES = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}
_SHOWN = 40


class _Unusable(Exception):
    """The message is the reason."""


def too_long(content: TextContent) -> str:
    """The reason to leave out a document that is larger than the spec allows."""
    return f"it has more than {content.max_document_bytes} bytes, which content.max_document_bytes allows"


def document_of_json(data: bytes, place: str, content: TextContent) -> Document | Unusable | None:
    """The document of a line, or of a file that is one JSON object; None for a blank one."""
    if not data.strip():
        return None
    try:
        return document_of(parsed(data), place, content)
    except _Unusable as error:
        return Unusable(place, str(error))


def document_of(values: Mapping[str, Any], place: str, content: TextContent) -> Document | Unusable:
    """The document of a JSON object, or of a row of a table."""
    try:
        text = _text(values, content.key)
        return Document(place, text, metadata_of(values, content))
    except _Unusable as error:
        return Unusable(place, str(error))


def parsed(data: bytes) -> dict[str, Any]:
    """The JSON object in UTF-8."""
    try:
        values = _DECODER.decode(data.removeprefix(BOM).decode())
    except UnicodeDecodeError as error:
        raise _Unusable("it is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise _Unusable(f"it is not JSON: {error.msg}") from error
    except RecursionError as error:
        raise _Unusable(TOO_DEEP) from error
    except ValueError as error:  # as Python says of integers that it takes too long to read
        raise _Unusable("it holds a number of too many digits") from error
    if not isinstance(values, dict):
        raise _Unusable(f"it is {_type(values)}, expected an object")
    _check_depth(values, DEEPEST)
    return values


def metadata_of(values: Mapping[str, Any], content: TextContent) -> dict[str, Any]:
    """What is kept beside the text, as canonical JSON can hold it: NaN and infinities are texts."""
    names = [name for name in values if name != content.key] if content.metadata is None else content.metadata
    return {_unicode(name, name): _plain(values[name], name) for name in names if name in values}


def _text(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        raise _Unusable(f"it has no '{key}'{_near(key, tuple(values))}")
    text = values[key]
    if text is None:
        raise _Unusable(f"its '{key}' is null")
    if not isinstance(text, str):
        raise _Unusable(f"its '{key}' is {_type(text)}, expected text")
    if not text:
        raise _Unusable(f"its '{key}' is empty")
    return _unicode(text, key)


@lru_cache(maxsize=256)
def _near(key: str, names: tuple[str, ...]) -> str:
    return nearest(key, names)


def _unicode(text: str, name: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _Unusable(f"its {name[:_SHOWN]!r} holds a lone surrogate") from error
    return text


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, str):
        return _unicode(value, name)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {_unicode(inner, name): _plain(item, name) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, name) for item in value]
    return value


def _check_depth(value: Any, levels: int) -> None:
    """Found at the same depth in every process, unlike a RecursionError."""
    if levels == 0:
        raise _Unusable(TOO_DEEP)
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            _check_depth(item, levels - 1)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Unusable(f"it has the key {twice[:_SHOWN]!r} twice")
    return values


def _type(value: Any) -> str:
    return "null" if value is None else _TYPES.get(type(value), "a text")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=float)
