"""Damage of a version of tokens: tables against each other and the tars, tokens against hashes of texts.

Legend: D documents of a block or shard, K blocks, N tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.manifest import Manifest
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tokens.derived import tables_of
from robot_foundry.catalog.tokens.schema import Schema, schema_of
from robot_foundry.catalog.tokens.tables import counts
from robot_foundry.catalog.tokens.tokenizers import read_id
from robot_foundry.catalog.validation.table_findings import Fault
from robot_foundry.catalog.validation.tasks import Conclusion, ShardCheck, Tables
from robot_foundry.catalog.version import Version
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.text.blocks import document_hash
from robot_foundry.shards.tokens import blocks
from robot_foundry.shards.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Members:
    """The tables that follow from a tar, and how many documents were decoded."""

    tables: Mapping[str, pa.Table]
    num_decoded: int


def count(tables: Tables) -> tuple[int, int] | None:
    """Documents and tokens by the table of blocks."""
    of_blocks = tables["blocks"]
    return None if of_blocks is None else counts(of_blocks)


def check_tables(manifest: Manifest, tables: Tables, fault: Fault) -> None:
    """Blocks are of shards that are, one behind the other, and as many as the manifest says of each."""
    of_blocks = tables["blocks"]
    if of_blocks is None:
        return
    names = ("shard", "row_start", "num_tokens", "num_documents")
    shard_K, start_K, tokens_K, documents_K = (of_blocks[name].to_numpy() for name in names)
    if len(shard_K) and not 0 <= shard_K.min() <= shard_K.max() < len(manifest.shards):
        fault.manifest("blocks", "a block is of a shard that the manifest lacks")
        return
    if (np.diff(shard_K) < 0).any():
        fault.manifest("blocks", "blocks are not in the order of shards")
        return
    before_K = np.cumsum(tokens_K) - tokens_K
    first_K = np.searchsorted(shard_K, shard_K)
    if (start_K != before_K - before_K[first_K]).any():
        fault.manifest("blocks", "blocks of a shard do not follow each other")
    for what, of_kind_K in (("tokens", tokens_K), ("documents", documents_K)):
        held = np.bincount(shard_K, of_kind_K, len(manifest.shards))
        for entry, number in zip(manifest.shards, held.astype(np.int64).tolist(), strict=True):
            expected = entry.num_samples if what == "tokens" else entry.num_groups
            if number != expected:
                fault.manifest(
                    "counts", f"shard {entry.key} has {number:,} {what} in the blocks, not {expected:,}"
                )


def check_members(task: ShardCheck, reader: ShardReader, is_intact: bool, fault: Fault) -> Members | None:
    """The names of members; of a tar that is read whole also all tokens, decoded."""
    keys, names = blocks.block_keys(reader), set(reader.index["name"].to_pylist())
    suffixes = (blocks.HEAD, blocks.DOCS, blocks.PAGES, blocks.TOKENS)
    if names != {f"{key}{suffix}" for key in keys for suffix in suffixes}:
        fault.shard("blocks", task.tar, "does not have the four members of each block")
        return None
    if not (task.deep and is_intact):
        return None
    tokenizer = _tokenizer(task.store, task.schema, fault)
    num_decoded = 0
    with fault.caught("tokens", task.tar):
        for key in keys:
            num_decoded += _check_block(task, reader, key, tokenizer, fault)
        return Members(tables_of(reader), num_decoded)
    return None


def _tokenizer(store: Store, schema: Schema, fault: Fault) -> Tokenizer | None:
    try:
        return read_id(store, schema.tokenizer)
    except FoundryError as error:
        fault.add("tokenizer", schema.tokenizer, error.message, error.hint or "add the tokenizer again")
        return None


def _check_block(
    task: ShardCheck, reader: ShardReader, key: str, tokenizer: Tokenizer | None, fault: Fault
) -> int:
    """The tokens of a block against its pages, its documents and their hashes; how many were decoded."""
    schema: Schema = task.schema
    head, docs_D4 = blocks.read_head(reader, key), blocks.read_docs(reader, key)
    token_N = blocks.read_tokens(reader, key)
    end_D = docs_D4[:, blocks.END].astype(np.int64)

    def damaged(what: str) -> int:
        fault.shard("tokens", task.tar, f"has a block {key} {what}")
        return 0

    if head.tokenizer != schema.tokenizer or token_N.dtype.name != schema.dtype:
        return damaged("of another tokenizer than the version's")
    if (blocks.read_pages(reader, key) != blocks.page_checksums(token_N)).any():
        return damaged("whose pages are not its tokens")
    if len(end_D) != head.num_documents or (end_D[-1] if len(end_D) else 0) != len(token_N):
        return damaged("whose documents end elsewhere than its tokens")
    if (token_N >= schema.size).any() or (token_N[end_D - 1] != schema.end).any():
        return damaged("with ids that the tokenizer lacks, or a document without end")
    if (blocks.bands(docs_D4[:, blocks.HASH]) != head.band).any():
        return damaged("with documents of another band")
    if tokenizer is None:
        return 0
    differ = _not_restored(tokenizer, token_N, docs_D4)
    if differ != head.num_inexact:
        return damaged(
            f"of which {differ:,} documents do not decode to the text that they were made of, "
            f"where its head says {head.num_inexact:,}"
        )
    return len(end_D)


def _not_restored(
    tokenizer: Tokenizer, token_N: NDArray[np.unsignedinteger], docs_D4: NDArray[np.uint64]
) -> int:
    """Of how many documents the decoded text has another hash or length than the text had."""
    begin, differ = 0, 0
    for end, num_bytes, text_hash, _ in docs_D4.tolist():
        text = tokenizer.decode(token_N[begin : end - 1]).encode()
        differ += (document_hash(text), len(text)) != (text_hash, num_bytes)
        begin = end
    return differ


def check_rows(task: ShardCheck, tables: Tables, members: Members | None, fault: Fault) -> int:
    """The tables of a shard against its blocks, and against the tar if that was read."""
    documents, pages = tables.get("documents"), tables.get("pages")
    rows = task.rows["blocks"]
    if documents is not None and rows is not None:
        with fault.caught("tables", task.table("documents")):
            _check_documents(task, documents, rows, fault)
    for name, table in (("documents", documents), ("pages", pages)):
        if members is not None and table is not None and not table.equals(members.tables[name]):
            fault.table(f"{name}/{task.entry.key}", "has other rows than follow from the tar")
    if members is not None and rows is not None:
        of_tar = members.tables["blocks"].drop_columns("shard").to_pylist()
        if of_tar != [{name: row[name] for name in row if name != "shard"} for row in rows]:
            fault.manifest("blocks", f"the blocks of shard {task.entry.key} are not those of its tar")
    return 0 if members is None else members.num_decoded


def _check_documents(
    task: ShardCheck, documents: pa.Table, rows: Sequence[Mapping[str, int]], fault: Fault
) -> None:
    """Documents follow each other, and those of a block are what is said of it."""
    name = f"documents/{task.entry.key}"
    if documents.num_rows != task.entry.num_groups:
        fault.table(name, f"has {documents.num_rows:,} rows, not {task.entry.num_groups:,}")
        return
    start_D, tokens_D = documents["start"].to_numpy(), documents["num_tokens"].to_numpy()
    if (start_D != np.cumsum(tokens_D) - tokens_D).any():
        fault.table(name, "has documents that do not follow each other")
        return
    block_D, hash_D = documents["block"].to_numpy(), documents["split_hash"].to_numpy()
    band_D = blocks.bands(hash_D)
    for number, row in enumerate(rows):
        here_D = block_D == number
        told = (row["num_documents"], row["num_tokens"], row["hash_max"])
        found = (int(here_D.sum()), int(tokens_D[here_D].sum()), int(hash_D[here_D].max(initial=0)))
        if found != told or (band_D[here_D] != row["band"]).any():
            fault.manifest("blocks", f"block {row['key']} of shard {task.entry.key} is not what it holds")
            return


def conclude(version: Version, manifest: Manifest, tables: Tables, shards: Sequence[int]) -> Conclusion:
    """How many documents were decoded."""
    schema = schema_of(manifest)
    line = f"tokenizer {schema.tokenizer[:12]}, {schema.size:,} tokens"
    return Conclusion(checked={"documents_decoded": sum(shards)}, lines=(line,))
