"""The episodes in a robot shard, by its index.

Shapes: N frame rows of a shard, in the order (episode key, frame).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.arrays import read_npz
from robot_foundry.shards.errors import CorruptMember
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.robot.names import EPISODE_JSON, FRAME_IMAGE, episode_json_name, source_name
from robot_foundry.shards.segments import JoinedReader, Segment


class RobotShard:
    """The episodes in a shard. Frame rows are ordered by episode key, then frame, as canonical tables are.

    `open_segment` gives the reader of another shard by its key: of those with the later images of an episode
    that is too long for one tar. Without it the images of such episodes cannot be found.
    """

    def __init__(self, reader: ShardReader, open_segment: Callable[[str], ShardReader] | None = None) -> None:
        self.reader = reader
        self._open_segment = open_segment

    @cached_property
    def episodes(self) -> list[str]:
        """Episode keys, sorted as plain strings; the place in this list is the episode's ordinal."""
        end = f".{EPISODE_JSON}"
        names = self.reader.index["name"]
        return sorted(name.removesuffix(end) for name in names.filter(pc.ends_with(names, end)).to_pylist())

    @cached_property
    def cameras(self) -> list[str]:
        """Names of the cameras that any episode has, sorted."""
        return sorted(self._images)

    def episode_json(self, episode: str) -> dict[str, Any]:
        """What `<episode>.episode.json` says."""
        name = episode_json_name(episode)
        try:
            about = json.loads(self._read(episode, name))
        except ValueError as error:
            raise CorruptMember(f"member {name!r} of {self.reader.where} is not JSON: {error}") from error
        frames = about.get("num_frames") if isinstance(about, dict) else None
        if not isinstance(frames, int) or isinstance(frames, bool) or frames < 0:
            raise CorruptMember(f"member {name!r} of {self.reader.where} has no count `num_frames`")
        return about

    def source(self, episode: str) -> dict[str, NDArray]:
        """The untouched source arrays in `<episode>.source.npz`, by name, read-only."""
        return read_npz(self._read(episode, source_name(episode)))

    @cached_property
    def row_starts(self) -> NDArray[np.int64]:
        """First frame row of every episode, and the number of frame rows in the shard as the last value."""
        counts = [num_frames for num_frames, _ in self._extents]
        return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)

    @cached_property
    def segments(self) -> list[tuple[int, Segment]]:
        """Shards that hold later images of the episodes with these ordinals."""
        return [
            (ordinal, segment) for ordinal, (_, segments) in enumerate(self._extents) for segment in segments
        ]

    @cached_property
    def images(self) -> ShardReader | JoinedReader:
        """Reads the rows that `image_rows` gives."""
        readers = [reader for reader, _ in self._image_readers]
        return self.reader if len(readers) == 1 else JoinedReader(readers)

    def image_rows(self, camera: str) -> NDArray[np.int64]:
        """int64 [N]: the row in `images` of this camera's image for every frame row, -1 where none is."""
        rows_N = np.full(int(self.row_starts[-1]), -1, dtype=np.int64)
        if camera in self._images:
            member_rows, frame_rows = self._images[camera]
            rows_N[frame_rows] = member_rows
        return rows_N

    def image_prints(self, camera: str) -> NDArray[np.int64]:
        """int64 [N]: size and checksum of this camera's image as one number, -1 where there is none.

        Read from the indexes alone: equal numbers mean equal bytes.
        """
        indexes = [reader.index for reader, _ in self._image_readers]
        size_M, crc32c_M = (
            np.concatenate([index[name].to_numpy().astype(np.int64) for index in indexes])
            for name in ("size", "crc32c")
        )
        rows_N = self.image_rows(camera)
        return np.where(rows_N >= 0, (size_M << 32 | crc32c_M)[rows_N], -1)

    @cached_property
    def _image_readers(self) -> list[tuple[ShardReader, tuple[int, Segment] | None]]:
        """The shard itself, then its segments."""
        if self.segments and self._open_segment is None:
            raise FoundryError(f"{self.reader.where} has an episode with images in other shards")
        opened = [
            (self._open_segment(part[1].shard_key), part) for part in self.segments if self._open_segment
        ]
        return [(self.reader, None), *opened]

    @cached_property
    def _images(self) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """For each camera the rows of its images in `images`, and the frame rows they belong to."""
        by_camera: dict[str, list[tuple[NDArray[np.int64], NDArray[np.int64]]]] = {}
        start = 0
        for reader, part in self._image_readers:
            for camera, (member_rows, frame_rows) in self._images_in(reader, part).items():
                by_camera.setdefault(camera, []).append((member_rows + start, frame_rows))
            start += len(reader)
        return {
            camera: (np.concatenate([m for m, _ in parts]), np.concatenate([f for _, f in parts]))
            for camera, parts in by_camera.items()
        }

    def _images_in(
        self, reader: ShardReader, part: tuple[int, Segment] | None
    ) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """For each camera the index rows of its images in one tar, and the frame rows they belong to."""
        parts = pc.extract_regex(reader.index["name"].combine_chunks(), pattern=f"^(?:{FRAME_IMAGE})$")
        member_rows = np.flatnonzero(parts.is_valid())
        episodes, frames, cameras = (parts.drop_null().field(name) for name in ("episode", "frame", "camera"))
        ordinals = pc.index_in(episodes, pa.array(self.episodes, pa.string()))
        if ordinals.null_count:
            stray = episodes.filter(ordinals.is_null())[0].as_py()
            raise FoundryError(f"{reader.where} has images of {stray!r}, which has no {EPISODE_JSON}")
        first_rows, end_rows = self.row_starts[:-1][ordinals], self.row_starts[1:][ordinals]
        frame_rows = first_rows + frames.cast(pa.int64()).to_numpy()
        outside = frame_rows >= end_rows
        if part is not None:
            start_row = self.row_starts[part[0]]
            outside |= frame_rows < start_row + part[1].start
            outside |= frame_rows >= start_row + part[1].end
        if outside.any():
            name = reader.name(int(member_rows[np.flatnonzero(outside)[0]]))
            raise FoundryError(f"{reader.where} has the image {name!r} of a frame that its episode lacks")
        camera_M = cameras.dictionary_encode()
        return {
            camera: (member_rows[codes], frame_rows[codes])
            for code, camera in enumerate(camera_M.dictionary.to_pylist())
            for codes in [np.flatnonzero(camera_M.indices.to_numpy() == code)]
        }

    def _read(self, episode: str, name: str) -> bytes:
        if episode not in self._ordinals:
            raise FoundryError(f"{self.reader.where} has no episode {episode!r}")
        return self.reader.read_name(name)

    @cached_property
    def _extents(self) -> list[tuple[int, list[Segment]]]:
        """Frames and segments of every episode."""
        about = (self.episode_json(episode) for episode in self.episodes)
        return [(episode["num_frames"], segments_of(episode, self.reader.where)) for episode in about]

    @cached_property
    def _ordinals(self) -> dict[str, int]:
        return {episode: ordinal for ordinal, episode in enumerate(self.episodes)}


def segments_of(episode: dict[str, Any], where: str) -> list[Segment]:
    """The segments that an episode.json names, {shard, start, end} in frames; CorruptMember for others."""
    stated = episode.get("segments", [])
    try:
        segments = [Segment(str(s["shard"]), int(s["start"]), int(s["end"])) for s in stated]
    except (TypeError, KeyError, ValueError) as error:
        raise CorruptMember(f"the segments of an episode of {where} are not told as they must be") from error
    if any(not 0 <= s.start < s.end <= episode["num_frames"] for s in segments):
        raise CorruptMember(f"an episode of {where} has a segment of frames that it lacks")
    return segments
