"""The documents of a version of text, to look into.

Legend: E documents.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.selection import SelectionSpec
from robot_foundry.catalog.tars import open_tar
from robot_foundry.catalog.text.tables import BLOCKS, DOCUMENTS
from robot_foundry.catalog.version import Version
from robot_foundry.runtime.errors import UsageError
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.text.blocks import read_meta, read_texts

_OPEN_SHARDS, _OPEN_BLOCKS = 16, 8


class TextDataset:
    """A version of text as a sequence of documents, in the order of shards and rows.

    `dataset[i]` is a dict: `text`, `file` and `id`, the document's place in the source, and `metadata`.
    """

    def __init__(self, versions: OpenVersions, version: Version, split: str = "all") -> None:
        opened = versions.open(version)
        self._opened, self.version, self.manifest = opened, version, opened.manifest
        groups = opened.geometry
        is_selected_E = opened.select(SelectionSpec(split=split)).holds(groups)
        self._document_n = np.flatnonzero(is_selected_E)
        self._first_row = np.searchsorted(groups.shard_E, np.arange(len(self.manifest.shards)))
        self._shard_E = groups.shard_E
        blocks = opened.table(BLOCKS)
        self._block_start = np.searchsorted(blocks["shard"].to_numpy(), np.arange(len(self.manifest.shards)))
        self._tar = lru_cache(maxsize=_OPEN_SHARDS)(self._open_tar)
        self._block = lru_cache(maxsize=_OPEN_BLOCKS)(self._read_block)

    def __len__(self) -> int:
        return len(self._document_n)

    def __repr__(self) -> str:
        return f"TextDataset({self.version}, {len(self):,} documents)"

    def __getitem__(self, i: int) -> dict[str, Any]:
        if isinstance(i, bool) or not isinstance(i, int | np.integer):
            raise UsageError(f"documents of {self.version} are asked for by a whole number, got {i!r}")
        if not -len(self) <= i < len(self):
            raise IndexError(f"{self.version} has {len(self)} documents, there is no document {i}")
        document = int(self._document_n[i % len(self)])
        shard = int(self._shard_E[document])
        row = document - int(self._first_row[shard])
        number = self._opened.shard_table(DOCUMENTS, shard)["block"][row].as_py()
        block = int(self._block_start[shard]) + number
        return self._block(block)[row - self._opened.table(BLOCKS)["row_start"][block].as_py()]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def _read_block(self, block: int) -> list[dict[str, Any]]:
        [row] = self._opened.table(BLOCKS).slice(block, 1).to_pylist()
        tar = self._tar(row["shard"])
        both = zip(read_texts(tar, row["key"]), read_meta(tar, row["key"]), strict=True)
        return [{"text": text, "file": row["file"], **about} for text, about in both]

    def _open_tar(self, shard: int) -> ShardReader:
        manifest = self.manifest
        return open_tar(self._opened.store, manifest.dataset, manifest.shards[shard].key, manifest.tar_hashes)
