"""The tables of lines: `documents` of a version, `lines` of each shard.

documents  `shard` in the manifest, `row_start` in its table of lines, `num_lines`, `key` of its members,
           `id` and `source` as the source has them, `split_hash` of its content
lines      `document` in the shard, `line` in the document, `text` without the line's end
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from robot_foundry.catalog.manifest import Manifest
from robot_foundry.runtime.canonical import check_keys

DOCUMENTS_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("row_start", pa.int64(), nullable=False),
        pa.field("num_lines", pa.int32(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("split_hash", pa.uint64(), nullable=False),
    ]
)
LINES_SCHEMA = pa.schema(
    [
        pa.field("document", pa.int32(), nullable=False),
        pa.field("line", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Schema:
    """What the columns mean: texts are in this encoding."""

    encoding: str = "utf-8"

    def to_json(self) -> dict[str, Any]:
        return {"encoding": self.encoding}

    @classmethod
    def from_json(cls, obj: Mapping[str, Any], where: str) -> Schema:
        check_keys(obj, ("encoding",), where)
        return cls(obj["encoding"])


def encoding_of(manifest: Manifest) -> str:
    """That of the texts of a version of lines."""
    assert isinstance(manifest.schema, Schema)
    return manifest.schema.encoding
