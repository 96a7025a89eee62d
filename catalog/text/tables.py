"""The canonical tables of a version of text: `blocks` of all shards, `documents` of each.

documents  a row a document, in the order of the shard: `block` numbers its block in the shard, `start` is
           its first byte in the block's text; `num_bytes` and `num_characters` are its sizes, `id` is its
           place in the source; `split_hash` is of its text; `metadata` is canonical JSON, null for none
blocks     a row a block, in the order of shards: `shard` by its ordinal, `key` of its members, the `file` of
           the source, `row_start` is the row of its first document; sizes of its text in all, `num_replaced`
           characters U+FFFD, and `longest`, the characters of its longest document

There may be so many documents that nothing has a row for each in one table.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

BLOCKS, DOCUMENTS = "blocks", "documents"
DOCUMENTS_SCHEMA = pa.schema(
    [
        ("block", pa.int32()),
        ("start", pa.int64()),
        ("num_bytes", pa.int64()),
        ("num_characters", pa.int64()),
        ("id", pa.string()),
        ("split_hash", pa.uint64()),
        ("metadata", pa.string()),
    ]
)
BLOCKS_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("key", pa.string()),
        ("file", pa.string()),
        ("row_start", pa.int64()),
        ("num_documents", pa.int64()),
        ("num_characters", pa.int64()),
        ("num_bytes", pa.int64()),
        ("num_replaced", pa.int64()),
        ("longest", pa.int64()),
    ]
)
COLUMNS = {BLOCKS: BLOCKS_SCHEMA, DOCUMENTS: DOCUMENTS_SCHEMA}


def counts(blocks: pa.Table) -> tuple[int, int]:
    """Documents and characters of the blocks."""
    documents, characters = (
        pc.sum(blocks[name]).as_py() or 0 for name in ("num_documents", "num_characters")
    )
    return documents, characters
