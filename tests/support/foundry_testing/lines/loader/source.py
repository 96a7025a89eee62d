"""The lines of a version, read from its tars.

Legend: n samples, E documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.selection import Selection
from robot_foundry.catalog.tars import open_tar
from robot_foundry.shards.reader import ShardReader


@dataclass(frozen=True)
class Line:
    """A line of a document; `number` counts from 0."""

    source: str
    number: int
    text: str


class Place(NamedTuple):
    """Where a line lies: the document's row in the table of documents, and the line in it."""

    document: int
    number: int


class LineSource:
    """The selected lines of a version."""

    def __init__(self, opened: OpenVersion, selection: Selection) -> None:
        self._opened, self._selection = opened, selection
        self._documents = opened.table("documents")
        groups = opened.geometry
        self._key_E = list(zip(groups.shard_E.tolist(), groups.start_E.tolist(), strict=True))
        self._tar = lru_cache(maxsize=16)(self._open_tar)

    def __len__(self) -> int:
        return self._selection.num_samples

    def line(self, sample: int) -> Line:
        """`CorruptMember` where the text of its document is damaged."""
        document, number = self._place(sample)
        texts = self.tar(sample).read_name(self.member(sample)).decode().split("\n")
        return Line(self._documents["source"][document].as_py(), number, texts[number])

    def member(self, sample: int) -> str:
        """The member that holds the text of a line's document."""
        return f"{self._documents['key'][self._place(sample).document].as_py()}.txt"

    def tar(self, sample: int) -> ShardReader:
        """The tar in which the line lies."""
        return self._tar(self._documents["shard"][self._place(sample).document].as_py())

    def _place(self, sample: int) -> Place:
        shard_n, row_n = self._selection.locate(np.array([sample], np.int64))
        shard, row = int(shard_n[0]), int(row_n[0])
        # Documents are in the order of shards and rows.
        document = max(i for i, key in enumerate(self._key_E) if key <= (shard, row))
        return Place(document, row - self._key_E[document][1])

    def _open_tar(self, shard: int) -> ShardReader:
        manifest = self._opened.manifest
        return open_tar(self._opened.store, manifest.dataset, manifest.shards[shard].key, manifest.tar_hashes)
