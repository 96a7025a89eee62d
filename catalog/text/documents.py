"""The rows of documents and blocks that follow from a tar, without its text.

Legend: D documents of a block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from robot_foundry.catalog.text.tables import DOCUMENTS_SCHEMA
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.shards.errors import CorruptData
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.text.blocks import BlockHead, read_docs, read_meta


def block_documents(shard: ShardReader, key: str, number: int) -> pa.Table:
    """A row for each document of the block, which is the `number`th of its shard.

    CorruptData where members of the block do not tell of the same documents.
    """
    docs_D3, meta = read_docs(shard, key), read_meta(shard, key)
    if len(docs_D3) != len(meta):
        raise CorruptData(f"{key} of {shard.where} has {len(docs_D3):,} ends and {len(meta):,} documents")
    end_D = docs_D3[:, 0].astype(np.int64)
    size_D = np.diff(end_D, prepend=0)
    metadata = (entry["metadata"] for entry in meta)
    columns = {
        "block": np.full(len(end_D), number, np.int32),
        "start": end_D - size_D,
        "num_bytes": size_D,
        "num_characters": docs_D3[:, 1].astype(np.int64),
        "id": [entry["id"] for entry in meta],
        "split_hash": docs_D3[:, 2],
        "metadata": [canonical_json(values).decode() if values else None for values in metadata],
    }
    return pa.table(columns, schema=DOCUMENTS_SCHEMA)


def block_row(head: BlockHead, row_start: int, documents: pa.Table) -> dict[str, Any]:
    """The row of a block of these documents, without its shard and key."""
    names = ("num_documents", "num_characters", "num_bytes", "num_replaced")
    return {
        **{name: getattr(head, name) for name in names},
        "file": head.origin.file,
        "row_start": row_start,
        "longest": pc.max(documents["num_characters"]).as_py() or 0,
    }
