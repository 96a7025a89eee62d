"""The tables of one shard of text, from its tar alone; the text itself is not read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from robot_foundry.catalog.text.documents import block_documents, block_row
from robot_foundry.catalog.text.tables import DOCUMENTS, DOCUMENTS_SCHEMA
from robot_foundry.ingest.kind import MadeTables
from robot_foundry.ingest.tables.block_tables import BlockRows, rows_of_blocks
from robot_foundry.ingest.tables.cached_tables import TablesTask, cached_table
from robot_foundry.normalization.digest import Digest
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.text.blocks import block_keys, read_head

TABLES_VERSION = 1


@dataclass(frozen=True)
class ShardRows(BlockRows):
    """And the characters of documents."""

    lengths: Digest


def shard_tables(task: TablesTask) -> MadeTables:
    """The documents of the shard, computed if they are not cached, and its `ShardRows`."""
    table, values = cached_table(task, f"text-{TABLES_VERSION}", _compute)
    rows = BlockRows.from_json(values)
    lengths = Digest.from_bytes(bytes.fromhex(values["lengths"]))
    return MadeTables({DOCUMENTS: table}, {}, ShardRows(rows.blocks, rows.types, lengths))


def _compute(shard: ShardReader) -> tuple[pa.Table, dict[str, Any]]:
    table, rows = rows_of_blocks(
        block_keys(shard),
        DOCUMENTS_SCHEMA,
        lambda key, number: block_documents(shard, key, number),
        lambda key, row_start, documents: block_row(read_head(shard, key), row_start, documents),
    )
    lengths = Digest.of(table["num_characters"].to_numpy())
    return table, {**rows.to_json(), "lengths": lengths.to_bytes().hex()}
