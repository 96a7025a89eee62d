"""Columns of metadata as SQL sees them, taken from its JSON when a query asks for them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from robot_foundry.catalog.metadata.types import BOOLEAN, INTEGER, JSON, NUMBER, STRING, MetadataSchema

# The column with all metadata, as JSON.
ALL = "metadata"
# The table of the catalogue that lists the columns, and its own.
METADATA = "metadata_columns"
METADATA_SCHEMA = pa.schema([("name", pa.string()), ("column", pa.string()), ("type", pa.string())])
_SQL_TYPES = {STRING: "VARCHAR", INTEGER: "BIGINT", NUMBER: "DOUBLE", BOOLEAN: "BOOLEAN"}
_TAKEN = (ALL, "shard", "_row")


def column_names(schema: MetadataSchema, own: Sequence[str]) -> dict[str, str]:
    """The column of each name of metadata.

    `metadata_` is before one that is taken, whatever its case; `own` are columns that samples have anyway.
    """
    taken = {name.casefold() for name in (*own, *_TAKEN)}
    columns = {}
    for name in schema.metadata:
        column = name
        while not column or column.casefold() in taken:
            column = f"metadata_{column}"
        taken.add(column.casefold())
        columns[name] = column
    return columns


def metadata_columns(schema: MetadataSchema, own: Sequence[str]) -> list[dict[str, str]]:
    """Of each name of metadata its column and type."""
    columns = column_names(schema, own)
    return [{"name": name, "column": columns[name], "type": kind} for name, kind in schema.metadata.items()]


def metadata_expressions(schema: MetadataSchema, own: Sequence[str]) -> list[str]:
    """The columns of metadata as SQL over the column `metadata`."""
    columns = column_names(schema, own)
    return [f"{_extracted(name, kind)} AS {_quoted(columns[name])}" for name, kind in schema.metadata.items()]


def _extracted(name: str, kind: str) -> str:
    """The value of that name in the JSON, by its JSON pointer, in which any name can be written."""
    pointer = "/" + name.replace("~", "~0").replace("/", "~1")
    literal = "'" + pointer.replace("'", "''") + "'"
    if kind == JSON:
        return f"nullif({ALL} -> {literal}, 'null'::JSON)"
    return f"CAST({ALL} ->> {literal} AS {_SQL_TYPES[kind]})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
