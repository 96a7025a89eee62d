"""Rows of a version as Arrow tables that say where they come from; values stay in the mapped files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.robot.episode_tables import expanded, numbered
from robot_foundry.catalog.selection import Selection, SelectionSpec
from robot_foundry.catalog.version import Version


def episode_rows(opened: OpenVersion) -> pa.Table:
    """All episodes, behind columns `dataset` and `version`.

    `row_start` counts the rows of `frame_rows`, `shard_row_start` those of the shard's table. `attributes` is
    a struct.
    """
    return expanded(stored_episode_rows(opened))


def stored_episode_rows(opened: OpenVersion, selection: Selection | None = None) -> pa.Table:
    """As `episode_rows`, but those of a selection of whole episodes (None: all), and `attributes` is JSON.

    So tables of several versions can be joined.
    """
    episodes = opened.table("episodes")
    if selection is not None:
        episodes = episodes.filter(pa.array(selection.holds(opened.geometry)))
    return _named(numbered(episodes), opened.version)


def annotation_rows(opened: OpenVersion) -> pa.Table:
    """The annotations table, behind columns `dataset` and `version`."""
    return _named(opened.table("annotations"), opened.version)


def frame_rows(opened: OpenVersion, selection: Selection | None = None) -> pa.Table:
    """The frames of a selection (None: of all episodes), behind `shard` (ordinal) and `key` (of the episode).

    Rows of episodes that were quarantined are in no selection.
    """
    selection = selection or opened.select(SelectionSpec(split="all"))
    episodes = opened.table("episodes")
    shard_E, ordinal_E = episodes["shard"].to_numpy(), episodes["episode"].to_numpy()
    keys = episodes["key"].combine_chunks()
    tables: dict[int, pa.Table] = {}
    for ordinal in np.unique(selection.shard_R).tolist():
        frames = opened.shard_table("frames", ordinal)
        here = np.arange(*np.searchsorted(shard_E, [ordinal, ordinal + 1]))  # episodes are in shard order
        place_N = np.searchsorted(ordinal_E[here], frames["episode"].to_numpy()).astype(np.int32)
        key_column = pa.DictionaryArray.from_arrays(
            pa.array(np.minimum(place_N, len(here) - 1)), keys.take(pa.array(here))
        )
        shard_column = pa.array(np.full(frames.num_rows, ordinal, np.int32))
        tables[ordinal] = frames.add_column(0, "key", key_column).add_column(0, "shard", shard_column)
    return pa.concat_tables([tables[s].slice(start, stop - start) for s, start, stop in selection.ranges()])


def all_episode_rows(versions: Sequence[OpenVersion]) -> pa.Table:
    """The episodes of several versions; their attributes are fields of one struct."""
    tables = [stored_episode_rows(opened) for opened in versions]
    return expanded(pa.concat_tables(tables))


def _named(table: pa.Table, version: Version) -> pa.Table:
    for name, value in (("version", str(version)), ("dataset", version.dataset)):
        table = table.add_column(0, name, pa.repeat(value, table.num_rows))
    return table
