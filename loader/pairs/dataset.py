"""The pairs of a version, to look into.

Legend: E pairs, H × W pixels, C = 3 channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.pairs.derived import pair_of
from robot_foundry.catalog.pairs.tables import BLOCKS, PAIRS
from robot_foundry.catalog.selection import SelectionSpec
from robot_foundry.catalog.tars import open_tar
from robot_foundry.catalog.version import Version
from robot_foundry.runtime.errors import UsageError
from robot_foundry.shards.pairs.pair import Picture
from robot_foundry.shards.pictures.decode import decode
from robot_foundry.shards.reader import ShardReader

_OPEN_SHARDS, _OPEN_TABLES = 16, 16


class PairDataset:
    """A version of pairs as a sequence, in the order of shards and rows.

    `dataset[i]` is a dict: `pictures`, a list of uint8 [H, W, 3] RGB, upright, each in its own size;
    `captions`, texts by name; `turns`, a tuple of `Turn(role, text)`, empty where there are captions alone;
    `file` and `id`, the pair's place in the source; and `metadata`. CorruptImage where a picture is damaged.
    """

    def __init__(self, versions: OpenVersions, version: Version, split: str = "all") -> None:
        opened = versions.open(version)
        self._opened, self.version, self.manifest = opened, version, opened.manifest
        groups = opened.geometry
        self._pair_n = np.flatnonzero(opened.select(SelectionSpec(split=split)).holds(groups))
        self._shard_E, self._row_E = groups.shard_E, groups.start_E
        blocks = opened.table(BLOCKS)
        self._first_block = np.searchsorted(blocks["shard"].to_numpy(), np.arange(len(self.manifest.shards)))
        self._tar = lru_cache(maxsize=_OPEN_SHARDS)(self._open_tar)
        self._pairs = lru_cache(maxsize=_OPEN_TABLES)(self._open_pairs)

    def __len__(self) -> int:
        return len(self._pair_n)

    def __repr__(self) -> str:
        return f"PairDataset({self.version}, {len(self):,} pairs)"

    def __getitem__(self, i: int) -> dict[str, Any]:
        if isinstance(i, bool) or not isinstance(i, int | np.integer):
            raise UsageError(f"pairs of {self.version} are asked for by a whole number, got {i!r}")
        if not -len(self) <= i < len(self):
            raise IndexError(f"{self.version} has {len(self)} pairs, there is no pair {i}")
        number = int(self._pair_n[i % len(self)])
        shard = int(self._shard_E[number])
        [row] = self._pairs(shard).slice(int(self._row_E[number]), 1).to_pylist()
        pair, key = pair_of(row), self.manifest.shards[shard].key
        file = self._opened.table(BLOCKS)["file"][int(self._first_block[shard]) + row["block"]].as_py()
        return {
            "pictures": [decode(self._data(picture, key)) for picture in pair.pictures],
            "captions": dict(pair.captions),
            "turns": pair.turns,
            "file": file,
            "id": pair.id,
            "metadata": dict(pair.metadata),
        }

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def _data(self, picture: Picture, key: str) -> bytes:
        return self._tar(picture.tar or key).read_name(picture.member)

    def _open_tar(self, key: str) -> ShardReader:
        return open_tar(self._opened.store, self.manifest.dataset, key, self.manifest.tar_hashes)

    def _open_pairs(self, shard: int) -> pa.Table:
        return self._opened.shard_table(PAIRS, shard)
