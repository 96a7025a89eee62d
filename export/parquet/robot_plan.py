"""Which rows go into which parquet file: whole episodes, until a file has its bytes.

Legend: R rows of a shard, E episodes, n ranges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.opened import Part
from robot_foundry.catalog.robot.schema import Camera, schema_of
from robot_foundry.catalog.robot.tars import open_robot_shard
from robot_foundry.shards.robot.shard import RobotShard

GROUP_BYTES = 64 * 2**20  # of a row group, so that one fits into memory whatever the length of an episode
_ROW_BYTES = 40  # of what is no dim
_MOST_ROWS = np.int64(1 << 40)  # of a shard


@dataclass(frozen=True, eq=False)
class Rows:
    """A row group: rows of one episode, `episode` of those that are exported, in the table of a shard."""

    episode: int
    key: str
    shard: int
    row_n: NDArray[np.int64]
    num_bytes: int


@dataclass(frozen=True, eq=False)
class Plan:
    """`files` are of row groups. `episode_E` are the rows of the episodes table that have a row here, and
    `count_E` how many they have."""

    files: list[list[Rows]]
    episode_E: NDArray[np.int64]
    count_E: NDArray[np.int64]

    @property
    def num_bytes(self) -> int:
        return sum(rows.num_bytes for file in self.files for rows in file)


def plan_of(part: Part, cameras: Sequence[Camera], file_bytes: int) -> Plan:
    """The selected rows of a version, with images of these cameras."""
    rows_of = _selected(part)
    episode_E = np.array(sorted(rows_of), np.int64)
    groups = _groups(part, rows_of, episode_E, cameras, min(file_bytes, GROUP_BYTES))
    files: list[list[Rows]] = []
    filled = file_bytes
    for rows in groups:
        if filled + rows.num_bytes > file_bytes:
            files.append([])
            filled = 0
        files[-1].append(rows)
        filled += rows.num_bytes
    return Plan(files, episode_E, np.array([len(rows_of[episode]) for episode in episode_E.tolist()]))


def opened_shard(part: Part, ordinal: int) -> RobotShard:
    """A shard of the version."""
    manifest = part.manifest
    return open_robot_shard(
        part.opened.store, manifest.dataset, manifest.shards[ordinal].key, manifest.tar_hashes
    )


def _selected(part: Part) -> dict[int, NDArray[np.int64]]:
    """The selected rows of each episode that has any, in the table of its shard."""
    geometry, selection = part.opened.geometry, part.select()
    # Episodes and ranges both are in the order of shards and rows, so that one ascending number places them.
    shard_E, shard_R = (
        shard_n.astype(np.int64) * _MOST_ROWS for shard_n in (geometry.shard_E, selection.shard_R)
    )
    begin_E, end_E = shard_E + geometry.start_E, shard_E + geometry.start_E + geometry.length_E
    start_R, stop_R = shard_R + selection.start_R, shard_R + selection.stop_R
    first_E = np.searchsorted(stop_R, begin_E, side="right")
    after_E = np.searchsorted(start_R, end_E, side="left")
    found: dict[int, NDArray[np.int64]] = {}
    for episode in np.flatnonzero(after_E > first_E).tolist():
        begin, end, shard = begin_E[episode], end_E[episode], shard_E[episode]
        pieces = [
            np.arange(max(begin, start_R[r]), min(end, stop_R[r]), dtype=np.int64) - shard
            for r in range(first_E[episode], after_E[episode])
        ]
        rows = np.concatenate(pieces)
        if rows.size:  # an episode may be empty
            found[episode] = rows
    return found


def _groups(
    part: Part,
    rows_of: dict[int, NDArray[np.int64]],
    episode_E: NDArray[np.int64],
    cameras: Sequence[Camera],
    most: int,
) -> Iterator[Rows]:
    """The row groups: an episode, or pieces of one with more bytes than a group takes."""
    keys = part.opened.table("episodes")["key"]
    shard_E = part.opened.geometry.shard_E
    current, size_R = -1, np.zeros(0, np.int64)
    for number, episode in enumerate(episode_E.tolist()):
        shard, row_n = int(shard_E[episode]), rows_of[episode]
        if shard != current:
            current, size_R = shard, _row_sizes(part, shard, cameras)
        size_n = size_R[row_n]
        ends_n = np.cumsum(size_n)
        piece_n = (ends_n - size_n) // most
        for piece in np.unique(piece_n):
            here = piece_n == piece
            yield Rows(number, keys[episode].as_py(), shard, row_n[here], int(size_n[here].sum()))


def _row_sizes(part: Part, ordinal: int, cameras: Sequence[Camera]) -> NDArray[np.int64]:
    """About how many bytes each row [R] of a shard takes."""
    schema, entry = schema_of(part.manifest), part.manifest.shards[ordinal]
    num_dims = len(schema.state) + sum(map(len, schema.streams.values()))
    rows = part.opened.shard_table("frames", ordinal).num_rows
    size_R = np.full(rows, _ROW_BYTES + 4 * num_dims, np.int64)
    if cameras and entry.num_samples:
        shard = opened_shard(part, ordinal)
        for camera in cameras:
            print_R = shard.image_prints(camera.name)
            size_R += np.where(print_R >= 0, print_R >> 32, 0)
    return size_R
