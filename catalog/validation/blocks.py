"""Blocks of kinds whose shards hold them: their table against the manifest, and its rows against a tar.

Legend: K blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from robot_foundry.catalog.manifest import Manifest
from robot_foundry.catalog.validation.table_findings import Fault

Head = TypeVar("Head")


def check_order(blocks: pa.Table, manifest: Manifest, fault: Fault) -> bool:
    """Blocks are of shards that are, in their order, and none is there twice; whether the former holds."""
    shard_K = blocks["shard"].to_numpy()
    is_ordered = (np.diff(shard_K) >= 0).all() and ((shard_K >= 0) & (shard_K < len(manifest.shards))).all()
    if not is_ordered:
        fault.manifest("blocks", "blocks are not in the order of the manifest's shards")
    keys = pa.table({"shard": blocks["shard"], "key": blocks["key"]})
    if keys.group_by(["shard", "key"]).aggregate([]).num_rows < keys.num_rows:
        fault.manifest("blocks", "a block is there twice")
    return bool(is_ordered)


def check_rows_of_blocks(
    table: str,
    rows: Sequence[Mapping[str, Any]],
    blocks: Sequence[tuple[Head, pa.Table] | None],
    row_of: Callable[[Head, int, pa.Table], Mapping[str, Any]],
    count: str,
    fault: Fault,
) -> None:
    """The rows of a shard in the table of blocks against its tar, up to the first block that cannot be read.

    `blocks` has of each its head and its groups, None where it cannot be read; `row_of` says the row of one
    from these and the row of its first group in the shard, without shard and key. Its column `count` says how
    many groups it has.
    """
    if len(rows) != len(blocks):
        fault.table(table, f"has {len(rows):,} blocks of a shard that has {len(blocks):,}")
        return
    row_start = 0
    for row, block in zip(rows, blocks, strict=True):
        if block is None:
            return
        head, groups = block
        of_tar = row_of(head, row_start, groups)
        unlike = [name for name, value in of_tar.items() if row[name] != value]
        if unlike:
            fault.table(table, f"says of block {row['key']} another {unlike[0]} than its tar")
        row_start += of_tar[count]
