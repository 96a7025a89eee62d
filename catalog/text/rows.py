"""Documents of a version as SQL sees them: sizes, places in the source, and columns of metadata.

Legend: E documents, K blocks.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from robot_foundry.catalog.kind import Geometry
from robot_foundry.catalog.metadata.columns import (
    ALL,
    METADATA,
    METADATA_SCHEMA,
    metadata_columns,
    metadata_expressions,
)
from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.query.shown import Rows, RowTable, SqlFace
from robot_foundry.catalog.text.schema import TextSchema, schema_of
from robot_foundry.catalog.text.tables import BLOCKS, DOCUMENTS

# What every document has, in front of the metadata.
OWN = ("file", "id", "num_characters", "num_bytes")


def document_rows(opened: OpenVersion) -> Rows:
    """All documents, in the order of the geometry, and `_row`, their number there."""
    tables = [_of_shard(opened, ordinal) for ordinal in range(len(opened.manifest.shards))]
    table = pa.concat_tables(tables)
    table = table.append_column("_row", pa.array(np.arange(table.num_rows, dtype=np.int64)))
    extracted = metadata_expressions(schema_of(opened.manifest), OWN)
    return Rows(table, ", ".join([*OWN, *extracted, f"{ALL}::JSON AS {ALL}", "shard", "_row"]))


def _of_shard(opened: OpenVersion, ordinal: int) -> pa.Table:
    """The documents table of a shard with the file that each is of, and the shard."""
    documents, blocks = opened.shard_table(DOCUMENTS, ordinal), opened.table(BLOCKS)
    here_K = np.flatnonzero(blocks["shard"].to_numpy() == ordinal)
    files = blocks["file"].take(pa.array(here_K)).combine_chunks()
    column = pa.DictionaryArray.from_arrays(documents["block"].combine_chunks(), files, safe=False)
    shard = pa.array(np.full(documents.num_rows, ordinal, np.int32))
    return documents.append_column("file", column).append_column("shard", shard)


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
    return {METADATA: metadata_columns(schema, OWN)}


SQL = SqlFace(
    columns=pa.schema([]),
    listed=(),
    tables={METADATA: METADATA_SCHEMA},
    rows_of=_catalog_rows,
    in_place={DOCUMENTS: RowTable(document_rows)},
    help=(
        ("documents_NAME", "documents of dataset NAME: file, id, num_characters, num_bytes, and metadata"),
        ('"documents_NAME@v3"', "… of one version"),
    ),
    examples=("SELECT language, sum(num_bytes) FROM documents_web GROUP BY ALL",),
)
