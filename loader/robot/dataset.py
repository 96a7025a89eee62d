"""One version, opened to look into: frames with decoded images, tables, spaces and statistics."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from robot_foundry.catalog.mixture import as_mixture
from robot_foundry.catalog.opened import OpenVersion, OpenVersions
from robot_foundry.catalog.robot.episode_tables import expanded
from robot_foundry.catalog.robot.leaves import version_statistics
from robot_foundry.catalog.robot.rows import frame_rows, stored_episode_rows
from robot_foundry.catalog.robot.schema import Schema, schema_of
from robot_foundry.catalog.robot.tars import open_robot_shard
from robot_foundry.catalog.selection import SelectionSpec
from robot_foundry.catalog.tables import column_matrix
from robot_foundry.catalog.version import Version
from robot_foundry.loader.robot.episode import Episode, check_index, columns, find_episode
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.normalization.statistics import Statistics
from robot_foundry.shards.images import decode
from robot_foundry.windows.chunk_statistics import representation_statistics

_OPEN_SHARDS = 16


class Dataset:
    """A robot version as a sequence of frames, in shard, episode and frame order.

    `dataset[i]` is a dict of arrays: `state` float32 [S], `action.<stream>` float32 [A], `image.<role>` uint8
    [H, W, 3] for each camera that has this frame, `timestamp` float64 (s), `flags` uint32, `frame` int32, and
    `key`, the episode's. Columns are named by `space(stream)`.
    """

    def __init__(self, versions: OpenVersions, version: Version, split: str = "all") -> None:
        self._versions, opened = versions, versions.open(version)
        self._opened, self.version, self.manifest = opened, version, opened.manifest
        self.schema: Schema = schema_of(self.manifest)
        self.selection = opened.select(SelectionSpec(split=split))
        self._shards: OrderedDict[int, _OpenShard] = OrderedDict()

    def __len__(self) -> int:
        return self.selection.num_samples

    def __repr__(self) -> str:
        return f"Dataset({self.version}, {self.manifest.counts['episodes']} episodes, {len(self)} frames)"

    def __getitem__(self, i: int) -> dict[str, Any]:
        check_index(i, str(self.version))
        if not -len(self) <= i < len(self):
            raise IndexError(f"{self.version} has {len(self)} frames, there is no frame {i}")
        shard_n, row_n = self.selection.locate(np.array([i % len(self)], np.int64))
        return self._shard(int(shard_n[0])).frame(int(row_n[0]))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def episodes(self) -> pa.Table:
        """One row an episode of this split: key, id, row_start, num_frames, fps, success, attributes, …

        `row_start` is the episode's first row in `frames()`, and its first frame `dataset[row_start]`.
        """
        return expanded(self._episodes)

    def episode(self, name: str) -> Episode:
        """One episode by its key, or by its id where only one of this split has it."""
        row = find_episode(self._episodes, name, self._name)
        entry = {column: self._episodes[column][row].as_py() for column in self._episodes.column_names}
        start = entry["shard_row_start"]
        span = slice(start, start + entry["num_frames"])
        notes = self._opened.table("annotations")
        spans = notes.filter(pc.equal(notes["key"], entry["key"])).drop_columns(["key"])
        return Episode(
            **{column: entry[column] for column in ("key", "id", "source", "row_start", "fps", "success")},
            rows=self._shard(entry["shard"]).rows(span),
            attributes=json.loads(entry["attributes"] or "{}"),
            annotations=tuple(spans.to_pylist()),
            _frame=self.__getitem__,
        )

    @property
    def _name(self) -> str:
        split = self.selection.spec.split
        return str(self.version) if split == "all" else f"the {split} split of {self.version}"

    @cached_property
    def _episodes(self) -> pa.Table:
        return stored_episode_rows(self._opened, self.selection)

    def frames(self) -> pa.Table:
        """The canonical rows of this split, without images; row i is `dataset[i]`."""
        return frame_rows(self._opened, self.selection)

    def space(self, stream: str = "state") -> ActionSpace:
        """The named dims of `state` or of an action stream."""
        return self.schema.space(stream)

    def statistics(
        self,
        representation: str | None = None,
        *,
        stream: str = "next_state",
        horizon: int | str = 16,
        stride: int | str = 1,
        control_hz: float | None = None,
    ) -> Statistics:
        """The distribution of every dim of `stream`.

        Without a representation: the absolute values of all rows. With one: the encoded chunks of the
        training split, as the loader gives them, all offsets pooled.
        """
        if representation is None:
            return version_statistics(self._opened, stream)
        _, action = representation_statistics(
            as_mixture(self._versions, self.version),
            stream=stream,
            representation=representation,
            horizon=horizon,
            stride=stride,
            control_hz=control_hz,
        )
        return action

    def _shard(self, ordinal: int) -> _OpenShard:
        if ordinal not in self._shards:
            if len(self._shards) == _OPEN_SHARDS:
                self._shards.popitem(last=False)
            self._shards[ordinal] = _OpenShard(self._opened, self.schema, ordinal)
        self._shards.move_to_end(ordinal)
        return self._shards[ordinal]


class _OpenShard:
    """The mapped tables of one shard and its image bytes."""

    def __init__(self, opened: OpenVersion, schema: Schema, ordinal: int) -> None:
        manifest = opened.manifest
        key = manifest.shards[ordinal].key
        shard = open_robot_shard(opened.store, manifest.dataset, key, manifest.tar_hashes)
        self._images = shard.images
        self._episodes = list(shard.episodes)
        self._image_rows: Mapping[str, NDArray[np.int64]] = {
            camera.role: shard.image_rows(camera.name) for camera in schema.cameras
        }
        self._table = opened.shard_table("frames", ordinal)
        self._matrices = {
            name: column_matrix(self._table, name)
            for name in ("state", *(f"action.{stream}" for stream in schema.streams))
        }

    def rows(self, span: slice) -> dict[str, NDArray[Any]]:
        """The canonical arrays of these rows."""
        return columns(self._table, self._matrices, span)

    def frame(self, row: int) -> dict[str, Any]:
        frame: dict[str, Any] = {name: matrix[row].copy() for name, matrix in self._matrices.items()}
        for role, rows in self._image_rows.items():
            if rows[row] >= 0:
                frame[f"image.{role}"] = decode(self._images.read(int(rows[row])))
        for name, kind in (("timestamp", np.float64), ("flags", np.uint32), ("frame", np.int32)):
            frame[name] = kind(self._table[name][row].as_py())
        frame["key"] = self._episodes[self._table["episode"][row].as_py()]
        return frame
