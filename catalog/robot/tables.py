"""The canonical tables of a robot version: their columns, and what frames are flagged with."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import pyarrow as pa

from robot_foundry.catalog.kind import check_flags
from robot_foundry.catalog.robot.schema import Schema


class Flag(enum.IntFlag):
    """Bits of `frames.flags`."""

    NOOP = 1
    INTERVENTION = 2
    TERMINAL = 4
    INVALID_ACTION = 8
    INVALID_STATE = 16
    HELD_IMAGE = 32  # a camera of the episode shows the image of an earlier frame, or none


FLAGS = tuple(str(flag.name).lower() for flag in Flag)


def flag_named(*names: str) -> Flag:
    """The bits of flags by name, such as 'noop'."""
    check_flags(names, FLAGS)
    bits = Flag(0)
    for name in names:
        bits |= Flag[name.upper()]
    return bits


EPISODES_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),  # ordinal of the shard in the manifest
        ("episode", pa.int32()),  # ordinal of the episode inside the shard
        ("key", pa.string()),
        ("id", pa.string()),  # the source's own name
        ("row_start", pa.int64()),  # first row in the shard's frames table
        ("num_frames", pa.int32()),
        ("fps", pa.float64()),
        ("duration_s", pa.float64()),
        ("success", pa.bool_()),
        ("source", pa.string()),
        ("split_hash", pa.uint64()),  # of the content of the source's file and the episode's id in it
        ("attributes", pa.string()),  # canonical JSON of what the source says of it
    ]
)
ANNOTATIONS_SCHEMA = pa.schema(
    [
        ("key", pa.string()),  # episode key
        ("start", pa.int32()),  # first frame
        ("end", pa.int32()),  # frame after the last
        ("kind", pa.string()),
        ("text", pa.string()),
        ("source", pa.string()),
    ]
)
LEAVES_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("column", pa.string()),  # state or action.<stream>
        ("dim", pa.string()),
        ("digest", pa.binary()),
    ]
)


def frames_schema(state_dims: int, stream_dims: Mapping[str, int]) -> pa.Schema:
    """Schema of a shard's frames table: one row a frame, in episode order, then frame order."""
    return pa.schema(
        [
            ("episode", pa.int32()),
            ("frame", pa.int32()),
            ("timestamp", pa.float64()),
            ("flags", pa.uint32()),
            ("state", pa.list_(pa.float32(), state_dims)),
            *((f"action.{name}", pa.list_(pa.float32(), dims)) for name, dims in sorted(stream_dims.items())),
        ]
    )


def frames_schema_of(schema: Schema) -> pa.Schema:
    """Schema of the frames tables of a version."""
    return frames_schema(len(schema.state), {name: len(dims) for name, dims in schema.streams.items()})
