"""From a shard of text to its documents as tokens.

Legend: D documents of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.tokens.schema import Schema
from robot_foundry.runtime.in_order import in_order
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.text import blocks as text
from robot_foundry.shards.tokens.blocks import TokenDocuments
from robot_foundry.shards.tokens.spooled import SpooledDocuments
from robot_foundry.shards.tokens.tokenizer import Tokenizer

# Of text that is encoded in one go: what the tokenizer holds of it meanwhile is a hundred times as large.
BATCH_CHARACTERS = 1 << 20
# Batches at once: while the ids of one are taken over by this process, the tokenizer is at the next.
AT_ONCE = 2


def encode_shards(
    shards: Iterable[ShardReader], tokenizer: Tokenizer, *, at_once: int = AT_ONCE
) -> Iterator[SpooledDocuments]:
    """All documents of each shard of text, in its order. CorruptData where one is damaged.

    Whoever takes them closes them. While the last of a shard are encoded, the next one is read.
    """
    encode = (
        (number, partial(_encoded, tokenizer, batch))
        for number, shard in enumerate(shards)
        for batch in _batches(shard)
    )
    with ThreadPoolExecutor(at_once) as pool:
        for _, parts in groupby(in_order(pool, encode, at_once), key=itemgetter(0)):
            of_shard = SpooledDocuments()
            for _, documents in parts:
                of_shard.add(documents)
            yield of_shard


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
