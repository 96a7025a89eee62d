"""What SQL and `show` tell of lines."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from foundry_testing.lines.catalog.tables import Schema, encoding_of
from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.shown import Description, Row, RowTable, SqlFace


def documents(opened: OpenVersion) -> pa.Table:
    """The documents of a version, behind the dataset's name."""
    table = opened.table("documents")
    return table.add_column(0, "dataset", pa.repeat(opened.version.dataset, table.num_rows))


def all_documents(versions: Sequence[OpenVersion]) -> pa.Table:
    return pa.concat_tables([documents(opened) for opened in versions])


def lines(opened: OpenVersion) -> pa.Table:
    """All lines of a version."""
    shards = range(len(opened.manifest.shards))
    return pa.concat_tables([opened.shard_table("lines", ordinal) for ordinal in shards])


def rows_of(schema: Schema) -> dict[str, list[Row]]:
    return {"versions": [{"encoding": schema.encoding}], "encodings": [{"name": schema.encoding, "bits": 8}]}


SQL = SqlFace(
    columns=pa.schema([("encoding", pa.string())]),
    listed=("encoding",),
    tables={"encodings": pa.schema([("name", pa.string()), ("bits", pa.int64())])},
    rows_of=rows_of,
    in_place={"documents": RowTable(documents, all_documents), "lines": RowTable(lines)},
    help=(("documents", "of the newest version of every dataset of lines"),),
    examples=("SELECT max(num_lines) FROM documents",),
)


def describe(opened: OpenVersion) -> Description:
    """Lengths of documents, their sources in a table."""
    table = opened.table("documents")
    lengths = sorted(table["num_lines"].to_pylist())
    facts = {"lines_min": lengths[0], "lines_max": lengths[-1]}
    return Description(
        facts={"documents": facts},
        head=[("documents", f"{len(lengths)} of {lengths[0]} to {lengths[-1]} lines")],
        tail=[("encoding", encoding_of(opened.manifest))],
        headers=("document", "lines"),
        rows=list(zip(table["source"].to_pylist(), table["num_lines"].to_pylist(), strict=True)),
        without_line=("blank",),
    )
