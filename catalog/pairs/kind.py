"""The kind `pairs`: pictures, and the captions or conversations on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.kind import Geometry, Kind
from robot_foundry.catalog.opened import OpenMixture, OpenVersion
from robot_foundry.catalog.pairs.described import describe
from robot_foundry.catalog.pairs.doubts import CHECKS
from robot_foundry.catalog.pairs.measured import distributions_of
from robot_foundry.catalog.pairs.rows import SQL, geometry_of, pair_rows
from robot_foundry.catalog.pairs.schema import PairSchema
from robot_foundry.catalog.pairs.tables import BLOCKS, COLUMNS, PAIRS
from robot_foundry.catalog.query.shown import Description, Distributions, SqlFace
from robot_foundry.catalog.selection import Selection, SelectionSpec

if TYPE_CHECKING:
    from robot_foundry.catalog.validation.tasks import Validator


@dataclass(frozen=True)
class PairsKind:
    """See `catalog.kind.Kind`. Of the source, copies of pairs and what a spec filters are left out."""

    name: str = "pairs"
    groups: str = "pairs"
    samples: str = "pairs"
    left_out: tuple[str, ...] = ("duplicates", "filtered")
    tables: tuple[str, ...] = (BLOCKS,)
    shard_tables: tuple[str, ...] = (PAIRS,)
    flags: tuple[str, ...] = ()

    def read_schema(self, obj: Mapping[str, Any], where: str) -> PairSchema:
        return PairSchema.from_json(obj, where)

    def columns(self, table: str, schema: PairSchema) -> pa.Schema:
        return COLUMNS[table]

    # How a version is selected from, and mixed with others.

    def geometry(self, opened: OpenVersion, spec: SelectionSpec | None) -> Geometry:
        return geometry_of(opened)

    def conditions(self, opened: OpenVersion, where: str) -> tuple[str, Mapping[str, pa.Table]]:
        rows = pair_rows(opened)
        return f"SELECT {rows.columns} FROM {PAIRS}", {PAIRS: rows.table}

    def flagged(self, opened: OpenVersion, shard: int, flags: Sequence[str]) -> NDArray[np.bool_]:
        return np.zeros(opened.manifest.shards[shard].num_samples, np.bool_)

    def check_mixed(self, opened: OpenMixture) -> None:
        """Any pairs can be mixed."""

    def doubts_of_mixture(self, opened: OpenMixture) -> list[str]:
        return []

    def columns_of_mixture(self, opened: OpenMixture) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return {}

    # How it is shown.

    sql: SqlFace = SQL

    def describe(self, opened: OpenVersion) -> Description:
        return describe(opened)

    def distributions(self, opened: OpenVersion, selection: Selection | None) -> Distributions:
        return distributions_of(opened, selection)

    # How it is validated.

    doubts: tuple[str, ...] = CHECKS

    @property
    def validator(self) -> Validator:
        from robot_foundry.catalog.pairs import validated

        return validated


KIND: Kind = PairsKind()
