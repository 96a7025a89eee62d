"""Versions of tokens, written through shards and catalog from texts, which are kept as the truth.

Legend: D documents, N tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.kind import kind_named
from robot_foundry.catalog.manifest import Manifest, ShardEntry, TableFile, commit, count_names
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import table_digest, write_table
from robot_foundry.catalog.tars import open_tar
from robot_foundry.catalog.tokens.derived import tables_of
from robot_foundry.catalog.tokens.schema import Schema
from robot_foundry.catalog.tokens.tables import BLOCKS_SCHEMA
from robot_foundry.catalog.version import Version
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.shards.index import write_index
from robot_foundry.shards.tar import TarWriter
from robot_foundry.shards.text.blocks import document_hash
from robot_foundry.shards.tokens.blocks import BLOCK_TOKENS, TokenDocuments, by_band, shard_members
from robot_foundry.shards.tokens.byte_tokenizer import ByteTokenizer
from robot_foundry.shards.tokens.tokenizer import END, PAD, SPECIALS, Tokenizer


class WideTokenizer(ByteTokenizer):
    """Bytes as ids that need 32 bits."""

    first = 70_000
    specials: Mapping[str, int] = {name: 70_256 + i for i, name in enumerate(SPECIALS)}
    size = 70_256 + len(SPECIALS)
    end = start = specials[END]
    pad = specials[PAD]

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        return [ids_N + np.int32(self.first) for ids_N in super().encode(texts)]

    def decode(self, ids: Sequence[int] | NDArray[np.integer], *, specials: bool = False) -> str:
        return super().decode(np.asarray(ids) - self.first, specials=specials)

    def to_json(self) -> dict[str, Any]:
        return {"type": "wide", "specials": dict(self.specials)}


@dataclass(frozen=True, eq=False)
class Document:
    """A document as it was written: its text, its ids with the one that ends it, its place in the source, and
    the block that it is in, counted through the version."""

    text: str
    ids_N: NDArray[np.int32]
    shard: int
    row: int
    block: int

    @property
    def hash(self) -> int:
        return document_hash(self.text.encode())


@dataclass(frozen=True)
class WrittenTokens:
    """A version, and its documents in the order in which they are stored."""

    version: Version
    tokenizer: Tokenizer
    documents: Sequence[Document]


def write_tokens(
    store: Store,
    name: str,
    shards: Sequence[Sequence[str]],
    *,
    tokenizer: Tokenizer | None = None,
    block_tokens: int = BLOCK_TOKENS,
) -> WrittenTokens:
    """`shards` has the texts of each shard of the source; the tokenizer is by default that of bytes."""
    tokenizer = tokenizer or ByteTokenizer()
    schema = Schema.of(tokenizer)
    documents, entries, blocks = list[Document](), list[ShardEntry](), [BLOCKS_SCHEMA.empty_table()]
    tables: dict[str, pa.Table] = {}
    for shard, texts in enumerate(shards):
        key = digest_of(["tokens", name, shard])
        encoded = _encoded(texts, tokenizer, schema)
        entries.append(_write_shard(store, name, key, encoded, tokenizer.id, block_tokens))
        made = tables_of(open_tar(store, name, key))
        first_block = sum(map(len, blocks))
        for row in made["documents"].to_pylist():
            text, block = texts[row["document"]], first_block + row["block"]
            ids_N = np.array([*tokenizer.encode([text])[0], tokenizer.end], np.int32)
            documents.append(Document(text, ids_N, shard, row["document"], block))
        of_shard = made.pop("blocks")
        ordinal_N = pa.array(np.full(len(of_shard), shard, np.int32))
        blocks.append(of_shard.set_column(0, "shard", ordinal_N))
        tables |= {f"{table}/{key}": made[table] for table in made}
    tables["blocks"] = pa.concat_tables(blocks).combine_chunks()
    manifest = Manifest(
        name,
        digest_of(["tokens", name]),
        schema,
        "tokens",
        tuple(entries),
        {path: table_digest(table) for path, table in tables.items()},
        dict.fromkeys(count_names(kind_named("tokens")), 0)
        | {"discovered": len(documents), "written": len(documents), "documents": len(documents)}
        | {"tokens": sum(entry.num_samples for entry in entries)}
        | {"bytes": sum(entry.tar_bytes for entry in entries)},
        files={path: TableFile.of(write_table(table)) for path, table in tables.items()},
    )
    for path, table in tables.items():
        store.storage.write(store.table(name, manifest.version_id, path), write_table(table))
    return WrittenTokens(commit(store, manifest), tokenizer, documents)


def _encoded(texts: Sequence[str], tokenizer: Tokenizer, schema: Schema) -> TokenDocuments:
    data = [text.encode() for text in texts]
    return TokenDocuments.of(
        tokenizer.encode(texts),
        end=tokenizer.end,
        dtype=schema.numpy,
        bytes_D=np.array([len(text) for text in data], np.int64),
        hash_D=np.array([document_hash(text) for text in data], np.uint64),
        row_D=np.arange(len(texts)),
        inexact_D=np.zeros(len(texts), bool),
    )


def _write_shard(
    store: Store, name: str, key: str, encoded: TokenDocuments, tokenizer: str, block_tokens: int
) -> ShardEntry:
    with store.storage.writer(store.shard_tar(name, key)) as file:
        tar = TarWriter(file)
        for member, data in shard_members(by_band(encoded), tokenizer, block_tokens=block_tokens):
            tar.add(member, data)
        summary = tar.close()
    store.storage.write(store.shard_index(name, key), write_index(summary.members))
    return ShardEntry(key, summary.sha256, summary.num_bytes, len(encoded), len(encoded.token_N))
