"""The tables of one shard of pairs, from its tar alone; no picture is read.

Results go to the store's cache, so that a version with the same shard need not make them again.
"""

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
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import table_digest, write_table
from robot_foundry.catalog.tars import open_tar
from robot_foundry.ingest.kind import CachedTable, MadeTables
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.storage.cache import keep, kept
from robot_foundry.shards.pairs.shard import block_keys, read_head
from robot_foundry.shards.reader import ShardReader

TABLES_VERSION = 1


@dataclass(frozen=True)
class TablesTask:
    """A shard of which the tables are wanted."""

    store: Store
    dataset: str
    shard_key: str

    @property
    def path(self) -> str:
        """Where they lie in the cache, without a suffix."""
        return f"cache/tables/pairs-{TABLES_VERSION}/{self.shard_key}"


@dataclass(frozen=True)
class ShardRows:
    """What a version needs of a shard.

    `blocks` are rows of the table, `types` those of the metadata.
    """

    blocks: Sequence[Mapping[str, Any]]
    types: TypeCounts
    measured: Measured


def shard_tables(task: TablesTask) -> MadeTables:
    """The pairs of the shard, computed if they are not cached, and its `ShardRows`."""
    storage, table_path, rows_path = task.store.storage, f"{task.path}.arrow", f"{task.path}.json"
    cached = kept(storage, rows_path)
    if cached is None or kept(storage, table_path) is None:
        table, rows = _compute(open_tar(task.store, task.dataset, task.shard_key))
        keep(storage, table_path, write_table(table))
        cached = canonical_json({"digest": table_digest(table), **_to_json(rows)})
        keep(storage, rows_path, cached)
    values = json.loads(cached)
    return MadeTables({PAIRS: CachedTable(values["digest"], table_path)}, {}, _from_json(values))


def _compute(shard: ShardReader) -> tuple[pa.Table, ShardRows]:
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
    return table, ShardRows(blocks, merged_types(types), Measured.of(table))


def _to_json(rows: ShardRows) -> dict[str, Any]:
    return {
        "blocks": list(rows.blocks),
        "types": {name: dict(types) for name, types in rows.types.items()},
        "measured": rows.measured.to_json(),
    }


def _from_json(values: Mapping[str, Any]) -> ShardRows:
    types = {name: Counter(counts) for name, counts in values["types"].items()}
    return ShardRows(values["blocks"], types, Measured.from_json(values["measured"]))
