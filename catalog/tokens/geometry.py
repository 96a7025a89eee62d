"""Where documents lie in a version of tokens: one by one, or by blocks where a split decides alike of all.

Legend: E entries, documents or blocks of them.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from robot_foundry.catalog.kind import Geometry
from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.selection import SelectionSpec, is_below
from robot_foundry.catalog.tokens.tables import DOCUMENTS_SCHEMA
from robot_foundry.shards.tokens.blocks import BANDS


def geometry_of(opened: OpenVersion, spec: SelectionSpec | None) -> Geometry:
    """Of a billion documents there may be a million blocks: they are taken wherever they decide alike."""
    if spec is None or not _is_by_band(spec):
        return by_documents(opened)
    blocks = by_blocks(opened)
    # Where all are held out a single document is not, whatever its block.
    if spec.split != "all" and is_below(spec.fraction, blocks.hash_E).all():
        return by_documents(opened)
    return blocks


def by_blocks(opened: OpenVersion) -> Geometry:
    """The blocks, each with the greatest hash of its documents."""
    blocks = opened.table("blocks")
    names = ("shard", "row_start", "num_tokens", "hash_max", "num_documents")
    return Geometry(*(blocks[name].to_numpy() for name in names))


def by_documents(opened: OpenVersion) -> Geometry:
    """The documents, in the order in which their tokens follow."""
    shards = range(len(opened.manifest.shards))
    names = ["start", "num_tokens", "split_hash"]
    tables = [opened.shard_table("documents", ordinal).select(names) for ordinal in shards]
    counts = [table.num_rows for table in tables]
    empty = DOCUMENTS_SCHEMA.empty_table().select(names)
    documents = pa.concat_tables([empty, *tables])
    shard_E = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return Geometry(shard_E, *(documents[name].to_numpy() for name in names))


def _is_by_band(spec: SelectionSpec) -> bool:
    """Whether all documents of a band are on one side."""
    if spec.where is not None or spec.skip:
        return False
    return spec.split == "all" or (spec.split_by == "episode" and spec.fraction in (0, *BANDS))
