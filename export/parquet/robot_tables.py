"""The columns of robot tables in parquet, and rows of them.

    frames       episode_key, episode_index, frame_index, timestamp, flags, is_<flag>, state.<dim>,
                 action.<stream>.<dim>, image.<role>
    episodes     episode_index, episode_key, id, …; row_start: its first row in frames, num_rows: how many it
                 has there
    annotations  episode_key, episode_index, start, end, kind, text, source

A dim is a column of its own: it can be read without the others, has its least and greatest value in the
footer, and needs no table of positions. Its unit is metadata of the column.

Legend: N rows, D dims.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from robot_foundry.catalog.robot.episode_tables import expanded
from robot_foundry.catalog.robot.schema import Schema
from robot_foundry.catalog.robot.tables import FLAGS, flag_named
from robot_foundry.catalog.tables import column_matrix
from robot_foundry.export.parquet.files import IMAGE
from robot_foundry.normalization.space import Dim

_EPISODE_COLUMNS = ("id", "source", "num_frames", "fps", "duration_s", "success", "split_hash")


def frames_schema(schema: Schema, roles: Sequence[str]) -> pa.Schema:
    """Of a version, with images of the cameras of these roles."""
    own = [
        ("episode_key", pa.string()),
        ("episode_index", pa.int64()),
        ("frame_index", pa.int32()),
        ("timestamp", pa.float64()),
        ("flags", pa.uint32()),
        *((f"is_{flag}", pa.bool_()) for flag in FLAGS),
    ]
    dims = [_field(f"{name}.{dim.name}", dim) for name, dims in _matrices(schema) for dim in dims]
    return pa.schema([*map(_plain_field, own), *dims, *(pa.field(f"image.{role}", IMAGE) for role in roles)])


def frame_table(
    frames: pa.Table, schema: Schema, key: str, number: int, images: Mapping[str, pa.Array]
) -> pa.Table:
    """Rows of the frames table of a shard, all of episode `key`, as `frames_schema` has them."""
    count = frames.num_rows
    flags_N = frames["flags"].to_numpy()
    columns: dict[str, Any] = {
        "episode_key": pa.array([key] * count, pa.string()),
        "episode_index": pa.array(np.full(count, number, np.int64)),
        "frame_index": frames["frame"],
        "timestamp": frames["timestamp"],
        "flags": frames["flags"],
        **{f"is_{flag}": pa.array((flags_N & flag_named(flag)) != 0) for flag in FLAGS},
    }
    for name, dims in _matrices(schema):
        values_ND = column_matrix(frames, name)
        columns |= {
            f"{name}.{dim.name}": pa.array(np.ascontiguousarray(values_ND[:, i]))
            for i, dim in enumerate(dims)
        }
    return pa.table(columns | {f"image.{role}": column for role, column in images.items()})


def episodes_table(episodes: pa.Table, num_rows: Sequence[int]) -> pa.Table:
    """Rows of the episodes table, which have so many rows in frames."""
    rows_E = np.array(num_rows, np.int64)
    table = expanded(episodes)
    columns: dict[str, Any] = {"episode_index": np.arange(len(rows_E), dtype=np.int64)}
    columns |= {"episode_key": table["key"]} | {name: table[name] for name in _EPISODE_COLUMNS}
    columns |= {"row_start": np.cumsum(rows_E) - rows_E, "num_rows": rows_E}
    if not pa.types.is_null(table["attributes"].type):
        columns["attributes"] = table["attributes"]
    return pa.table(columns)


def annotations_table(annotations: pa.Table, keys: pa.Array) -> pa.Table:
    """The annotations of the episodes of these keys, in the order of the version."""
    numbers = pc.index_in(annotations["key"], value_set=keys)
    table = annotations.append_column("episode_index", pc.cast(numbers, pa.int64()))
    table = table.filter(pc.is_valid(table["episode_index"]))
    names = ["key", "episode_index", "start", "end", "kind", "text", "source"]
    return table.select(names).rename_columns(["episode_key", *names[1:]])


def _matrices(schema: Schema) -> Iterable[tuple[str, tuple[Dim, ...]]]:
    yield "state", schema.state
    for stream, dims in schema.streams.items():
        yield f"action.{stream}", dims


def _field(name: str, dim: Dim) -> pa.Field:
    return pa.field(
        name,
        pa.float32(),
        metadata={"unit": dim.unit, "kind": dim.kind, "representation": dim.representation},
    )


def _plain_field(entry: tuple[str, pa.DataType]) -> pa.Field:
    return pa.field(*entry)
