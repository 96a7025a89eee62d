"""A document from JSON: an object with the text under a key, and metadata under others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from robot_foundry.ingest.sources.formats.json_values import (
    UnusableJson,
    json_object,
    plain,
    type_of,
    unicode_text,
)
from robot_foundry.ingest.sources.unusable import Unusable
from robot_foundry.ingest.text.spec import TextContent
from robot_foundry.runtime.errors import nearest
from robot_foundry.shards.text.blocks import Document


def too_long(content: TextContent) -> str:
    """The reason to leave out a document that is larger than the spec allows."""
    return f"it has more than {content.max_document_bytes} bytes, which content.max_document_bytes allows"


def document_of_json(data: bytes, place: str, content: TextContent) -> Document | Unusable | None:
    """The document of a line, or of a file that is one JSON object; None for a blank one."""
    if not data.strip():
        return None
    try:
        return document_of(json_object(data), place, content)
    except UnusableJson as error:
        return Unusable(place, str(error))


def metadata_of_json(data: bytes, place: str, content: TextContent) -> dict[str, Any] | Unusable:
    """What a file that is one JSON object tells of a text that is not in it."""
    try:
        values = json_object(data)
        return _metadata(values, values if content.metadata is None else content.metadata)
    except UnusableJson as error:
        return Unusable(place, str(error))


def document_of(values: Mapping[str, Any], place: str, content: TextContent) -> Document | Unusable:
    """The document of a JSON object, or of a row of a table."""
    try:
        text, names = _text(values, content.key), content.metadata
        if names is None:
            names = tuple(name for name in values if name != content.key)
        return Document(place, text, _metadata(values, names))
    except UnusableJson as error:
        return Unusable(place, str(error))


def _metadata(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The values that are there, as canonical JSON can hold them: NaN and infinities are texts."""
    return {unicode_text(name, name): plain(values[name], name) for name in names if name in values}


def _text(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        raise UnusableJson(f"it has no '{key}'{_near(key, tuple(values))}")
    text = values[key]
    if text is None:
        raise UnusableJson(f"its '{key}' is null")
    if not isinstance(text, str):
        raise UnusableJson(f"its '{key}' is {type_of(text)}, expected text")
    if not text:
        raise UnusableJson(f"its '{key}' is empty")
    return unicode_text(text, key)


@lru_cache(maxsize=256)
def _near(key: str, names: tuple[str, ...]) -> str:
    return nearest(key, names)
