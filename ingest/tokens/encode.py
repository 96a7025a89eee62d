"""From a shard of text to its documents as tokens.

Legend: D documents of a batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.tokens.schema import Schema
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.text import blocks as text
from robot_foundry.shards.tokens.blocks import TokenDocuments
from robot_foundry.shards.tokens.tokenizer import Tokenizer

# Of text that is encoded in one go: what the tokenizer holds of it meanwhile is a hundred times as large.
BATCH_CHARACTERS = 1 << 20
# Batches at once: while the ids of one are taken over by this process, the tokenizer is at the next.
AT_ONCE = 2


def encode_shard(shard: ShardReader, tokenizer: Tokenizer, *, at_once: int = AT_ONCE) -> TokenDocuments:
    """All documents of a shard of text, in its order. CorruptData where it is damaged."""
    with ThreadPoolExecutor(at_once) as pool:
        encoded, under_way = list[TokenDocuments](), deque[Future[TokenDocuments]]()
        for batch in _batches(shard):
            under_way.append(pool.submit(_encoded, tokenizer, batch))
            if len(under_way) > at_once:
                encoded.append(under_way.popleft().result())
        encoded += [batch.result() for batch in under_way]
    return TokenDocuments.joined(encoded)


def encode_first(shard: ShardReader, tokenizer: Tokenizer) -> TokenDocuments:
    """The first documents of a shard, as many as are encoded in one go."""
    return _encoded(tokenizer, next(_batches(shard)))


@dataclass(frozen=True)
class _Batch:
    """Documents of a shard from row `first` on, and the hashes of their texts."""

    first: int
    texts: Sequence[str]
    hash_D: NDArray[np.uint64]


def _batches(shard: ShardReader) -> Iterator[_Batch]:
    """Whole documents, so many characters or few more at once."""
    row = 0
    for key in text.block_keys(shard):
        texts, (*_, hash_D) = text.read_texts(shard, key), text.read_docs(shard, key).T
        first = size = 0
        for number, document in enumerate(texts, 1):
            size += len(document)
            if size >= BATCH_CHARACTERS or number == len(texts):
                yield _Batch(row + first, texts[first:number], hash_D[first:number])
                first, size = number, 0
        row += len(texts)


def _encoded(tokenizer: Tokenizer, batch: _Batch) -> TokenDocuments:
    ids = tokenizer.encode(batch.texts)
    return TokenDocuments.of(
        ids,
        end=tokenizer.end,
        dtype=Schema.of(tokenizer).numpy,
        bytes_D=np.array([len(document.encode()) for document in batch.texts], np.int64),
        hash_D=batch.hash_D,
        row_D=np.arange(batch.first, batch.first + len(batch.texts)),
        inexact_D=~tokenizer.restores(batch.texts, ids),
    )
