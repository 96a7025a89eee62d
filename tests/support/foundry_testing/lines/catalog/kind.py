"""The kind `lines` as the catalogue knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from foundry_testing.lines.catalog import validated
from foundry_testing.lines.catalog.shown import SQL, describe
from foundry_testing.lines.catalog.tables import DOCUMENTS_SCHEMA, LINES_SCHEMA, Schema, encoding_of
from robot_foundry.catalog.kind import Geometry
from robot_foundry.catalog.opened import OpenMixture, OpenVersion
from robot_foundry.catalog.query.shown import Description, Distribution, Distributions, SqlFace
from robot_foundry.catalog.selection import Selection, SelectionSpec
from robot_foundry.catalog.validation.tasks import Validator
from robot_foundry.normalization.digest import Digest
from robot_foundry.runtime.errors import FoundryError


@dataclass(frozen=True)
class LinesKind:
    """See `robot_foundry.catalog.kind.Kind`."""

    name: str = "lines"
    groups: str = "documents"
    samples: str = "lines"
    left_out: tuple[str, ...] = ()
    tables: tuple[str, ...] = ("documents",)
    shard_tables: tuple[str, ...] = ("lines",)
    flags: tuple[str, ...] = ("blank",)

    def read_schema(self, obj: Mapping[str, Any], where: str) -> Schema:
        return Schema.from_json(obj, where)

    def columns(self, table: str, schema: Schema) -> pa.Schema:
        return LINES_SCHEMA if table == "lines" else DOCUMENTS_SCHEMA

    def geometry(self, opened: OpenVersion, spec: SelectionSpec | None) -> Geometry:
        documents = opened.table("documents")
        names = ("shard", "row_start", "num_lines", "split_hash")
        shard_E, start_E, length_E, hash_E = (documents[name].to_numpy() for name in names)
        return Geometry(shard_E, start_E, length_E.astype(np.int64), hash_E)

    def conditions(self, opened: OpenVersion, where: str) -> tuple[str, Mapping[str, pa.Table]]:
        documents = opened.table("documents")
        rows = pa.array(np.arange(documents.num_rows, dtype=np.int64))
        return "SELECT * FROM documents", {"documents": documents.append_column("_row", rows)}

    def flagged(self, opened: OpenVersion, shard: int, flags: Sequence[str]) -> NDArray[np.bool_]:
        blank = pc.equal(opened.shard_table("lines", shard)["text"], "")
        flagged_R: NDArray[np.bool_] = blank.to_numpy(zero_copy_only=False)
        return flagged_R

    def check_mixed(self, opened: OpenMixture) -> None:
        encodings = {encoding_of(part.manifest) for part in opened.parts}
        if len(encodings) > 1:
            raise FoundryError(f"texts in {' and '.join(sorted(encodings))} cannot be mixed")

    def doubts_of_mixture(self, opened: OpenMixture) -> list[str]:
        return []

    def columns_of_mixture(self, opened: OpenMixture) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return {}

    sql: SqlFace = SQL

    def describe(self, opened: OpenVersion) -> Description:
        return describe(opened)

    def distributions(self, opened: OpenVersion, selection: Selection | None) -> Distributions:
        lines = opened.table("documents")["num_lines"].to_numpy()
        if selection is not None:
            lines = lines[selection.holds(opened.geometry)]
        return Distributions([Distribution("document", "lines", "", Digest.of(lines))])

    doubts: tuple[str, ...] = ("blank",)

    @property
    def validator(self) -> Validator:
        return validated


KIND = LinesKind()
