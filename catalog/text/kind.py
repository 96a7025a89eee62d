"""The kind `text`: documents of characters, with what the source says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.kind import Geometry, Kind
from robot_foundry.catalog.lengths import lengths_of
from robot_foundry.catalog.opened import OpenMixture, OpenVersion
from robot_foundry.catalog.query.shown import Description, Distributions, SqlFace
from robot_foundry.catalog.selection import Selection, SelectionSpec
from robot_foundry.catalog.text.described import describe
from robot_foundry.catalog.text.doubts import CHECKS
from robot_foundry.catalog.text.rows import SQL, document_rows, geometry_of
from robot_foundry.catalog.text.schema import TextSchema
from robot_foundry.catalog.text.tables import BLOCKS, COLUMNS, DOCUMENTS
from robot_foundry.runtime.errors import FoundryError

if TYPE_CHECKING:
    from robot_foundry.catalog.validation.tasks import Validator


@dataclass(frozen=True)
class TextKind:
    """See `catalog.kind.Kind`. Of the source, copies of documents are left out."""

    name: str = "text"
    groups: str = "documents"
    samples: str = "characters"
    left_out: tuple[str, ...] = ("duplicates",)
    tables: tuple[str, ...] = (BLOCKS,)
    shard_tables: tuple[str, ...] = (DOCUMENTS,)
    flags: tuple[str, ...] = ()

    def read_schema(self, obj: Mapping[str, Any], where: str) -> TextSchema:
        return TextSchema.from_json(obj, where)

    def columns(self, table: str, schema: TextSchema) -> pa.Schema:
        return COLUMNS[table]

    # How a version is selected from, and mixed with others.

    def geometry(self, opened: OpenVersion, spec: SelectionSpec | None) -> Geometry:
        return geometry_of(opened)

    def conditions(self, opened: OpenVersion, where: str) -> tuple[str, Mapping[str, pa.Table]]:
        rows = document_rows(opened)
        return f"SELECT {rows.columns} FROM {DOCUMENTS}", {DOCUMENTS: rows.table}

    def flagged(self, opened: OpenVersion, shard: int, flags: Sequence[str]) -> NDArray[np.bool_]:
        return np.zeros(opened.manifest.shards[shard].num_samples, np.bool_)

    def check_mixed(self, opened: OpenMixture) -> None:
        name = opened.parts[0].manifest.dataset
        raise FoundryError(
            "text is mixed once it is tokens", hint=f"foundry-data tokenize {name} --tokenizer NAME"
        )

    def doubts_of_mixture(self, opened: OpenMixture) -> list[str]:
        return []

    def columns_of_mixture(self, opened: OpenMixture) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return {}

    # How it is shown.

    sql: SqlFace = SQL

    def describe(self, opened: OpenVersion) -> Description:
        return describe(opened)

    def distributions(self, opened: OpenVersion, selection: Selection | None) -> Distributions:
        lengths = {"characters": "num_characters", "bytes": "num_bytes"}
        return lengths_of(opened, selection, DOCUMENTS, "document", lengths)

    # How it is validated.

    doubts: tuple[str, ...] = CHECKS

    @property
    def validator(self) -> Validator:
        from robot_foundry.catalog.text import validated

        return validated


KIND: Kind = TextKind()
