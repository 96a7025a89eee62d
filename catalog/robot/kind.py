"""The kind `robot`: episodes of frames, with named dims, cameras and annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from robot_foundry.catalog.robot.schema import Schema
from robot_foundry.catalog.robot.tables import (
    ANNOTATIONS_SCHEMA,
    EPISODES_SCHEMA,
    FLAGS,
    LEAVES_SCHEMA,
    frames_schema_of,
)

_COLUMNS = {"episodes": EPISODES_SCHEMA, "annotations": ANNOTATIONS_SCHEMA, "leaves": LEAVES_SCHEMA}


@dataclass(frozen=True)
class RobotKind:
    """See `catalog.kind.Kind`."""

    name: str = "robot"
    groups: str = "episodes"
    samples: str = "frames"
    tables: tuple[str, ...] = tuple(_COLUMNS)
    shard_tables: tuple[str, ...] = ("frames",)
    flags: tuple[str, ...] = FLAGS

    def read_schema(self, obj: Mapping[str, Any], where: str) -> Schema:
        return Schema.from_json(obj, where)

    def columns(self, table: str, schema: Schema) -> pa.Schema:
        return frames_schema_of(schema) if table == "frames" else _COLUMNS[table]


KIND = RobotKind()
