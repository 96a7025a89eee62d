"""Documents of a version as SQL sees them: sizes, places in the source, and columns of metadata.

Metadata is taken from its JSON when a query asks for it.

Legend: E documents, K blocks.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from robot_foundry.catalog.kind import Geometry
from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.query.shown import Rows, RowTable, SqlFace
from robot_foundry.catalog.text.schema import BOOLEAN, INTEGER, JSON, NUMBER, STRING, TextSchema, schema_of
from robot_foundry.catalog.text.tables import BLOCKS, DOCUMENTS

# What every document has, in front of the metadata; `metadata` is all of it, as JSON.
OWN = ("file", "id", "num_characters", "num_bytes")
ALL = "metadata"
# The table of the catalogue that lists these columns.
METADATA = "metadata_columns"
_SQL_TYPES = {STRING: "VARCHAR", INTEGER: "BIGINT", NUMBER: "DOUBLE", BOOLEAN: "BOOLEAN"}


def column_names(schema: TextSchema) -> dict[str, str]:
    """The column of each name of metadata; `metadata_` is before one that is taken, whatever its case."""
    taken = {name.casefold() for name in (*OWN, ALL, "shard", "_row")}
    columns = {}
    for name in schema.metadata:
        column = name
        while not column or column.casefold() in taken:
            column = f"metadata_{column}"
        taken.add(column.casefold())
        columns[name] = column
    return columns


def document_rows(opened: OpenVersion) -> Rows:
    """All documents, in the order of the geometry, and `_row`, their number there."""
    tables = [_of_shard(opened, ordinal) for ordinal in range(len(opened.manifest.shards))]
    table = pa.concat_tables(tables)
    table = table.append_column("_row", pa.array(np.arange(table.num_rows, dtype=np.int64)))
    extracted = metadata_expressions(schema_of(opened.manifest))
    return Rows(table, ", ".join([*OWN, *extracted, f"{ALL}::JSON AS {ALL}", "shard", "_row"]))


def _of_shard(opened: OpenVersion, ordinal: int) -> pa.Table:
    """The documents table of a shard with the file that each is of, and the shard."""
    documents, blocks = opened.shard_table(DOCUMENTS, ordinal), opened.table(BLOCKS)
    here_K = np.flatnonzero(blocks["shard"].to_numpy() == ordinal)
    files = blocks["file"].take(pa.array(here_K)).combine_chunks()
    column = pa.DictionaryArray.from_arrays(documents["block"].combine_chunks(), files, safe=False)
    shard = pa.array(np.full(documents.num_rows, ordinal, np.int32))
    return documents.append_column("file", column).append_column("shard", shard)


def metadata_columns(schema: TextSchema) -> list[dict[str, str]]:
    """Of each name of metadata its column and type."""
    columns = column_names(schema)
    return [{"name": name, "column": columns[name], "type": kind} for name, kind in schema.metadata.items()]


def metadata_expressions(schema: TextSchema) -> list[str]:
    """The columns of metadata as SQL over the column `metadata`."""
    columns = column_names(schema)
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


def geometry_of(opened: OpenVersion) -> Geometry:
    """Where the documents lie. Rows of a shard are the characters of its documents, one behind the other."""
    columns: dict[str, list[np.ndarray]] = {"shard": [], "start": [], "length": [], "hash": []}
    for ordinal in range(len(opened.manifest.shards)):
        documents = opened.shard_table(DOCUMENTS, ordinal)
        length_E = documents["num_characters"].to_numpy()
        columns["shard"].append(np.full(len(length_E), ordinal, np.int32))
        columns["start"].append(np.cumsum(length_E) - length_E)
        columns["length"].append(length_E)
        columns["hash"].append(documents["split_hash"].to_numpy())
    return Geometry(*(np.concatenate(column) for column in columns.values()))


def _catalog_rows(schema: TextSchema) -> dict[str, list[dict[str, str]]]:
    return {METADATA: metadata_columns(schema)}


SQL = SqlFace(
    columns=pa.schema([]),
    listed=(),
    tables={METADATA: pa.schema([("name", pa.string()), ("column", pa.string()), ("type", pa.string())])},
    rows_of=_catalog_rows,
    in_place={DOCUMENTS: RowTable(document_rows)},
    help=(
        ("documents_NAME", "documents of dataset NAME: file, id, num_characters, num_bytes, and metadata"),
        ('"documents_NAME@v3"', "… of one version"),
    ),
    examples=("SELECT language, sum(num_bytes) FROM documents_web GROUP BY ALL",),
)
