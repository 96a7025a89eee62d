"""The kind `lines` as the catalogue knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from foundry_testing.lines.catalog.tables import DOCUMENTS_SCHEMA, LINES_SCHEMA, Schema


@dataclass(frozen=True)
class LinesKind:
    """See `robot_foundry.catalog.kind.Kind`."""

    name: str = "lines"
    groups: str = "documents"
    samples: str = "lines"
    tables: tuple[str, ...] = ("documents",)
    shard_tables: tuple[str, ...] = ("lines",)
    flags: tuple[str, ...] = ()

    def read_schema(self, obj: Mapping[str, Any], where: str) -> Schema:
        return Schema.from_json(obj, where)

    def columns(self, table: str, schema: Schema) -> pa.Schema:
        return LINES_SCHEMA if table == "lines" else DOCUMENTS_SCHEMA


KIND = LinesKind()
