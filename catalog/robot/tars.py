"""Open a robot shard of a store, with the segments of its long episodes."""

from __future__ import annotations

from collections.abc import Mapping

from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tars import open_tar
from robot_foundry.shards.robot.shard import RobotShard


def open_robot_shard(
    store: Store, dataset: str, shard_key: str, hashes: Mapping[str, str] | None = None
) -> RobotShard:
    """The episodes of a shard, with the images that lie in the segments of long ones; see `open_tar`."""
    reader = open_tar(store, dataset, shard_key, hashes)
    return RobotShard(reader, lambda segment: open_tar(store, dataset, segment, hashes))
