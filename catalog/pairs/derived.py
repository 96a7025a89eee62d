"""The rows of pairs and blocks that follow from a tar, without its pictures; and pairs from rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from robot_foundry.catalog.pairs.tables import PAIRS_SCHEMA
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.shards.pairs.pair import Pair, Picture, Turn
from robot_foundry.shards.pairs.shard import SUMS, BlockHead, StoredPair, pair_key, read_pairs
from robot_foundry.shards.reader import ShardReader


def block_pairs(shard: ShardReader, key: str, number: int) -> pa.Table:
    """A row for each pair of the block, which is the `number`th of its shard.

    CorruptData where one is damaged.
    """
    return pairs_table(read_pairs(shard, key), key, number)


def pairs_table(pairs: Iterable[StoredPair], key: str, number: int) -> pa.Table:
    """A row for each of the pairs of a block."""
    rows = [
        {"block": number, "key": pair_key(key, index), **pair_row(stored)}
        for index, stored in enumerate(pairs)
    ]
    return pa.Table.from_pylist(rows, schema=PAIRS_SCHEMA)


def pair_row(stored: StoredPair) -> dict[str, Any]:
    """The row of a pair, without its block and key."""
    pair = stored.pair
    return {
        "id": pair.id,
        "image_member": [picture.member for picture in pair.pictures],
        "image_tar": [picture.tar for picture in pair.pictures],
        "width": [picture.width for picture in pair.pictures],
        "height": [picture.height for picture in pair.pictures],
        "encoding": [picture.encoding for picture in pair.pictures],
        "image_bytes": [picture.num_bytes for picture in pair.pictures],
        "captions": stored.captions_json.decode() if pair.captions else None,
        "turns": stored.turns_json.decode() if pair.turns else None,
        "metadata": canonical_json(dict(pair.metadata)).decode() if pair.metadata else None,
        "num_characters": stored.num_characters,
        "content_hash": stored.content_hash,
        "split_hash": stored.split_hash,
    }


def block_row(head: BlockHead, row_start: int) -> dict[str, Any]:
    """The row of a block, without its shard and key."""
    return {
        **{name: getattr(head, name) for name in SUMS},
        "file": head.origin.file,
        "row_start": row_start,
    }


def pair_of(row: Mapping[str, Any]) -> Pair:
    """The pair of a row of the table, as `Table.to_pylist` gives rows."""
    pictures = zip(
        *(row[name] for name in ("image_member", "encoding", "height", "width", "image_bytes", "image_tar")),
        strict=True,
    )
    return Pair(
        row["id"],
        tuple(Picture(*picture) for picture in pictures),
        captions_of(row["captions"]),
        turns_of(row["turns"]),
        {} if row["metadata"] is None else json.loads(row["metadata"]),
    )


def captions_of(cell: str | None) -> dict[str, str]:
    """The captions in a cell of the table, by name."""
    return {} if cell is None else json.loads(cell)


def turns_of(cell: str | None) -> tuple[Turn, ...]:
    """The turns in a cell of the table."""
    return () if cell is None else tuple(Turn(role, text) for role, text in json.loads(cell))
