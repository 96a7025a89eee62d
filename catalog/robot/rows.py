"""Rows of a version as Arrow tables that say where they come from, and what else of it SQL sees.

Values stay in the mapped files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.query.shown import RowTable, SqlFace
from robot_foundry.catalog.robot.episode_tables import expanded, numbered
from robot_foundry.catalog.robot.schema import Schema
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


def all_annotation_rows(versions: Sequence[OpenVersion]) -> pa.Table:
    """The annotations of several versions."""
    return pa.concat_tables([annotation_rows(version) for version in versions])


def _catalog_rows(schema: Schema) -> dict[str, list[dict[str, Any]]]:
    """What the schema of a version is to SQL, by table of the catalogue."""
    return {
        "versions": [{name: getattr(schema, name) for name in _COLUMNS.names}],
        "dims": [
            {"stream": stream, "position": i} | dim.to_json()
            for stream in ("state", *schema.streams)
            for i, dim in enumerate(schema.space(stream))
        ],
        "cameras": [asdict(camera) for camera in schema.cameras],
    }


_COLUMNS = pa.schema([("embodiment", pa.string()), ("fps", pa.float64()), ("tool_frame", pa.string())])
_DIMS = pa.schema(
    [("stream", pa.string()), ("position", pa.int64())]
    + [(name, pa.string()) for name in ("name", "unit", "kind", "representation")]
)
_CAMERAS = pa.schema(
    [("name", pa.string()), ("role", pa.string()), ("height", pa.int64()), ("width", pa.int64())]
    + [("encoding", pa.string())]
)
SQL = SqlFace(
    columns=_COLUMNS,
    listed=("embodiment", "fps"),
    tables={"dims": _DIMS, "cameras": _CAMERAS},
    rows_of=_catalog_rows,
    in_place={
        "frames": RowTable(frame_rows),
        "episodes": RowTable(episode_rows, all_episode_rows),
        "annotations": RowTable(annotation_rows, all_annotation_rows),
    },
    help=(
        ("episodes annotations", "rows of the newest version of every dataset"),
        ("frames_NAME", "canonical rows of dataset NAME; state and action.STREAM are arrays"),
        ('"frames_NAME@v3"', "… of one version (also episodes_NAME, annotations_NAME)"),
    ),
    examples=(
        "SELECT source, count(*) FROM episodes GROUP BY ALL",
        "SELECT key FROM episodes WHERE attributes.operator = 'ada'",
        "SELECT key, max(state[3]) FROM frames_lift GROUP BY key",
    ),
)
