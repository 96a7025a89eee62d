"""A group that is too long for one tar: later samples lie in the tars of its segments, as its head says."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from robot_foundry.shards.reader import ShardReader


@dataclass(frozen=True)
class Segment:
    """The shard of the samples `start` to `end` (exclusive) of a group."""

    shard_key: str
    start: int
    end: int


class JoinedReader:
    """The members of several tars under one row number: first those of the first reader, and so on."""

    def __init__(self, readers: Sequence[ShardReader]) -> None:
        self._readers = list(readers)
        self.starts = np.cumsum([0, *(len(reader) for reader in readers[:-1])]).tolist()

    @property
    def where(self) -> str:
        return self._readers[0].where

    def read(self, row: int) -> bytes:
        """As `ShardReader.read`."""
        reader, row_there = self._at(row)
        return reader.read(row_there)

    def name(self, row: int) -> str:
        """The member's name."""
        reader, row_there = self._at(row)
        return reader.name(row_there)

    def tar_of(self, row: int) -> str:
        """The path of the tar that holds the member."""
        return self._at(row)[0].tar_path

    def close(self) -> None:
        """As `ShardReader.close`, for all."""
        for reader in self._readers:
            reader.close()

    def _at(self, row: int) -> tuple[ShardReader, int]:
        number = bisect_right(self.starts, row) - 1
        return self._readers[number], row - self.starts[number]
