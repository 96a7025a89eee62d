"""The tables of one shard of pairs, from its tar alone; no picture is read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from robot_foundry.catalog.metadata.types import TypeCounts, counted_types, merged_types
from robot_foundry.catalog.pairs.derived import block_pairs, block_row
from robot_foundry.catalog.pairs.measured import Measured
from robot_foundry.catalog.pairs.tables import PAIRS, PAIRS_SCHEMA
from robot_foundry.ingest.kind import MadeTables
from robot_foundry.ingest.tables.cached_tables import TablesTask, cached_table
from robot_foundry.shards.pairs.shard import block_keys, read_head
from robot_foundry.shards.reader import ShardReader

TABLES_VERSION = 1


@dataclass(frozen=True)
class ShardRows:
    """What a version needs of a shard: rows of `blocks`, types of metadata, and what pairs measure."""

    blocks: Sequence[Mapping[str, Any]]
    types: TypeCounts
    measured: Measured


def shard_tables(task: TablesTask) -> MadeTables:
    """The pairs of the shard, computed if they are not cached, and its `ShardRows`."""
    table, rows = cached_table(task, f"pairs-{TABLES_VERSION}", _compute)
    return MadeTables({PAIRS: table}, {}, _from_json(rows))


def _compute(shard: ShardReader) -> tuple[pa.Table, dict[str, Any]]:
    parts = [PAIRS_SCHEMA.empty_table()]
    blocks, types = list[dict[str, Any]](), list[TypeCounts]()
    row_start = 0
    for number, key in enumerate(block_keys(shard)):
        part = block_pairs(shard, key, number)
        parts.append(part)
        types.append(counted_types(map(json.loads, part["metadata"].drop_null().to_pylist())))
        blocks.append({"key": key, **block_row(read_head(shard, key), row_start)})
        row_start += part.num_rows
    table = pa.concat_tables(parts).combine_chunks()
    return table, _to_json(ShardRows(blocks, merged_types(types), Measured.of(table)))


def _to_json(rows: ShardRows) -> dict[str, Any]:
    return {
        "blocks": list(rows.blocks),
        "types": {name: dict(types) for name, types in rows.types.items()},
        "measured": rows.measured.to_json(),
    }


def _from_json(values: Mapping[str, Any]) -> ShardRows:
    types = {name: Counter(counts) for name, counts in values["types"].items()}
    return ShardRows(values["blocks"], types, Measured.from_json(values["measured"]))
