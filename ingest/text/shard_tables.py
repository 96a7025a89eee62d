"""The tables of one shard of text, from its tar alone; the text itself is not read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from robot_foundry.catalog.metadata.types import TypeCounts, counted_types, merged_types
from robot_foundry.catalog.text.documents import block_documents, block_row
from robot_foundry.catalog.text.tables import DOCUMENTS, DOCUMENTS_SCHEMA
from robot_foundry.ingest.kind import MadeTables
from robot_foundry.ingest.tables.cached_tables import TablesTask, cached_table
from robot_foundry.normalization.digest import Digest
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.text.blocks import block_keys, read_head

TABLES_VERSION = 1


@dataclass(frozen=True)
class ShardRows:
    """What a version needs of a shard: rows of `blocks`, types of metadata, characters of documents."""

    blocks: Sequence[Mapping[str, Any]]
    types: TypeCounts
    lengths: Digest


def shard_tables(task: TablesTask) -> MadeTables:
    """The documents of the shard, computed if they are not cached, and its `ShardRows`."""
    table, rows = cached_table(task, f"text-{TABLES_VERSION}", _compute)
    return MadeTables({DOCUMENTS: table}, {}, _from_json(rows))


def _compute(shard: ShardReader) -> tuple[pa.Table, dict[str, Any]]:
    parts = [DOCUMENTS_SCHEMA.empty_table()]
    blocks, types = list[dict[str, Any]](), list[TypeCounts]()
    row_start = 0
    for number, key in enumerate(block_keys(shard)):
        part = block_documents(shard, key, number)
        parts.append(part)
        types.append(counted_types(map(json.loads, part["metadata"].drop_null().to_pylist())))
        blocks.append({"key": key, **block_row(read_head(shard, key), row_start, part)})
        row_start += part.num_rows
    table = pa.concat_tables(parts).combine_chunks()
    return table, _to_json(
        ShardRows(blocks, merged_types(types), Digest.of(table["num_characters"].to_numpy()))
    )


def _to_json(rows: ShardRows) -> dict[str, Any]:
    return {
        "blocks": list(rows.blocks),
        "types": {name: dict(types) for name, types in rows.types.items()},
        "lengths": rows.lengths.to_bytes().hex(),
    }


def _from_json(values: Mapping[str, Any]) -> ShardRows:
    types = {name: Counter(counts) for name, counts in values["types"].items()}
    return ShardRows(values["blocks"], types, Digest.from_bytes(bytes.fromhex(values["lengths"])))
