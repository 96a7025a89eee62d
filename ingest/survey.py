"""What a shard holds, without its images: enough to fit a mapping to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from robot_foundry.catalog.opening import open_robot_shard
from robot_foundry.catalog.store import Store
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.storage.cache import keep, kept
from robot_foundry.shards.index import read_index, tar_bytes, tar_sha256


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
class Tar:
    """A tar with images of an episode whose head is another shard."""

    key: str
    sha256: str
    num_bytes: int


@dataclass(frozen=True)
class Shard:
    """A whole shard. `refused` are (unit, reason) of the units that were meant for it and cannot be read.

    `segments` are the tars with the later images of its episode, if that is too long for one.
    """

    key: str
    tar_sha256: str
    tar_bytes: int
    episodes: tuple[Surveyed, ...]
    refused: tuple[tuple[str, str], ...]
    reused: bool
    segments: tuple[Tar, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Of all its tars."""
        return self.tar_bytes + sum(tar.num_bytes for tar in self.segments)

    @property
    def num_frames(self) -> int:
        return sum(int(item.episode["num_frames"]) for item in self.episodes)


class Interned:
    """Keeps one copy of what episodes have in common, so that surveys of many shards fit into memory.

    Most of an episode.json (cameras, environment, what was left out) is the same in all episodes of a source.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Any] = {}

    def shard(self, shard: Shard) -> Shard:
        """The same shard, its parts shared with those that came before."""
        return replace(shard, episodes=tuple(map(self._episode, shard.episodes)))

    def _episode(self, item: Surveyed) -> Surveyed:
        shared = {
            name: self._one(value) if isinstance(value, dict) else value
            for name, value in item.episode.items()
            if name != "annotations"  # only the tables need these, which read them from the tar
        }
        shared["text_kinds"] = self._one(
            sorted({kind for _, _, kind, _ in item.episode.get("annotations", ())})
        )
        return Surveyed(item.key, shared, self._one({name: list(s) for name, s in item.shapes.items()}))

    def _one(self, value: Any) -> Any:
        return self._known.setdefault(canonical_json(value), value)


def survey(store: Store, dataset: str, shard_key: str) -> Shard:
    """The shard as its tar tells it. Which units were refused, no tar says."""
    shard = open_robot_shard(store, dataset, shard_key)
    episodes = tuple(
        Surveyed(key, shard.episode_json(key), {name: a.shape for name, a in shard.source(key).items()})
        for key in shard.episodes
    )
    index = shard.reader.index
    segments = tuple(_tar(store, dataset, segment.shard_key) for _, segment in shard.segments)
    return Shard(shard_key, tar_sha256(index), tar_bytes(index), episodes, (), reused=True, segments=segments)


def _tar(store: Store, dataset: str, shard_key: str) -> Tar:
    index = read_index(store.storage, store.shard_index(dataset, shard_key))
    return Tar(shard_key, tar_sha256(index), tar_bytes(index))


def cached_survey(store: Store, dataset: str, shard_key: str) -> Shard | None:
    """The survey that `cache_survey` kept, refusals and all, if it is of the tar that is there."""
    found = kept(store.storage, _cache_path(shard_key))
    if found is None:
        return None
    values = json.loads(found)
    index = read_index(store.storage, store.shard_index(dataset, shard_key))
    segments = tuple(Tar(*entry) for entry in values.get("segments", ()))
    if values["tar_sha256"] != tar_sha256(index) or any(
        segment != _tar(store, dataset, segment.key) for segment in segments
    ):
        return None
    episodes = tuple(
        Surveyed(key, episode, {name: tuple(shape) for name, shape in shapes.items()})
        for key, episode, shapes in values["episodes"]
    )
    refused = tuple((str(unit), str(reason)) for unit, reason in values["refused"])
    sha256, num_bytes = values["tar_sha256"], values["tar_bytes"]
    return Shard(shard_key, sha256, num_bytes, episodes, refused, reused=True, segments=segments)


def cache_survey(store: Store, shard: Shard) -> None:
    """Keep a survey, so that the next run need not open the tar."""
    values = {
        "tar_sha256": shard.tar_sha256,
        "tar_bytes": shard.tar_bytes,
        "episodes": [[item.key, dict(item.episode), dict(item.shapes)] for item in shard.episodes],
        "refused": shard.refused,
        "segments": [[tar.key, tar.sha256, tar.num_bytes] for tar in shard.segments],
    }
    keep(store.storage, _cache_path(shard.key), canonical_json(values))


def _cache_path(shard_key: str) -> str:
    return f"cache/surveys/{shard_key}.json"
