"""The tables of a shard of tokens, from its tar alone.

Legend: D documents of a block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.tokens.tables import BLOCKS_SCHEMA, DOCUMENTS_SCHEMA, PAGES_SCHEMA
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.tokens import blocks


def tables_of(shard: ShardReader) -> dict[str, pa.Table]:
    """`documents`, `pages` and the rows of `blocks`, by what the tar says of its blocks."""
    of_blocks: list[dict[str, Any]] = []
    documents, pages = [DOCUMENTS_SCHEMA.empty_table()], [PAGES_SCHEMA.empty_table()]
    row_start = 0
    for number, key in enumerate(blocks.block_keys(shard)):
        head, docs_D4 = blocks.read_head(shard, key), blocks.read_docs(shard, key)
        documents.append(_documents(number, row_start, docs_D4))
        pages.append(pa.table([pa.array(blocks.read_pages(shard, key))], PAGES_SCHEMA))
        of_blocks.append(
            {
                "shard": 0,
                "key": key,
                "row_start": row_start,
                "num_tokens": head.num_tokens,
                "num_documents": head.num_documents,
                "band": head.band,
                "hash_max": int(docs_D4[:, blocks.HASH].max()),
            }
        )
        row_start += head.num_tokens
    return {
        "documents": pa.concat_tables(documents).combine_chunks(),
        "pages": pa.concat_tables(pages).combine_chunks(),
        "blocks": pa.Table.from_pylist(of_blocks, schema=BLOCKS_SCHEMA),
    }


def _documents(number: int, row_start: int, docs_D4: NDArray[np.uint64]) -> pa.Table:
    end_D, bytes_D, row_D = (docs_D4[:, n].astype(np.int64) for n in (blocks.END, blocks.BYTES, blocks.ROW))
    start_D = np.concatenate([[0], end_D[:-1]])
    columns = {
        "block": np.full(len(end_D), number, np.int32),
        "start": row_start + start_D,
        "num_tokens": end_D - start_D,
        "num_bytes": bytes_D,
        "split_hash": docs_D4[:, blocks.HASH],
        "document": row_D,
    }
    return pa.table([pa.array(columns[name]) for name in DOCUMENTS_SCHEMA.names], DOCUMENTS_SCHEMA)
