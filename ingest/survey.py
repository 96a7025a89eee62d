"""What a shard holds, without its images: enough to fit a mapping to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robot_foundry.catalog.store import Store
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.shards.index import read_index, tar_bytes, tar_sha256
from robot_foundry.shards.reader import RobotShard, ShardReader


@dataclass(frozen=True)
class Surveyed:
    """What is known of an episode in a tar without its numbers; `shapes` are of the arrays in source.npz."""

    key: str
    episode: Mapping[str, Any]  # episode.json
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def unit(self) -> str:
        """The name of its unit of the source."""
        return f"{self.episode['source']['path']}#{self.episode['id']}"


@dataclass(frozen=True)
class Shard:
    """A whole shard. `refused` are (unit, reason) of the units that were meant for it and cannot be read."""

    key: str
    tar_sha256: str
    tar_bytes: int
    episodes: tuple[Surveyed, ...]
    refused: tuple[tuple[str, str], ...]
    reused: bool

    @property
    def num_frames(self) -> int:
        return sum(int(item.episode["num_frames"]) for item in self.episodes)


def open_shard(store: Store, dataset: str, shard_key: str) -> RobotShard:
    """The tar of a shard through its index."""
    index = read_index(store.storage, store.shard_index(dataset, shard_key))
    return RobotShard(ShardReader(store.storage, store.shard_tar(dataset, shard_key), index))


def survey(store: Store, dataset: str, shard_key: str) -> Shard:
    """The shard as its tar tells it. Which units were refused, no tar says."""
    shard = open_shard(store, dataset, shard_key)
    episodes = tuple(
        Surveyed(key, shard.episode_json(key), {name: a.shape for name, a in shard.source(key).items()})
        for key in shard.episodes
    )
    index = shard.reader.index
    return Shard(shard_key, tar_sha256(index), tar_bytes(index), episodes, (), reused=True)


def cached_survey(store: Store, dataset: str, shard_key: str) -> Shard | None:
    """The survey that `cache_survey` kept, refusals and all, if it is of the tar that is there."""
    path = _cache_path(shard_key)
    if not store.storage.exists(path):
        return None
    values = json.loads(store.storage.read_bytes(path))
    index = read_index(store.storage, store.shard_index(dataset, shard_key))
    if values["tar_sha256"] != tar_sha256(index):
        return None
    episodes = tuple(
        Surveyed(key, episode, {name: tuple(shape) for name, shape in shapes.items()})
        for key, episode, shapes in values["episodes"]
    )
    refused = tuple((str(unit), str(reason)) for unit, reason in values["refused"])
    return Shard(shard_key, values["tar_sha256"], values["tar_bytes"], episodes, refused, reused=True)


def cache_survey(store: Store, shard: Shard) -> None:
    """Keep a survey, so that the next run need not open the tar."""
    values = {
        "tar_sha256": shard.tar_sha256,
        "tar_bytes": shard.tar_bytes,
        "episodes": [[item.key, dict(item.episode), dict(item.shapes)] for item in shard.episodes],
        "refused": shard.refused,
    }
    store.storage.write(_cache_path(shard.key), canonical_json(values))


def _cache_path(shard_key: str) -> str:
    return f"cache/surveys/{shard_key}.json"
