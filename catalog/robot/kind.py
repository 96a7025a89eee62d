"""The kind `robot`: episodes of frames, with named dims, cameras and annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.kind import Geometry, Kind
from robot_foundry.catalog.opened import OpenMixture, OpenVersion
from robot_foundry.catalog.query.shown import Description, Distributions, SqlFace
from robot_foundry.catalog.robot.described import describe
from robot_foundry.catalog.robot.episode_tables import COLUMN, expanded, geometry_of, numbered
from robot_foundry.catalog.robot.leaves import absolute_values
from robot_foundry.catalog.robot.mixing import mixture_doubts
from robot_foundry.catalog.robot.rows import SQL
from robot_foundry.catalog.robot.schema import Schema
from robot_foundry.catalog.robot.tables import (
    ANNOTATIONS_SCHEMA,
    EPISODES_SCHEMA,
    FLAGS,
    LEAVES_SCHEMA,
    flag_named,
    frames_schema_of,
)
from robot_foundry.catalog.robot.unions import unions_of
from robot_foundry.catalog.selection import Selection, SelectionSpec
from robot_foundry.checks.rules import CHECKS

if TYPE_CHECKING:
    from robot_foundry.catalog.validation.tasks import Validator

# The columns of the episodes table as it is read, and `instruction`.
_CONDITIONS = (
    "SELECT e.*, i.instruction FROM episodes e LEFT JOIN ("
    "SELECT key, first(text ORDER BY kind <> 'instruction', start, text) AS instruction "
    "FROM annotations GROUP BY key) i USING (key)"
)
_COLUMNS = {"episodes": EPISODES_SCHEMA, "annotations": ANNOTATIONS_SCHEMA, "leaves": LEAVES_SCHEMA}


@dataclass(frozen=True)
class RobotKind:
    """See `catalog.kind.Kind`."""

    name: str = "robot"
    groups: str = "episodes"
    samples: str = "frames"
    left_out: tuple[str, ...] = ()
    tables: tuple[str, ...] = tuple(_COLUMNS)
    shard_tables: tuple[str, ...] = ("frames",)
    flags: tuple[str, ...] = FLAGS

    def read_schema(self, obj: Mapping[str, Any], where: str) -> Schema:
        return Schema.from_json(obj, where)

    def columns(self, table: str, schema: Schema) -> pa.Schema:
        return frames_schema_of(schema) if table == "frames" else _COLUMNS[table]

    # How a version is selected from, and mixed with others.

    def geometry(self, opened: OpenVersion, spec: SelectionSpec | None) -> Geometry:
        return geometry_of(opened.table("episodes"))

    def conditions(self, opened: OpenVersion, where: str) -> tuple[str, Mapping[str, pa.Table]]:
        episodes = opened.table("episodes")
        table = numbered(expanded(episodes) if COLUMN in where.lower() else episodes)
        table = table.append_column("_row", pa.array(np.arange(episodes.num_rows, dtype=np.int64)))
        return _CONDITIONS, {"episodes": table, "annotations": opened.table("annotations")}

    def flagged(self, opened: OpenVersion, shard: int, flags: Sequence[str]) -> NDArray[np.bool_]:
        flags_R = opened.shard_table("frames", shard)["flags"].to_numpy()
        flagged_R: NDArray[np.bool_] = (flags_R & int(flag_named(*flags))) != 0
        return flagged_R

    def check_mixed(self, opened: OpenMixture) -> None:
        unions_of(opened)

    def doubts_of_mixture(self, opened: OpenMixture) -> list[str]:
        return mixture_doubts(opened)

    def columns_of_mixture(self, opened: OpenMixture) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return unions_of(opened).columns()

    # How it is shown.

    sql: SqlFace = SQL

    def describe(self, opened: OpenVersion) -> Description:
        return describe(opened)

    def distributions(self, opened: OpenVersion, selection: Selection | None) -> Distributions:
        return absolute_values(opened, selection)

    # How it is validated.

    doubts: tuple[str, ...] = tuple(CHECKS)

    @property
    def validator(self) -> Validator:
        from robot_foundry.catalog.robot import validated  # image decoders are for validation alone

        return validated


KIND: Kind = RobotKind()
