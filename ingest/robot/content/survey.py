"""What is known of an episode in a tar without its images and numbers: enough to fit a mapping to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from robot_foundry.catalog.manifest import Quarantined
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.robot.shard import RobotShard


@dataclass(frozen=True)
class Surveyed:
    """An episode.json, and the `shapes` of the arrays in source.npz. A unit is one, whole or refused."""

    num_groups: ClassVar[int] = 1
    refused: ClassVar[tuple[Quarantined, ...]] = ()
    left_out: ClassVar[tuple[int, ...]] = ()

    key: str
    episode: Mapping[str, Any]  # episode.json
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def unit(self) -> str:
        """The name of its unit of the source."""
        return f"{self.episode['source']['path']}#{self.episode['id']}"

    @property
    def num_samples(self) -> int:
        """Its frames."""
        return int(self.episode["num_frames"])

    @property
    def source_file(self) -> tuple[str, str]:
        """Path and BLAKE3."""
        source = self.episode["source"]
        return source["path"], source["blake3"]

    def to_json(self) -> list[Any]:
        return [self.key, dict(self.episode), dict(self.shapes)]

    @classmethod
    def from_json(cls, values: list[Any]) -> Surveyed:
        key, episode, shapes = values
        return cls(key, episode, {name: tuple(shape) for name, shape in shapes.items()})


def survey(tar: ShardReader) -> tuple[tuple[Surveyed, ...], tuple[str, ...]]:
    """The episodes of a shard, sorted by key, and the keys of the shards with their later images."""
    shard = RobotShard(tar)
    episodes = tuple(
        Surveyed(key, shard.episode_json(key), {name: a.shape for name, a in shard.source(key).items()})
        for key in shard.episodes
    )
    return episodes, tuple(segment.shard_key for _, segment in shard.segments)


def interned(item: Surveyed, one: Callable[[Any], Any]) -> Surveyed:
    """The survey with shared parts. Of its annotations only the kinds stay.

    Most of an episode.json (cameras, environment, what was left out) is the same in all episodes of a source.
    """
    shared = {
        name: one(value) if isinstance(value, dict) else value
        for name, value in item.episode.items()
        if name != "annotations"  # only the tables need these, which read them from the tar
    }
    shared["text_kinds"] = one(sorted({kind for _, _, kind, _ in item.episode.get("annotations", ())}))
    return Surveyed(item.key, shared, one({name: list(s) for name, s in item.shapes.items()}))
