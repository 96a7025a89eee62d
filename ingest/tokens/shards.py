"""Write shards of tokens: encode a shard of text, cut it into blocks, and write the tar and its index."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tars import is_whole, open_tar
from robot_foundry.ingest.kind import Shard
from robot_foundry.ingest.shards.shard_writer import new_tar
from robot_foundry.ingest.shards.survey import cache_survey, cached_survey, survey
from robot_foundry.ingest.tokens.encode import AT_ONCE, encode_shards
from robot_foundry.ingest.tokens.kind import KIND
from robot_foundry.runtime.in_order import in_order
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.shards.errors import CorruptData
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.tokens.blocks import shard_members
from robot_foundry.shards.tokens.spooled import SpooledDocuments
from robot_foundry.shards.tokens.tokenizer import Tokenizer

# Shards that are on their way to the disk while the next one is encoded.
MOST_BEHIND = 1


@dataclass(frozen=True)
class ShardTask:
    """The shard of tokens to write at `index`, and the shard of text that it is made of."""

    index: int
    store: Store
    dataset: str
    shard_key: str
    text_dataset: str
    text_key: str
    text_sha256: str
    num_documents: int


def write_shards(
    tokenizer: Tokenizer, tasks: Iterable[ShardTask], *, at_once: int = AT_ONCE
) -> Iterator[tuple[int, Shard]]:
    """Index and shard of each task, those first that are there already, whole.

    The same task gives the same bytes anywhere. While a shard reaches the disk, the next one is encoded.
    """
    missing = []
    for task in tasks:
        if is_whole(task.store, task.dataset, task.shard_key):
            yield task.index, _existing(task)
        else:
            missing.append(task)
    encoded = encode_shards(map(_text, missing), tokenizer, at_once=at_once)
    finish = (
        (task.index, partial(_written, task, documents, tokenizer.id))
        for task, documents in zip(missing, encoded, strict=True)
    )
    with ThreadPoolExecutor(1) as finishing:
        yield from in_order(finishing, finish, MOST_BEHIND)


def write_alone(tokenizer: Tokenizer, task: ShardTask) -> Shard:
    """`write_shards` of one, in a worker process that has one processor."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # which the library reads at each call
    ((_, shard),) = write_shards(tokenizer, [task], at_once=1)
    return shard


def _text(task: ShardTask) -> ShardReader:
    """The shard of text, if it is the one that its version names."""
    return open_tar(task.store, task.text_dataset, task.text_key, {task.text_key: task.text_sha256})


def _existing(task: ShardTask) -> Shard:
    cached = cached_survey(KIND, task.store, task.dataset, task.shard_key)
    return cached or survey(KIND, task.store, task.dataset, task.shard_key)


def _written(task: ShardTask, documents: SpooledDocuments, tokenizer_id: str) -> Shard:
    if len(documents) != task.num_documents:
        raise CorruptData(
            f"the shard {task.text_key} of {task.text_dataset} has {len(documents):,} documents, its version "
            f"says {task.num_documents:,}"
        )
    with documents, new_tar(task.store, task.dataset, task.shard_key) as tar:
        for name, data in shard_members(documents.by_band(), tokenizer_id):
            tar.add(name, data)
    shard = replace(survey(KIND, task.store, task.dataset, task.shard_key), reused=False)
    cache_survey(KIND, task.store, shard)
    kill_point("shard-done")
    return shard
