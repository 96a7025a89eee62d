"""What of a version goes out as which episode, and its rows and images.

Legend: C clips, E episodes of the version, N frames of a clip, R rows of a shard.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.opened import Part
from robot_foundry.catalog.robot.schema import schema_of
from robot_foundry.catalog.robot.tars import open_robot_shard
from robot_foundry.catalog.selection import Selection
from robot_foundry.catalog.tables import column_matrix
from robot_foundry.runtime.errors import FoundryError, NothingSelected
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.robot.shard import RobotShard
from robot_foundry.shards.segments import JoinedReader


@dataclass(frozen=True)
class Clip:
    """Neighbouring frames of an episode: one whole, or a piece where a selection leaves frames out.

    `episode` is its row in the table of episodes, `start` and `stop` are rows of its shard, and `first` is
    the number of its first frame in the episode.
    """

    episode: int
    shard: int
    start: int
    stop: int
    first: int

    @property
    def num_frames(self) -> int:
        return self.stop - self.start


def clips_of(part: Part) -> list[Clip]:
    """All that is selected, in the order of the version."""
    episodes = part.opened.table("episodes")
    shard_E, row_E = episodes["shard"].to_numpy(), episodes["row_start"].to_numpy()
    end_E = row_E + episodes["num_frames"].to_numpy()
    clips = []
    for shard, start, stop in part.select().ranges():
        here = np.arange(*np.searchsorted(shard_E, [shard, shard + 1]))
        for episode in here[(row_E[here] < stop) & (end_E[here] > start)].tolist():
            first, last = max(start, int(row_E[episode])), min(stop, int(end_E[episode]))
            clips.append(Clip(episode, shard, first, last, first - int(row_E[episode])))
    return clips


def held_out(part: Part, val_fraction: str) -> NDArray[np.bool_] | None:
    """Which episodes [E] the usual split holds out; None if there are none."""
    spec = part.select().spec
    val = replace(spec, split="val", val_fraction=val_fraction, split_by="episode", skip=())
    try:
        chosen: Selection = part.opened.select(val)
    except NothingSelected:
        return None
    return chosen.holds(part.opened.geometry)


class Source:
    """Rows and images of clips. One shard is open at a time, so clips are best asked for in their order."""

    def __init__(self, part: Part) -> None:
        self.part, self.schema = part, schema_of(part.manifest)
        self._shard: _Shard | None = None

    def rows(self, clip: Clip) -> dict[str, NDArray[Any]]:
        """`state`, `action.<stream>` float32 [N, …], `timestamp` and `flags` [N]."""
        return self._open(clip.shard).rows(clip)

    def member_rows(self, clip: Clip, camera: str) -> NDArray[np.int64]:
        """Where the images of a camera, by its own name, lie in the reader [N]; -1 where there is none."""
        return self._open(clip.shard).image_rows(camera)[clip.start : clip.stop]

    def image_bytes(self, clip: Clip, camera: str) -> int:
        """How many bytes the images of a camera have."""
        size_N = self._open(clip.shard).image_sizes(camera)[clip.start : clip.stop]
        return int(size_N.sum())

    def images(self, clip: Clip, camera: str) -> Iterator[bytes | None]:
        """The images of a camera as they are stored, None where there is none."""
        member_N, reader = self.member_rows(clip, camera), self._open(clip.shard).reader
        there = member_N[member_N >= 0].tolist()
        # Of a remote tar neighbours are fetched at once.
        held = reader.read_many(there) if isinstance(reader, ShardReader) else map(reader.read, there)
        for member in member_N.tolist():
            yield None if member < 0 else bytes(next(held))

    def _open(self, ordinal: int) -> _Shard:
        if self._shard is None or self._shard.ordinal != ordinal:
            if self._shard is not None:
                self._shard.close()
            self._shard = _Shard(self.part, ordinal)
        return self._shard


class _Shard:
    def __init__(self, part: Part, ordinal: int) -> None:
        self.ordinal, self._part = ordinal, part
        self._table: pa.Table = part.opened.shard_table("frames", ordinal)

    def rows(self, clip: Clip) -> dict[str, NDArray[Any]]:
        names = [name for name in self._table.column_names if name == "state" or name.startswith("action.")]
        rows: dict[str, NDArray[Any]] = {name: self._matrix(name)[clip.start : clip.stop] for name in names}
        for name in ("timestamp", "flags"):
            rows[name] = self._table[name].slice(clip.start, clip.num_frames).to_numpy()
        return rows

    def image_rows(self, camera: str) -> NDArray[np.int64]:
        if camera not in self._rows_of:
            rows_R = self._robot_shard.image_rows(camera)
            if len(rows_R) != self._table.num_rows:
                raise FoundryError(
                    f"{self._robot_shard.reader.where} has another number of frames than its table",
                    hint=f"foundry-data validate {self._part.component.version}",
                )
            self._rows_of[camera] = rows_R
        return self._rows_of[camera]

    def image_sizes(self, camera: str) -> NDArray[np.int64]:
        """Bytes of each row's image [R], 0 where there is none."""
        if camera not in self._sizes_of:
            prints_R = self._robot_shard.image_prints(camera)
            self._sizes_of[camera] = np.where(prints_R >= 0, prints_R >> 32, 0)
        return self._sizes_of[camera]

    @property
    def reader(self) -> ShardReader | JoinedReader:
        return self._robot_shard.images

    def close(self) -> None:
        if "_robot_shard" in self.__dict__:
            self.reader.close()

    def _matrix(self, name: str) -> NDArray[np.float32]:
        if name not in self._matrices:
            self._matrices[name] = column_matrix(self._table, name)
        return self._matrices[name]

    @cached_property
    def _matrices(self) -> dict[str, NDArray[np.float32]]:
        return {}

    @cached_property
    def _rows_of(self) -> dict[str, NDArray[np.int64]]:
        return {}

    @cached_property
    def _sizes_of(self) -> dict[str, NDArray[np.int64]]:
        return {}

    @cached_property
    def _robot_shard(self) -> RobotShard:
        opened, key = self._part.opened, self._part.manifest.shards[self.ordinal].key
        return open_robot_shard(opened.store, opened.version.dataset, key, self._part.manifest.tar_hashes)
