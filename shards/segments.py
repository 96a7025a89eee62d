"""An episode that is too long for one tar: its later images lie in the tars of its segments.

The head names them in `segments` of its episode.json: {"shard", "start", "end"}, in frames.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_foundry.shards.errors import CorruptMember

if TYPE_CHECKING:
    from robot_foundry.shards.reader import ShardReader


@dataclass(frozen=True)
class Segment:
    """The shard of the images of the frames `start` to `end` (exclusive) of an episode."""

    shard_key: str
    start: int
    end: int


def segments_of(episode: dict[str, Any], where: str) -> list[Segment]:
    """The segments that an episode.json names; CorruptMember if they are not as told above."""
    found = episode.get("segments", [])
    try:
        segments = [Segment(str(s["shard"]), int(s["start"]), int(s["end"])) for s in found]
    except (TypeError, KeyError, ValueError) as error:
        raise CorruptMember(f"the segments of an episode of {where} are not told as they must be") from error
    if any(not 0 <= s.start < s.end <= episode["num_frames"] for s in segments):
        raise CorruptMember(f"an episode of {where} has a segment of frames that it lacks")
    return segments


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
        reader, own = self._at(row)
        return reader.read(own)

    def name(self, row: int) -> str:
        """The member's name."""
        reader, own = self._at(row)
        return reader.name(own)

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
