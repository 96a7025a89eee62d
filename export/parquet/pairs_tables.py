"""The columns of image-text pairs in parquet, as Hugging Face has them and `ingest pairs` reads them back.

    id, file        where the pair stands in its source
    image           {bytes, path}; `images`, a list of these, where any pair has several
    <caption>       a text for each name of a caption
    messages        [{role, content}] of a conversation, <image> standing for a picture
    <metadata>      a column for each name; `metadata.<name>` where the name is one of these

Null where a pair has none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from robot_foundry.catalog.metadata.types import JSON
from robot_foundry.export.parquet.files import IMAGE, METADATA_TYPES
from robot_foundry.shards.pairs.pair import Pair

IMAGE_COLUMN, IMAGES_COLUMN, MESSAGES = "image", "images", "messages"
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


@dataclass(frozen=True)
class PairColumns:
    """What pairs of a version have: names of captions, types of metadata by name, and more than that."""

    captions: tuple[str, ...]
    metadata: Mapping[str, str]
    has_turns: bool
    has_pictures: bool
    has_several: bool

    @property
    def picture_column(self) -> str | None:
        if not self.has_pictures:
            return None
        return IMAGES_COLUMN if self.has_several else IMAGE_COLUMN

    def schema(self) -> pa.Schema:
        """Of the table."""
        columns: list[tuple[str, pa.DataType]] = [("id", pa.string()), ("file", pa.string())]
        if self.picture_column is not None:
            columns.append((self.picture_column, pa.list_(IMAGE) if self.has_several else IMAGE))
        columns += [(name, pa.string()) for name in self.captions]
        if self.has_turns:
            columns.append((MESSAGES, _MESSAGES))
        columns += [(self._column_of(name), METADATA_TYPES[kind]) for name, kind in self.metadata.items()]
        return pa.schema(columns)

    def row(self, pair: Pair, file: str, pictures: Sequence[bytes]) -> dict[str, Any]:
        """A pair as a row of the table."""
        row: dict[str, Any] = {"id": pair.id, "file": file, **pair.captions}
        held = [
            {"bytes": data, "path": picture.member}
            for data, picture in zip(pictures, pair.pictures, strict=True)
        ]
        if self.picture_column is not None:
            row[self.picture_column] = held if self.has_several else (held[0] if held else None)
        if pair.turns:
            row[MESSAGES] = [{"role": turn.role, "content": turn.text} for turn in pair.turns]
        for name, kind in self.metadata.items():
            value = pair.metadata.get(name)
            as_json = kind == JSON and value is not None
            row[self._column_of(name)] = json.dumps(value, ensure_ascii=False) if as_json else value
        return row

    def _column_of(self, name: str) -> str:
        taken = {"id", "file", IMAGE_COLUMN, IMAGES_COLUMN, MESSAGES, *self.captions}
        return f"metadata.{name}" if name in taken else name
