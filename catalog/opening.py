"""Open a robot shard of a store through its index."""

from __future__ import annotations

from robot_foundry.catalog.store import Store
from robot_foundry.shards.index import read_index
from robot_foundry.shards.reader import RobotShard, ShardReader


def open_tar(store: Store, dataset: str, shard_key: str) -> ShardReader:
    """The members of one tar."""
    index = read_index(store.storage, store.shard_index(dataset, shard_key))
    return ShardReader(store.storage, store.shard_tar(dataset, shard_key), index)


def open_robot_shard(store: Store, dataset: str, shard_key: str) -> RobotShard:
    """The episodes of a shard, with the images that lie in the segments of long ones."""
    reader = open_tar(store, dataset, shard_key)
    return RobotShard(reader, lambda segment: open_tar(store, dataset, segment))
