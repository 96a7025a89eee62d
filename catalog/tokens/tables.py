"""The tables of a version of tokens.

blocks             one row a block, in the order of shards and of the blocks in them
documents/<shard>  one row a document, in the order in which their tokens follow
pages/<shard>      one row a page (`shards.tokens.pages`) of the tokens, those of a block behind those before
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

BLOCKS_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),  # ordinal of the shard in the manifest
        ("key", pa.string()),
        ("row_start", pa.int64()),  # first token in the shard
        ("num_tokens", pa.int64()),
        ("num_documents", pa.int64()),
        ("band", pa.int8()),  # of the hashes of its documents, a number of `shards.tokens.blocks.BANDS`
        ("hash_max", pa.uint64()),  # the greatest of them
    ]
)
DOCUMENTS_SCHEMA = pa.schema(
    [
        ("block", pa.int32()),  # ordinal of the block in the shard
        ("start", pa.int64()),  # first token in the shard
        ("num_tokens", pa.int64()),  # with the one that ends it
        ("num_bytes", pa.int64()),  # of its text
        ("split_hash", pa.uint64()),  # of its text
        ("document", pa.int64()),  # its row in the documents of the shard of text that it comes from
    ]
)
PAGES_SCHEMA = pa.schema([("crc32c", pa.uint32())])


def counts(blocks: pa.Table) -> tuple[int, int]:
    """Documents and tokens of the blocks."""
    documents, tokens = (pc.sum(blocks[name]).as_py() or 0 for name in ("num_documents", "num_tokens"))
    return documents, tokens
