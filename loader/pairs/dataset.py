"""The pairs of a version, to look into.

Legend: H × W pixels, C = 3 channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.pairs.derived import pair_of
from robot_foundry.catalog.pairs.tables import BLOCKS, PAIRS
from robot_foundry.catalog.selection import SelectionSpec
from robot_foundry.catalog.version import Version
from robot_foundry.loader.pairs.source import opened_tar
from robot_foundry.runtime.errors import UsageError
from robot_foundry.shards.pairs.pair import Pair
from robot_foundry.shards.pictures.decode import decode
from robot_foundry.shards.reader import ShardReader

_OPEN_SHARDS, _OPEN_TABLES = 16, 16


class PairDataset:
    """A version of pairs as a sequence, in the order of shards and rows.

    `dataset[i]` is a dict: `pictures`, a list of uint8 [H, W, 3] RGB, upright, each in its own size;
    `captions`, texts by name; `turns`, a tuple of `Turn(role, text)`, empty where there are captions alone;
    `file` and `id`, the pair's place in the source; and `metadata`. CorruptImage where a picture is damaged.
    """

    def __init__(self, versions: OpenVersions, version: Version, select: str | SelectionSpec = "all") -> None:
        """`select` is a split, or what else a selection is made by."""
        opened = versions.open(version)
        self._opened, self.version, self.manifest = opened, version, opened.manifest
        self.selection = opened.select(SelectionSpec(split=select) if isinstance(select, str) else select)
        blocks = opened.table(BLOCKS)
        self._first_block = np.searchsorted(blocks["shard"].to_numpy(), np.arange(len(self.manifest.shards)))
        self._tar = lru_cache(maxsize=_OPEN_SHARDS)(self._open_tar)
        self._pairs = lru_cache(maxsize=_OPEN_TABLES)(self._open_pairs)

    def __len__(self) -> int:
        return self.selection.num_samples

    def __repr__(self) -> str:
        return f"PairDataset({self.version}, {len(self):,} pairs)"

    def __getitem__(self, i: int) -> dict[str, Any]:
        shard, row = self._row(i)
        pair, block = pair_of(row), int(self._first_block[shard]) + row["block"]
        return {
            "pictures": self._pictures(shard, pair),
            "captions": dict(pair.captions),
            "turns": pair.turns,
            "file": self._opened.table(BLOCKS)["file"][block].as_py(),
            "id": pair.id,
            "metadata": dict(pair.metadata),
        }

    def pair(self, i: int) -> Pair:
        """Pair i as its tables tell it: texts, and its pictures by their headers, of which none is read."""
        return pair_of(self._row(i)[1])

    def pictures(self, i: int) -> list[NDArray[np.uint8]]:
        """The pictures of pair i alone."""
        shard, row = self._row(i)
        return self._pictures(shard, pair_of(row))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def _row(self, i: int) -> tuple[int, dict[str, Any]]:
        """The shard of pair i, and its row in the table."""
        if isinstance(i, bool) or not isinstance(i, int | np.integer):
            raise UsageError(f"pairs of {self.version} are asked for by a whole number, got {i!r}")
        if not -len(self) <= i < len(self):
            raise IndexError(f"{self.version} has {len(self)} pairs, there is no pair {i}")
        shard_n, row_n = self.selection.locate(np.array([i % len(self)], np.int64))
        [row] = self._pairs(int(shard_n[0])).slice(int(row_n[0]), 1).to_pylist()
        return int(shard_n[0]), row

    def _pictures(self, shard: int, pair: Pair) -> list[NDArray[np.uint8]]:
        own = self.manifest.shards[shard].key
        return [decode(self._tar(picture.tar or own).read_name(picture.member)) for picture in pair.pictures]

    def _open_tar(self, key: str) -> ShardReader:
        return opened_tar(self._opened, key)

    def _open_pairs(self, shard: int) -> pa.Table:
        return self._opened.shard_table(PAIRS, shard)
