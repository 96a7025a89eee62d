"""The tables of one shard of pairs, from its tar alone; no picture is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from robot_foundry.catalog.pairs.derived import block_pairs, block_row
from robot_foundry.catalog.pairs.measured import Measured
from robot_foundry.catalog.pairs.tables import PAIRS, PAIRS_SCHEMA
from robot_foundry.ingest.kind import MadeTables
from robot_foundry.ingest.tables.block_tables import BlockRows, rows_of_blocks
from robot_foundry.ingest.tables.cached_tables import TablesTask, cached_table
from robot_foundry.shards.pairs.shard import block_keys, read_head
from robot_foundry.shards.reader import ShardReader

TABLES_VERSION = 1


@dataclass(frozen=True)
class ShardRows(BlockRows):
    """And what pairs measure."""

    measured: Measured


def shard_tables(task: TablesTask) -> MadeTables:
    """The pairs of the shard, computed if they are not cached, and its `ShardRows`."""
    table, values = cached_table(task, f"pairs-{TABLES_VERSION}", _compute)
    rows = BlockRows.from_json(values)
    measured = Measured.from_json(values["measured"])
    return MadeTables({PAIRS: table}, {}, ShardRows(rows.blocks, rows.types, measured))


def _compute(shard: ShardReader) -> tuple[pa.Table, dict[str, Any]]:
    table, rows = rows_of_blocks(
        block_keys(shard),
        PAIRS_SCHEMA,
        lambda key, number: block_pairs(shard, key, number),
        lambda key, row_start, _: block_row(read_head(shard, key), row_start),
    )
    return table, {**rows.to_json(), "measured": Measured.of(table).to_json()}
