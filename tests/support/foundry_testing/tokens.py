"""Versions of tokens, written through shards and catalog from texts, which are kept as the truth.

Legend: D documents, N tokens.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.kind import kind_named
from robot_foundry.catalog.manifest import Manifest, ShardEntry, TableFile, commit, count_names
from robot_foundry.catalog.selection import is_below
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import table_digest, write_table
from robot_foundry.catalog.tokens.schema import Schema
from robot_foundry.catalog.tokens.tables import BLOCKS_SCHEMA, DOCUMENTS_SCHEMA, PAGES_SCHEMA
from robot_foundry.catalog.version import Version
from robot_foundry.runtime.canonical import canonical_json, digest_of
from robot_foundry.shards.index import write_index
from robot_foundry.shards.tar import TarWriter
from robot_foundry.shards.text.blocks import document_hash
from robot_foundry.shards.tokens.blocks import BANDS, DOCS, HEAD, PAGES, TOKENS
from robot_foundry.shards.tokens.pages import page_checksums

# Bytes are their own ids, and behind them are special ones.
BYTES = Schema("b" * 32, size=264, start=258, end=258, pad=256)


@dataclass(frozen=True)
class Document:
    """A document as it was written: its text, its ids with the one that ends it, its place in the source."""

    text: str
    ids_N: NDArray[np.int32]
    shard: int
    row: int

    @property
    def hash(self) -> int:
        return document_hash(self.text.encode())

    @property
    def band(self) -> int:
        hash_1 = np.array([self.hash], np.uint64)
        return sum(not is_below(bound, hash_1)[0] for bound in BANDS)


@dataclass
class WrittenTokens:
    """A version, and its documents in the order in which they are stored."""

    version: Version
    schema: Schema
    documents: list[Document] = field(default_factory=list)


@dataclass(frozen=True)
class _Block:
    key: str
    documents: Sequence[Document]

    @property
    def ids_N(self) -> NDArray[np.int32]:
        return np.concatenate([document.ids_N for document in self.documents])


def write_tokens(
    store: Store,
    name: str,
    shards: Sequence[Sequence[str]],
    *,
    schema: Schema = BYTES,
    encode: Callable[[bytes], Iterable[int]] = list,
    block_tokens: int = 1 << 20,
) -> WrittenTokens:
    """`shards` has the texts of each shard of the source; `encode` gives the ids of their UTF-8.

    Blocks have documents of one band, and end with the document that reaches `block_tokens`.
    """
    documents, entries, rows = list[Document](), list[ShardEntry](), list[dict[str, object]]()
    tables: dict[str, pa.Table] = {}
    for shard, texts in enumerate(shards):
        ids = [np.array([*encode(text.encode()), schema.end], np.int32) for text in texts]
        here = [
            Document(text, ids_N, shard, row)
            for row, (text, ids_N) in enumerate(zip(texts, ids, strict=True))
        ]
        here.sort(key=lambda document: document.band)
        blocks = _blocks(here, block_tokens)
        key = digest_of(["tokens", name, shard])
        entries.append(_write_shard(store, name, key, blocks, schema))
        tables[f"documents/{key}"] = _documents(blocks)
        pages = [page_checksums(_stored(block, schema).tobytes()) for block in blocks]
        tables[f"pages/{key}"] = pa.table([np.concatenate([np.zeros(0, np.uint32), *pages])], PAGES_SCHEMA)
        rows += _rows(shard, blocks)
        documents += here
    tables["blocks"] = pa.Table.from_pylist(rows, schema=BLOCKS_SCHEMA)
    counts = {"documents": len(documents), "tokens": sum(entry.num_samples for entry in entries)}
    manifest = Manifest(
        name,
        digest_of(["tokens", name]),
        schema,
        "tokens",
        tuple(entries),
        {path: table_digest(table) for path, table in tables.items()},
        dict.fromkeys(count_names(kind_named("tokens")), 0)
        | {"discovered": len(shards), "written": len(shards)}
        | counts,
        files={path: TableFile.of(write_table(table)) for path, table in tables.items()},
    )
    for path, table in tables.items():
        store.storage.write(store.table(name, manifest.version_id, path), write_table(table))
    return WrittenTokens(commit(store, manifest), schema, documents)


def _blocks(documents: Sequence[Document], block_tokens: int) -> list[_Block]:
    blocks = list[_Block]()
    for band, group in groupby(documents, key=lambda document: document.band):
        block, tokens = list[Document](), 0
        for document in group:
            block.append(document)
            tokens += len(document.ids_N)
            if tokens >= block_tokens:
                blocks.append(_Block(f"b{band}-{len(blocks):06d}", block))
                block, tokens = [], 0
        if block:
            blocks.append(_Block(f"b{band}-{len(blocks):06d}", block))
    return blocks


def _rows(shard: int, blocks: Sequence[_Block]) -> list[dict[str, object]]:
    sizes = [len(block.ids_N) for block in blocks]
    starts = np.cumsum([0, *sizes]).tolist()
    return [
        {"shard": shard, "key": block.key, "row_start": start, "num_tokens": size}
        | {"num_documents": len(block.documents), "band": block.documents[0].band}
        | {"hash_max": max(document.hash for document in block.documents)}
        for block, start, size in zip(blocks, starts, sizes, strict=False)
    ]


def _documents(blocks: Sequence[_Block]) -> pa.Table:
    placed = [(number, document) for number, block in enumerate(blocks) for document in block.documents]
    sizes = [len(document.ids_N) for _, document in placed]
    rows = [
        {"block": number, "start": start, "num_tokens": size, "num_bytes": len(document.text.encode())}
        | {"split_hash": document.hash, "document": document.row}
        for (number, document), start, size in zip(
            placed, np.cumsum([0, *sizes]).tolist(), sizes, strict=False
        )
    ]
    return pa.Table.from_pylist(rows, schema=DOCUMENTS_SCHEMA)


def _write_shard(store: Store, name: str, key: str, blocks: Sequence[_Block], schema: Schema) -> ShardEntry:
    with store.storage.writer(store.shard_tar(name, key)) as file:
        tar = TarWriter(file)
        for block in sorted(blocks, key=lambda block: block.key):
            stored_N = _stored(block, schema)
            ends_D = np.cumsum([len(document.ids_N) for document in block.documents])
            told = [(len(d.text.encode()), d.hash, d.row) for d in block.documents]
            docs_D4 = np.column_stack([ends_D.astype(np.uint64), np.array(told, np.uint64)])
            tar.add(f"{block.key}{HEAD}", canonical_json({"band": block.documents[0].band}))
            tar.add(f"{block.key}{DOCS}", _npy(docs_D4))
            tar.add(f"{block.key}{PAGES}", _npy(page_checksums(stored_N.tobytes())))
            tar.add(f"{block.key}{TOKENS}", _npy(stored_N))
        summary = tar.close()
    store.storage.write(store.shard_index(name, key), write_index(summary.members))
    groups, samples = (
        sum(map(size, blocks)) for size in (lambda b: len(b.documents), lambda b: len(b.ids_N))
    )
    return ShardEntry(key, summary.sha256, summary.num_bytes, groups, samples)


def _stored(block: _Block, schema: Schema) -> NDArray[np.unsignedinteger]:
    return block.ids_N.astype(schema.numpy)


def _npy(array: NDArray) -> bytes:
    sink = io.BytesIO()
    np.lib.format.write_array(sink, array, version=(1, 0), allow_pickle=False)
    return sink.getvalue()
