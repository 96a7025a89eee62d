"""Small robot versions with real tars and tables, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from robot_foundry.catalog.kind import kind_named
from robot_foundry.catalog.manifest import Manifest, Quarantined, ShardEntry, TableFile, commit, count_names
from robot_foundry.catalog.robot.schema import Camera, Schema
from robot_foundry.catalog.robot.tables import ANNOTATIONS_SCHEMA, EPISODES_SCHEMA, LEAVES_SCHEMA, Flag
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import matrix_column, table_digest, write_table
from robot_foundry.catalog.version import Version
from robot_foundry.normalization.rotation import axis_angle_to_matrix, matrix_to_rot6d
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.normalization.statistics import Statistics
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.keyed import key as key_of
from robot_foundry.shards.arrays import write_npz
from robot_foundry.shards.images import encode_jpeg
from robot_foundry.shards.index import write_index
from robot_foundry.shards.tar import TarWriter

POSE = ["right.ee_position", "right.ee_rot6d", "right.gripper_opening"]
PRIMARY = {"agentview": "primary"}


def episode_key(name: str, i: int) -> str:
    return f"demo{i:03d}-{digest_of([name, i])[:12]}"


def make_version(
    store: Store,
    name: str,
    lengths: Sequence[Sequence[int]],
    *,
    seed: int = 0,
    state: Sequence[Any] = POSE,
    action: Sequence[Any] = POSE,
    embodiment: str = "panda",
    fps: float = 20.0,
    images: bool = False,
    cameras: Mapping[str, str] = PRIMARY,
    left_out: Sequence[tuple[int, int]] = (),
    centre: float = 0.0,
    stream: str = "next_state",
    texts: Sequence[Sequence[str]] = (("lift the cube 0",), ("lift the cube 1",)),
) -> Version:
    """`lengths` holds the frames of each episode of each shard.

    The last row of every episode is TERMINAL; rows 1 and 2 of the first have an invalid action and state, all
    zero. Of the episodes `left_out` (shard, episode) only the rows are there, as ingest leaves those that a
    mapping cannot read. Numbers but rotations lie about `centre`. With `images` there are pictures of all
    `cameras`, roles by the names of the source. Episodes of a shard have the `texts` by turns.
    """
    rng = np.random.default_rng(seed)
    state_space, action_space = ActionSpace(state), ActionSpace(action)
    spaces = {"state": state_space, f"action.{stream}": action_space}
    tables: dict[str, pa.Table] = {}
    episodes: list[dict[str, Any]] = []
    notes, leaves, shards = [], [], []
    number = 0
    for ordinal, counts in enumerate(lengths):
        keys = [episode_key(name, number + i) for i in range(len(counts))]
        number += len(counts)
        frames = [
            _frames(rng, i, n, spaces, first=ordinal == i == 0, centre=centre) for i, n in enumerate(counts)
        ]
        table = pa.concat_tables(frames)
        starts = np.cumsum([0, *counts])
        for i, (key, count) in enumerate(zip(keys, counts, strict=True)):
            if (ordinal, i) in left_out:
                continue
            episodes.append(
                {"shard": ordinal, "episode": i, "key": key, "id": f"demo_{i}", "row_start": int(starts[i])}
                | {"num_frames": count, "fps": fps, "duration_s": count / fps, "success": i % 2 == 0}
                | {"source": f"{name}.hdf5", "split_hash": key_of("split", key)}
            )
            for text in texts[i % len(texts)]:
                note = {"key": key, "start": 0, "end": count, "kind": "instruction", "text": text}
                notes.append(note | {"source": "spec"})
        shard_key = digest_of([name, seed, ordinal])
        shards.append(_write_shard(store, name, shard_key, keys, counts, list(cameras) if images else []))
        tables[f"frames/{shard_key}"] = table
        for column, space in spaces.items():
            matrix = np.stack(table[column].to_pylist()).astype(np.float32)
            for dim, digest in zip(space.names, Statistics.of(matrix, None, space).digests, strict=True):
                leaves.append({"shard": ordinal, "column": column, "dim": dim, "digest": digest.to_bytes()})
    tables["episodes"] = pa.Table.from_pylist(episodes, schema=EPISODES_SCHEMA)
    tables["annotations"] = pa.Table.from_pylist(notes, schema=ANNOTATIONS_SCHEMA)
    tables["leaves"] = pa.Table.from_pylist(leaves, schema=LEAVES_SCHEMA)
    seen = tuple(Camera(camera, role, 16, 24, "jpg") for camera, role in cameras.items()) if images else ()
    manifest = Manifest(
        name,
        digest_of([name, seed, len(lengths)]),
        Schema(state_space.dims, {stream: action_space.dims}, seen, embodiment, fps),
        "robot",
        tuple(shards),
        {path: table_digest(table) for path, table in tables.items()},
        dict.fromkeys(count_names(kind_named("robot")), 0)
        | {"discovered": number + 1, "written": number, "quarantined": 1, "episodes": len(episodes)}
        | {
            "frames": sum(row["num_frames"] for row in episodes),
            "bytes": sum(shard.tar_bytes for shard in shards),
        },
        {"source": f"{name}.hdf5", "spec": "robomimic"},
        quarantined=(Quarantined(f"{name}.hdf5#demo_9", "no actions"),),
        files={path: TableFile.of(write_table(table)) for path, table in tables.items()},
    )
    for path, table in tables.items():
        store.storage.write(store.table(name, manifest.version_id, path), write_table(table))
    return commit(store, manifest)


def _frames(
    rng: np.random.Generator,
    episode: int,
    n: int,
    spaces: dict[str, ActionSpace],
    first: bool,
    centre: float,
) -> pa.Table:
    flags = np.zeros(n, np.uint32)
    flags[-1] = Flag.TERMINAL
    if first:
        flags[1], flags[2] = Flag.INVALID_ACTION, Flag.INVALID_STATE
    columns = {
        "episode": pa.array(np.full(n, episode, np.int32)),
        "frame": pa.array(np.arange(n, dtype=np.int32)),
        "timestamp": pa.array(np.arange(n) / 20.0),
        "flags": pa.array(flags),
    }
    rotation = matrix_to_rot6d(axis_angle_to_matrix(rng.normal(size=(n, 3))))
    for column, space in spaces.items():
        values = rng.normal(size=(n, len(space))) + centre
        for part in ("right", "left"):
            for i in range(6):
                if f"{part}.ee_rot6d.{i}" in space:
                    values[:, space.index(f"{part}.ee_rot6d.{i}")] = rotation[:, i]
        values[(flags & (Flag.INVALID_STATE if column == "state" else Flag.INVALID_ACTION)) != 0] = 0
        columns[column] = matrix_column(values.astype(np.float32))
    return pa.table(columns)


def _write_shard(
    store: Store,
    name: str,
    shard_key: str,
    keys: Sequence[str],
    counts: Sequence[int],
    cameras: Sequence[str],
) -> ShardEntry:
    members = {}
    for i, (key, count) in enumerate(zip(keys, counts, strict=True)):
        members[f"{key}.episode.json"] = json.dumps({"num_frames": count}).encode()
        members[f"{key}.source.npz"] = write_npz({"actions": np.zeros((count, 1))})
        for number, camera in enumerate(cameras):
            for frame in range(count):
                pixels = np.full((16, 24, 3), 10 * i + frame + 40 * number, np.uint8)
                members[f"{key}-{frame:06d}.{camera}.jpg"] = encode_jpeg(pixels)
    with store.storage.writer(store.shard_tar(name, shard_key)) as file:
        tar = TarWriter(file)
        for member in sorted(members):
            tar.add(member, members[member])
        summary = tar.close()
    store.storage.write(store.shard_index(name, shard_key), write_index(summary.members))
    return ShardEntry(shard_key, summary.sha256, summary.num_bytes, len(keys), sum(counts))
