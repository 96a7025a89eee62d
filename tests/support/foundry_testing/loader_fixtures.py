"""Robot versions with everything a loader can meet, written through shards and catalog.

Every pixel, state and target tells the dataset, episode and frame it belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.kind import kind_named
from robot_foundry.catalog.manifest import Manifest, ShardEntry, TableFile, commit, count_names
from robot_foundry.catalog.robot.schema import Camera, Schema
from robot_foundry.catalog.robot.tables import ANNOTATIONS_SCHEMA, EPISODES_SCHEMA, LEAVES_SCHEMA, Flag
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import matrix_column, table_digest, write_table
from robot_foundry.catalog.version import Version
from robot_foundry.normalization.rotation import axis_angle_to_matrix, matrix_to_rot6d
from robot_foundry.normalization.space import ActionSpace, dims_for
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.keyed import generator, key
from robot_foundry.shards.arrays import write_npz
from robot_foundry.shards.images import encode_jpeg
from robot_foundry.shards.index import write_index
from robot_foundry.shards.tar import TarWriter

Encode = Callable[[np.random.Generator, int, int], bytes]
POSE = ["right.ee_position", "right.ee_rot6d", "right.gripper_opening"]


@dataclass
class Episode:
    """What was written, kept as the truth that tests compare with."""

    key: str
    state: NDArray[np.float32]
    target: NDArray[np.float32]
    flags: NDArray[np.uint32]
    images: dict[str, list[bytes | None]]  # by role
    notes: list[tuple[int, int, str]]


@dataclass
class Written:
    version: Version
    schema: Schema
    episodes: list[Episode] = field(default_factory=list)

    def rows(self) -> list[tuple[Episode, int]]:
        """(episode, frame) of every sample of the split 'all', in order."""
        return [(episode, frame) for episode in self.episodes for frame in range(len(episode.flags))]


def write_version(
    store: Store,
    name: str,
    shards: Sequence[Sequence[int]],
    *,
    cameras: Mapping[str, tuple[int, int]] | None = None,
    embodiment: str = "panda",
    joints: int = 0,
    fps: float = 20.0,
    flaws: bool = True,
    garbage: float = 1e6,
    state: Sequence[str] = POSE,
    encode: Encode | None = None,
    spoil: Callable[[Episode, float], None] | None = None,
) -> Written:
    """`shards` holds the frames of every episode of every shard; `cameras` the (height, width) of each role.

    With flaws: in every episode of at least 9 frames, frame 3 has an invalid state and frame 5 an invalid
    action, both of the value `garbage`, frame 7 a NaN in its target, and frame 6 no image of the first
    camera; or what `spoil` does to such an episode. `encode` makes the JPEG of a frame; without it frames are
    ramps of colour.
    """
    cameras = cameras or {}
    more = dims_for("right.joint_velocity", count=joints) if joints else ()
    full_space, action_space = ActionSpace([*POSE, *more]), ActionSpace(POSE)
    state_space = ActionSpace([*state, *more])
    entries, tables = [], {}
    rows: dict[str, list[dict[str, Any]]] = {"episodes": [], "annotations": []}
    written: list[Episode] = []
    for ordinal, lengths in enumerate(shards):
        made = []
        for i, length in enumerate(lengths):
            rng = generator("fixture", name, ordinal, i)
            episode = _episode(
                f"ep{ordinal}{i}-{name}", rng, length, len(full_space), cameras, encode or _ramp
            )
            if flaws and length >= 9:
                (spoil or _spoil)(episode, garbage)
            episode.state = state_space.gather(episode.state, full_space)
            made.append(episode)
        shard_key = digest_of(["fixture", name, ordinal])
        entries.append(_write_shard(store, name, shard_key, made))
        tables[f"frames/{shard_key}"] = _frames(made)
        start = 0
        for i, episode in enumerate(made):
            length = len(episode.flags)
            rows["episodes"].append(
                {"shard": ordinal, "episode": i, "key": episode.key, "id": f"demo_{i}", "row_start": start}
                | {
                    "num_frames": length,
                    "fps": fps,
                    "duration_s": length / fps,
                    "success": True,
                    "source": name,
                    "split_hash": key("split", episode.key),
                }
            )
            for first, end, text in episode.notes:
                note = {"key": episode.key, "start": first, "end": end, "kind": "instruction", "text": text}
                rows["annotations"].append(note | {"source": "test"})
            start += length
        written += made
    tables["episodes"] = pa.Table.from_pylist(rows["episodes"], schema=EPISODES_SCHEMA)
    tables["annotations"] = pa.Table.from_pylist(rows["annotations"], schema=ANNOTATIONS_SCHEMA)
    tables["leaves"] = pa.Table.from_pylist([], schema=LEAVES_SCHEMA)
    schema = Schema(
        state_space.dims,
        {"next_state": action_space.dims},
        tuple(Camera(f"{role}_camera", role, *size, "jpg") for role, size in cameras.items()),
        embodiment,
        fps,
    )
    manifest = Manifest(
        name,
        digest_of(["fixture", name]),
        schema,
        "robot",
        tuple(entries),
        {path: table_digest(table) for path, table in tables.items()},
        dict.fromkeys(count_names(kind_named("robot")), 0),
        files={path: TableFile.of(write_table(table)) for path, table in tables.items()},
    )
    for path, table in tables.items():
        store.storage.write(store.table(name, manifest.version_id, path), write_table(table))
    return Written(commit(store, manifest), schema, written)


def _episode(
    key: str,
    rng: np.random.Generator,
    length: int,
    state_dims: int,
    cameras: Mapping[str, tuple[int, int]],
    encode: Encode,
) -> Episode:
    state = _values(rng, length, state_dims)
    target = np.concatenate([state[1:, :10], state[-1:, :10]])
    target[:, 9] = rng.uniform(size=length)
    flags = np.zeros(length, np.uint32)
    images: dict[str, list[bytes | None]] = {
        role: [encode(rng, *size) for _ in range(length)] for role, size in cameras.items()
    }
    half = length // 2
    notes = [(0, length, f"lift {key}"), (0, half, f"start {key}")] if half else []
    return Episode(key, state, target, flags, images, notes)


def _ramp(rng: np.random.Generator, height: int, width: int) -> bytes:
    left_3, right_3 = rng.integers(0, 255, (2, 3))
    ramp = np.linspace(0, 1, width)[:, None]
    line = (left_3 * ramp + right_3 * (1 - ramp)).astype(np.uint8)
    return encode_jpeg(line[None].repeat(height, 0))


def _spoil(episode: Episode, garbage: float) -> None:
    episode.flags[3] |= Flag.INVALID_STATE
    episode.state[3] = garbage
    episode.flags[5] |= Flag.INVALID_ACTION
    episode.target[5] = garbage
    episode.target[7, 1] = np.nan
    for images in list(episode.images.values())[:1]:
        images[6] = None


def _values(rng: np.random.Generator, length: int, dims: int) -> NDArray[np.float32]:
    values = rng.normal(size=(length, dims))
    values[:, 3:9] = matrix_to_rot6d(axis_angle_to_matrix(rng.normal(size=(length, 3))))
    values[:, 9] = rng.uniform(size=length)
    return values.astype(np.float32)


def _frames(episodes: Sequence[Episode]) -> pa.Table:
    lengths = [len(episode.flags) for episode in episodes]
    frame = np.concatenate([np.arange(n, dtype=np.int32) for n in lengths])
    return pa.table(
        {
            "episode": pa.array(np.repeat(np.arange(len(episodes), dtype=np.int32), lengths)),
            "frame": pa.array(frame),
            "timestamp": pa.array(frame / 20.0),
            "flags": pa.array(np.concatenate([episode.flags for episode in episodes])),
            "state": matrix_column(np.concatenate([episode.state for episode in episodes])),
            "action.next_state": matrix_column(np.concatenate([episode.target for episode in episodes])),
        }
    )


def _write_shard(store: Store, name: str, shard_key: str, episodes: Sequence[Episode]) -> ShardEntry:
    members: dict[str, bytes] = {}
    for episode in episodes:
        members[f"{episode.key}.episode.json"] = json.dumps({"num_frames": len(episode.flags)}).encode()
        members[f"{episode.key}.source.npz"] = write_npz({"actions": np.zeros((len(episode.flags), 1))})
        for role, frames in episode.images.items():
            for i, data in enumerate(frames):
                if data is not None:
                    members[f"{episode.key}-{i:06d}.{role}_camera.jpg"] = data
    with store.storage.writer(store.shard_tar(name, shard_key)) as file:
        tar = TarWriter(file)
        for member in sorted(members):
            tar.add(member, members[member])
        summary = tar.close()
    store.storage.write(store.shard_index(name, shard_key), write_index(summary.members))
    num_frames = sum(len(episode.flags) for episode in episodes)
    return ShardEntry(shard_key, summary.sha256, summary.num_bytes, len(episodes), num_frames)
