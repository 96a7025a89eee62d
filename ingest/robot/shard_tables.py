"""The canonical tables of one shard, computed from its tar's episode.json and source.npz alone.

Results go to the store's cache, named by all that defines them, so that only what changed is computed again.

Legend: N frames of the shard, D dims.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.robot.leaves import shard_leaves
from robot_foundry.catalog.robot.plausibility import shard_evidence
from robot_foundry.catalog.robot.tables import Flag, frames_schema
from robot_foundry.catalog.robot.tars import open_robot_shard
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import matrix_column, table_digest, write_table
from robot_foundry.checks import rules as checks
from robot_foundry.checks.evidence import Evidence
from robot_foundry.ingest.robot.absence.notes import Notes
from robot_foundry.ingest.robot.mapping import Canonical, canonical
from robot_foundry.ingest.robot.resolve import Resolution
from robot_foundry.ingest.robot.spec.spec import mapping_json
from robot_foundry.ingest.sources import Refused
from robot_foundry.runtime.canonical import canonical_json, digest_of
from robot_foundry.runtime.keyed import key as key_of
from robot_foundry.runtime.storage.cache import keep, kept

TABLES_VERSION = 3


@dataclass(frozen=True)
class TablesTask:
    """What a worker needs to compute the tables of a shard. `problems` are those of its episodes."""

    store: Store
    dataset: str
    shard_key: str
    resolution: Resolution
    problems: Mapping[str, str]

    @cached_property
    def folder(self) -> str:
        """Where the results lie in the cache."""
        digest = digest_of(
            {
                "tables": TABLES_VERSION,
                "checks": checks.VERSION,
                "mapping": mapping_json(self.resolution.mapping),
                "schema": self.resolution.schema.to_json(),
                "problems": dict(self.problems),
            }
        )
        return f"cache/tables/{digest}/{self.shard_key}"

    @property
    def frames_path(self) -> str:
        return f"{self.folder}.frames.arrow"


@dataclass(frozen=True)
class ShardTables:
    """`episodes`, `annotations` and `leaves` are rows; `problems` maps episode keys to why they have none.

    `evidence` is what the data checks measured, `notes` is what is told of the episodes.
    """

    frames_digest: str
    episodes: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    leaves: list[dict[str, Any]]
    problems: dict[str, str]
    evidence: Evidence
    notes: Notes


def shard_tables(task: TablesTask) -> ShardTables:
    """The shard's tables, computed if they are not cached. The frames table itself lies at frames_path."""
    storage, path = task.store.storage, f"{task.folder}.json"
    cached = kept(storage, path)
    if cached is not None and kept(storage, task.frames_path) is not None:
        return _from_json(json.loads(cached))
    frames, tables = _compute(task)
    keep(storage, task.frames_path, write_table(frames))
    keep(storage, path, canonical_json(_to_json(tables)))
    return tables


def _compute(task: TablesTask) -> tuple[pa.Table, ShardTables]:
    schema, problems = task.resolution.schema, dict(task.problems)
    shard = open_robot_shard(task.store, task.dataset, task.shard_key)
    image_rows = {camera: shard.image_rows(camera) for camera in shard.cameras}
    parts: list[pa.Table] = []
    episodes, annotations, notes = [], [], Notes()
    row_start = 0
    for ordinal, key in enumerate(shard.episodes):
        episode, rows = shard.episode_json(key), None
        num_frames = int(episode["num_frames"])
        if key not in problems:
            try:
                rows = canonical(task.resolution.mapping, schema, episode, shard.source(key))
            except Refused as error:
                problems[key] = error.message
        # Rows of a frames table answer to the images of the tar one by one, so every episode has its rows.
        episode_rows = slice(row_start, row_start + num_frames)
        held_N = _held_images(episode["cameras"], image_rows, episode_rows)
        rows_or_blank = rows or _blank(task.resolution, num_frames)
        parts.append(_frames(task.resolution, ordinal, rows_or_blank, held_N))
        if rows is not None:
            episodes.append(_episode_row(ordinal, key, row_start, episode, rows))
            annotations += [
                dict(zip(("start", "end", "kind", "text", "source"), entry, strict=True), key=key)
                for entry in rows.annotations
            ]
            notes.add(rows.notes, str(episode["id"]))
        row_start += num_frames
    streams = {name: len(dims) for name, dims in schema.streams.items()}
    empty = frames_schema(len(schema.state), streams).empty_table()
    frames = pa.concat_tables([empty, *parts]).combine_chunks()
    leaves = shard_leaves(schema, frames, {row["episode"] for row in episodes})
    evidence = shard_evidence(schema, frames, episodes, shard)
    digest = table_digest(frames)
    return frames, ShardTables(digest, episodes, annotations, leaves, problems, evidence, notes)


def _held_images(
    cameras: Mapping[str, Mapping[str, Any]], image_rows: Mapping[str, NDArray[np.int64]], episode_rows: slice
) -> NDArray[np.uint32]:
    """uint32 [N]: the flag where one of the episode's cameras has no image of its own."""
    lacks_N = np.zeros(episode_rows.stop - episode_rows.start, bool)
    for name, camera in cameras.items():
        lacks_N |= image_rows[name][episode_rows] < 0 if name in image_rows else True
        lacks_N[camera.get("held", [])] = True
    return np.where(lacks_N, np.uint32(Flag.HELD_IMAGE), np.uint32(0))


def _frames(resolution: Resolution, ordinal: int, rows: Canonical, held_N: NDArray[np.uint32]) -> pa.Table:
    num_frames = len(rows.flags_N)
    streams = {name: len(dims) for name, dims in resolution.schema.streams.items()}
    return pa.Table.from_arrays(
        [
            pa.array(np.full(num_frames, ordinal, np.int32)),
            pa.array(np.arange(num_frames, dtype=np.int32)),
            pa.array(rows.timestamp_N),
            pa.array(rows.flags_N | held_N),
            matrix_column(rows.state_ND),
            *(matrix_column(rows.streams[name]) for name in sorted(streams)),
        ],
        schema=frames_schema(len(resolution.schema.state), streams),
    )


def _blank(resolution: Resolution, num_frames: int) -> Canonical:
    """Rows of an episode that the mapping cannot read: they belong to no episode and are flagged invalid."""
    schema = resolution.schema
    return Canonical(
        np.zeros((num_frames, len(schema.state)), np.float32),
        {name: np.zeros((num_frames, len(dims)), np.float32) for name, dims in schema.streams.items()},
        np.full(num_frames, Flag.INVALID_STATE | Flag.INVALID_ACTION, np.uint32),
        np.zeros(num_frames),
        None,
        (),
        Notes(),
    )


def _episode_row(
    ordinal: int, key: str, row_start: int, episode: Mapping[str, Any], rows: Canonical
) -> dict[str, Any]:
    return {
        "episode": ordinal,
        "key": key,
        "id": episode["id"],
        "row_start": row_start,
        "num_frames": len(rows.flags_N),
        "fps": float(episode["fps"]),
        "duration_s": float(rows.timestamp_N[-1] - rows.timestamp_N[0] + 1.0 / float(episode["fps"])),
        "success": rows.success,
        "source": episode["source"]["path"],
        "split_hash": _split_hash(episode),
        "attributes": canonical_json(episode["attributes"]).decode(),
    }


def _split_hash(episode: Mapping[str, Any]) -> int:
    """What decides the side of a split: the content of the file and the id in it, and no path."""
    source = episode["source"]
    return key_of("split", source["blake3"], "" if source.get("whole_file") else episode["id"])


def _to_json(tables: ShardTables) -> dict[str, Any]:
    return {
        "frames_digest": tables.frames_digest,
        "episodes": tables.episodes,
        "annotations": tables.annotations,
        "leaves": [{**leaf, "digest": leaf["digest"].hex()} for leaf in tables.leaves],
        "problems": tables.problems,
        "evidence": tables.evidence.to_json(),
        "notes": tables.notes.to_json(),
    }


def _from_json(values: dict[str, Any]) -> ShardTables:
    leaves = [{**leaf, "digest": bytes.fromhex(leaf["digest"])} for leaf in values["leaves"]]
    return ShardTables(
        values["frames_digest"],
        values["episodes"],
        values["annotations"],
        leaves,
        values["problems"],
        Evidence.from_json(values["evidence"]),
        Notes.from_json(values["notes"]),
    )
