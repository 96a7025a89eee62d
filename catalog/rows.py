"""Rows of a version as Arrow tables that say where they come from; values stay in the mapped files."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from robot_foundry.catalog.manifest import read_manifest
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import read_annotations, read_episodes, read_frames
from robot_foundry.catalog.version import Version


def episode_rows(store: Store, version: Version) -> pa.Table:
    """The episodes table, behind columns `dataset` and `version`."""
    return _named(read_episodes(store, version), version)


def annotation_rows(store: Store, version: Version) -> pa.Table:
    """The annotations table, behind columns `dataset` and `version`."""
    return _named(read_annotations(store, version), version)


def frame_rows(store: Store, version: Version) -> pa.Table:
    """The frames of all shards, behind columns `shard` (ordinal) and `key` (of the episode)."""
    episodes = read_episodes(store, version)
    shard_E = episodes["shard"].to_numpy()
    tables = []
    for ordinal, entry in enumerate(read_manifest(store, version).shards):
        frames = read_frames(store, version, entry.key)
        keys = episodes["key"].filter(pa.array(shard_E == ordinal)).combine_chunks()
        key_column = pa.DictionaryArray.from_arrays(frames["episode"].combine_chunks(), keys)
        shard_column = pa.array(np.full(frames.num_rows, ordinal, np.int32))
        tables.append(frames.add_column(0, "key", key_column).add_column(0, "shard", shard_column))
    return pa.concat_tables(tables)


def _named(table: pa.Table, version: Version) -> pa.Table:
    for name, value in (("version", str(version)), ("dataset", version.dataset)):
        table = table.add_column(0, name, pa.repeat(value, table.num_rows))
    return table
