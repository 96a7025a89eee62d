"""What SQL and `show` tell of tokens."""

from __future__ import annotations

import pyarrow as pa

from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.query.shown import Description, Row, SqlFace
from robot_foundry.catalog.tokens.schema import Schema, schema_of


def rows_of(schema: Schema) -> dict[str, list[Row]]:
    return {"versions": [{"tokenizer": schema.tokenizer, "vocabulary": schema.size}]}


SQL = SqlFace(
    columns=pa.schema([("tokenizer", pa.string()), ("vocabulary", pa.int64())]),
    listed=("tokenizer",),
    tables={},
    rows_of=rows_of,
    in_place={},
)


def describe(opened: OpenVersion) -> Description:
    schema = schema_of(opened.manifest)
    return Description(
        facts={"tokenizer": schema.tokenizer, "vocabulary": schema.size},
        tail=[("tokenizer", f"{schema.tokenizer}, {schema.size:,} tokens")],
    )
