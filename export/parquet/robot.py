"""Frames, episodes and annotations of robot data as parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from robot_foundry.catalog.opened import Part
from robot_foundry.catalog.robot.schema import Camera, schema_of
from robot_foundry.export.outputs import open_output
from robot_foundry.export.parquet import card, files
from robot_foundry.export.parquet.robot_plan import Plan, Rows, opened_shard, plan_of
from robot_foundry.export.parquet.robot_tables import (
    annotations_table,
    episodes_table,
    frame_table,
    frames_schema,
)
from robot_foundry.export.report import ExportReport
from robot_foundry.export.request import ExportRequest
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.progress import Progress
from robot_foundry.shards.errors import CorruptData
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.segments import JoinedReader

FORMAT = 1
EPISODES, ANNOTATIONS = "episodes.parquet", "annotations.parquet"


def export_robot(part: Part, out: Path, request: ExportRequest) -> ExportReport:
    """The selected rows of a version, into a folder."""
    work = _Work(part, request)
    return work.report(out, dry_run=True) if request.dry_run else work.write(out)


class _Work:
    """One version on its way."""

    def __init__(self, part: Part, request: ExportRequest) -> None:
        self.part, self.schema = part, schema_of(part.manifest)
        cameras = sorted(self.schema.cameras, key=lambda camera: camera.role)
        self.cameras: Sequence[Camera] = cameras if request.options["images"] else ()
        self.file_bytes = int(request.options["file_bytes"])
        self.plan: Plan = plan_of(part, self.cameras, self.file_bytes)
        self.frames_schema = files.described(
            frames_schema(self.schema, [camera.role for camera in self.cameras]), self.about("frames")
        )

    def about(self, table: str) -> dict[str, Any]:
        """What stands in the metadata of every file."""
        component = self.part.component
        return {
            "format": FORMAT,
            "table": table,
            "dataset": component.dataset,
            "version_id": component.version_id,
            "selection": dict(component.selection),
            "embodiment": self.schema.embodiment,
            "fps": self.schema.fps,
            "tool_frame": self.schema.tool_frame,
        }

    def paths(self) -> list[str]:
        """All files; the card, which names them, is the last."""
        return [*self._frame_files(), EPISODES, ANNOTATIONS, card.NAME]

    def write(self, out: Path) -> ExportReport:
        """Make the files that are not whole yet."""
        identity = {
            "format": ["parquet", FORMAT],
            "selection": self.part.select().id,
            "about": self.about("frames"),
            "images": [camera.role for camera in self.cameras],
            "file_bytes": self.file_bytes,
            "encoders": files.encoders(),
        }
        with open_output(out, identity, self.paths()) as output:
            done = [output.finished(path) is not None for path in self._frame_files()]
            before = sum(n for n, is_done in zip(self._file_rows(), done, strict=True) if is_done)
            with Progress(int(self.plan.count_E.sum()), "frames", "export", done=before) as progress:
                for path, groups, is_done in zip(self._frame_files(), self.plan.files, done, strict=True):
                    entry = output.make(path, partial(self._frames, groups))
                    if not is_done:
                        progress.advance(sum(len(rows.row_n) for rows in groups), bytes=entry.num_bytes)
            output.make(EPISODES, self._episodes)
            output.make(ANNOTATIONS, self._annotations)
            output.make(card.NAME, self._card)
            return self.report(out, num_bytes=output.num_bytes, reused=output.reused)

    def report(
        self, out: Path, *, num_bytes: int | None = None, reused: int = 0, dry_run: bool = False
    ) -> ExportReport:
        """Of what was written, or would be."""
        counts = {"episodes": len(self.plan.episode_E), "frames": int(self.plan.count_E.sum())}
        size = self.plan.num_bytes if num_bytes is None else num_bytes
        return ExportReport(out, dry_run, counts, len(self.paths()), size, reused, files.encoders())

    def _frame_files(self) -> list[str]:
        return [f"frames/{number:06d}.parquet" for number in range(len(self.plan.files))]

    def _file_rows(self) -> Iterator[int]:
        return (sum(len(rows.row_n) for rows in groups) for groups in self.plan.files)

    def _frames(self, groups: Sequence[Rows], path: Path) -> Mapping[str, Any]:
        return {"rows": files.write(path, self.frames_schema, self._tables(groups))}

    def _tables(self, groups: Sequence[Rows]) -> Iterator[pa.Table]:
        current, frames, images = -1, pa.table({}), dict[str, _Images]()
        for rows in groups:
            if rows.shard != current:
                current, frames = rows.shard, self.part.opened.shard_table("frames", rows.shard)
                images = self._images(rows.shard)
            chosen = frames.take(pa.array(rows.row_n))
            columns = {
                role: of_role.column(rows, chosen["frame"].to_numpy()) for role, of_role in images.items()
            }
            yield frame_table(chosen, self.schema, rows.key, rows.episode, columns)

    def _images(self, ordinal: int) -> dict[str, _Images]:
        if not self.cameras:
            return {}
        shard = opened_shard(self.part, ordinal)
        return {
            camera.role: _Images(
                shard.images, shard.image_rows(camera.name), camera, self.part.component.version
            )
            for camera in self.cameras
        }

    def _episodes(self, path: Path) -> Mapping[str, Any]:
        episodes = self.part.opened.table("episodes").take(pa.array(self.plan.episode_E))
        table = episodes_table(episodes, self.plan.count_E.tolist())
        schema = files.described(table.schema, self.about("episodes"))
        return {"rows": files.write(path, schema, [table])}

    def _annotations(self, path: Path) -> Mapping[str, Any]:
        keys = self.part.opened.table("episodes")["key"].take(pa.array(self.plan.episode_E))
        table = annotations_table(self.part.opened.table("annotations"), keys.combine_chunks())
        schema = files.described(table.schema, self.about("annotations"))
        return {"rows": files.write(path, schema, [table])}

    def _card(self, path: Path) -> None:
        tables = {"frames": "frames/*.parquet", "episodes": EPISODES, "annotations": ANNOTATIONS}
        path.write_text(card.text(self.part.component, tables), "utf-8")


class _Images:
    """The images of one camera in one shard."""

    def __init__(
        self, reader: ShardReader | JoinedReader, row_R: np.ndarray, camera: Camera, version: str
    ) -> None:
        self._reader, self._row_R, self._camera, self._version = reader, row_R, camera, version

    def column(self, rows: Rows, frame_n: np.ndarray) -> pa.Array:
        """The encoded images of these rows, null where there is none."""
        values = []
        for member, frame in zip(self._row_R[rows.row_n].tolist(), frame_n.tolist(), strict=True):
            if member < 0:
                values.append(None)
                continue
            name = f"{rows.key}-{frame:06d}.{self._camera.role}.{self._camera.encoding}"
            values.append({"bytes": self._read(member), "path": name})
        return pa.array(values, files.IMAGE)

    def _read(self, member: int) -> bytes:
        try:
            return self._reader.read(member)
        except CorruptData as error:
            raise FoundryError(
                f"an image of {self._version} cannot go out: {error}",
                hint=f"foundry-data validate {self._version} --deep, and leave the episode out (--exclude)",
            ) from error
