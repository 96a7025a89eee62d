"""From a shard of text to its documents as tokens.

Legend: D documents of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robot_foundry.catalog.tokens.schema import Schema
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.text import blocks as text
from robot_foundry.shards.tokens.blocks import TokenDocuments
from robot_foundry.shards.tokens.tokenizer import Tokenizer

# Of text that is encoded in one go: what the tokenizer holds of it meanwhile is a hundred times as large.
BATCH_CHARACTERS = 1 << 21


def encode_shard(shard: ShardReader, tokenizer: Tokenizer) -> TokenDocuments:
    """All documents of a shard of text, in its order. CorruptData where it is damaged."""
    return TokenDocuments.joined(list(encoded_batches(shard, tokenizer)))


def encoded_batches(shard: ShardReader, tokenizer: Tokenizer) -> Iterator[TokenDocuments]:
    """The same, some documents at a time."""
    dtype, row = Schema.of(tokenizer).numpy, 0
    for key in text.block_keys(shard):
        texts, hash_D = text.read_texts(shard, key), text.read_docs(shard, key)[:, -1]
        for first, stop in _cuts(texts):
            batch = texts[first:stop]
            ids = tokenizer.encode(batch)
            yield TokenDocuments.of(
                ids,
                end=tokenizer.end,
                dtype=dtype,
                bytes_D=np.array([len(document.encode()) for document in batch], np.int64),
                hash_D=hash_D[first:stop],
                row_D=np.arange(row + first, row + stop),
                inexact_D=~tokenizer.restores(batch, ids),
            )
        row += len(texts)


def _cuts(texts: list[str]) -> Iterator[tuple[int, int]]:
    """First and last + 1 document of each batch: whole documents, so many characters or few more."""
    first = size = 0
    for number, document in enumerate(texts):
        size += len(document)
        if size >= BATCH_CHARACTERS:
            yield first, number + 1
            first, size = number + 1, 0
    if first < len(texts):
        yield first, len(texts)
