"""Frames, episodes and annotations of robot data as parquet.

Legend: R rows of a shard, n rows of a row group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.opened import Part
from robot_foundry.catalog.robot.schema import Camera, schema_of
from robot_foundry.export.parquet.files import IMAGE, described, write
from robot_foundry.export.parquet.planned import PlannedFile, about, export_files
from robot_foundry.export.parquet.robot_plan import Rows, opened_shard, plan_of
from robot_foundry.export.parquet.robot_tables import (
    annotations_table,
    episodes_table,
    frame_table,
    frames_schema,
)
from robot_foundry.export.report import ExportReport
from robot_foundry.export.request import ExportRequest
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.errors import CorruptData
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.segments import JoinedReader

EPISODES, ANNOTATIONS = "episodes", "annotations"


def export_robot(part: Part, out: Path, request: ExportRequest) -> ExportReport:
    """The selected rows of a version, into a folder."""
    work = _Work(part, request)
    plan = work.plan
    files = [
        PlannedFile(
            f"frames/{number:06d}.parquet",
            sum(len(rows.row_n) for rows in groups),
            sum(rows.num_bytes for rows in groups),
            partial(work.write_frames, groups),
        )
        for number, groups in enumerate(plan.files)
    ]
    files += [
        PlannedFile(f"{EPISODES}.parquet", 0, 0, work.write_episodes),
        PlannedFile(f"{ANNOTATIONS}.parquet", 0, 0, work.write_annotations),
    ]
    return export_files(
        part,
        out,
        request,
        files,
        counts={"episodes": len(plan.episode_E), "frames": int(plan.count_E.sum())},
        tables={"frames": "frames/*.parquet"} | {n: f"{n}.parquet" for n in (EPISODES, ANNOTATIONS)},
        unit="frames",
    )


class _Work:
    """One version on its way."""

    def __init__(self, part: Part, request: ExportRequest) -> None:
        self.part, self.schema = part, schema_of(part.manifest)
        cameras = sorted(self.schema.cameras, key=lambda camera: camera.role)
        self.cameras: Sequence[Camera] = cameras if request.options["images"] else ()
        self.plan = plan_of(part, self.cameras, request.options["file_bytes"])
        roles = [camera.role for camera in self.cameras]
        self.frames_schema = described(frames_schema(self.schema, roles), self._about("frames"))

    def write_frames(self, groups: Sequence[Rows], path: Path) -> int:
        """A file of these row groups."""
        return write(path, self.frames_schema, self._tables(groups))

    def write_episodes(self, path: Path) -> int:
        """A row for each episode that has a frame here."""
        episodes = self.part.opened.table("episodes").take(pa.array(self.plan.episode_E))
        return self._write(EPISODES, episodes_table(episodes, self.plan.count_E.tolist()), path)

    def write_annotations(self, path: Path) -> int:
        """The annotations of these episodes."""
        keys = self.part.opened.table("episodes")["key"].take(pa.array(self.plan.episode_E))
        table = annotations_table(self.part.opened.table("annotations"), keys.combine_chunks())
        return self._write(ANNOTATIONS, table, path)

    def _write(self, name: str, table: pa.Table, path: Path) -> int:
        return write(path, described(table.schema, self._about(name)), [table])

    def _about(self, table: str) -> dict[str, Any]:
        schema = self.schema
        told = {"embodiment": schema.embodiment, "fps": schema.fps, "tool_frame": schema.tool_frame}
        return about(self.part, table, told)

    def _tables(self, groups: Sequence[Rows]) -> Iterator[pa.Table]:
        current, frames, images = -1, pa.table({}), dict[str, _Images]()
        for rows in groups:
            if rows.shard != current:
                current, frames = rows.shard, self.part.opened.shard_table("frames", rows.shard)
                images = self._images(rows.shard)
            chosen = frames.take(pa.array(rows.row_n))
            frame_n = chosen["frame"].to_numpy()
            columns = {role: of_role.column(rows, frame_n) for role, of_role in images.items()}
            yield frame_table(chosen, self.schema, rows.key, rows.episode, columns)

    def _images(self, ordinal: int) -> dict[str, _Images]:
        if not self.cameras:
            return {}
        shard, version = opened_shard(self.part, ordinal), self.part.component.version
        return {
            camera.role: _Images(shard.images, shard.image_rows(camera.name), camera, version)
            for camera in self.cameras
        }


class _Images:
    """The images of one camera in one shard."""

    def __init__(
        self,
        reader: ShardReader | JoinedReader,
        member_row_R: NDArray[np.int64],
        camera: Camera,
        version: str,
    ) -> None:
        self._reader, self._member_row_R = reader, member_row_R
        self._camera, self._version = camera, version

    def column(self, rows: Rows, frame_n: NDArray[np.int32]) -> pa.Array:
        """The encoded images of these rows, null where there is none."""
        ending = "png" if self._camera.encoding == "png" else "jpg"
        values: list[dict[str, Any] | None] = []
        for member, frame in zip(self._member_row_R[rows.row_n].tolist(), frame_n.tolist(), strict=True):
            name = f"{rows.key}-{frame:06d}.{self._camera.role}.{ending}"
            values.append(None if member < 0 else {"bytes": self._read(member), "path": name})
        return pa.array(values, IMAGE)

    def _read(self, member: int) -> bytes:
        try:
            return self._reader.read(member)
        except CorruptData as error:
            raise FoundryError(
                f"an image of {self._version} cannot go out: {error}",
                hint=f"foundry-data validate {self._version} --deep, and leave the episode out (--exclude)",
            ) from error
