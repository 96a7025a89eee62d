"""Tables of kinds whose shards hold blocks: of one shard from its tar, of a version from those of its shards.

A table of blocks has their `shard` and `key`, and `row_start`, the row of the first group in its shard; the
groups of a shard have `metadata`, canonical JSON or null.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from robot_foundry.catalog.metadata.types import TypeCounts, counted_types, merged_types
from robot_foundry.catalog.store import Store
from robot_foundry.ingest.kind import Shard
from robot_foundry.ingest.tables.cached_tables import TablesTask


@dataclass(frozen=True)
class BlockRows:
    """What a version needs of a shard: rows of its blocks without `shard`, and types of metadata."""

    blocks: Sequence[Mapping[str, Any]]
    types: TypeCounts

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> BlockRows:
        types = {name: Counter(counts) for name, counts in values["types"].items()}
        return BlockRows(values["blocks"], types)

    def to_json(self) -> dict[str, Any]:
        types = {name: dict(counts) for name, counts in self.types.items()}
        return {"blocks": list(self.blocks), "types": types}


def rows_of_blocks(
    keys: Iterable[str],
    schema: pa.Schema,
    groups_of: Callable[[str, int], pa.Table],
    row_of: Callable[[str, int, pa.Table], Mapping[str, Any]],
) -> tuple[pa.Table, BlockRows]:
    """The groups of all blocks of a shard, a table of this schema, and what a version needs of them.

    `groups_of` reads those of the block with a key and a number, `row_of` says the row of the block with a
    key, a `row_start` and these groups, without shard and key.
    """
    parts = [schema.empty_table()]
    blocks, types = list[dict[str, Any]](), list[TypeCounts]()
    row_start = 0
    for number, key in enumerate(keys):
        part = groups_of(key, number)
        parts.append(part)
        types.append(counted_types(map(json.loads, part["metadata"].drop_null().to_pylist())))
        blocks.append({"key": key, **row_of(key, row_start, part)})
        row_start += part.num_rows
    return pa.concat_tables(parts).combine_chunks(), BlockRows(blocks, merged_types(types))


class BlockTables:
    """The part of `ingest.kind.VersionTables` that is of blocks: a table of them, `name`, of this schema."""

    def __init__(self, name: str, schema: pa.Schema) -> None:
        self._name, self._columns = name, schema
        self._blocks: dict[int, pa.Table] = {}
        self._types: TypeCounts = {}

    def task(self, store: Store, dataset: str, shard: Shard) -> TablesTask:
        return TablesTask(store, dataset, shard.key)

    def add(self, number: int, ordinal: int, rows: Any) -> None:
        of_shard = [{"shard": ordinal, **row} for row in rows.blocks]
        self._blocks[number] = pa.Table.from_pylist(of_shard, schema=self._columns)
        self._types = merged_types([self._types, rows.types])

    def merged(self) -> dict[str, pa.Table]:
        in_order = [self._blocks[number] for number in sorted(self._blocks)]
        return {self._name: pa.concat_tables(in_order).combine_chunks()}
