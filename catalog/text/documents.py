"""The rows of documents that follow from a block in a tar, without its text.

Legend: D documents of a block.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from robot_foundry.catalog.text.tables import DOCUMENTS_SCHEMA
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.shards.errors import CorruptData
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.text.blocks import read_docs, read_meta


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
