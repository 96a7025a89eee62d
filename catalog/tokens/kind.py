"""The kind `tokens`: documents of text as ids of one tokenizer."""

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
from robot_foundry.catalog.tokens.documents import document_rows
from robot_foundry.catalog.tokens.geometry import geometry_of
from robot_foundry.catalog.tokens.mixing import check_tokenizers
from robot_foundry.catalog.tokens.schema import Schema
from robot_foundry.catalog.tokens.shown import SQL, describe
from robot_foundry.catalog.tokens.tables import BLOCKS_SCHEMA, DOCUMENTS_SCHEMA, PAGES_SCHEMA

if TYPE_CHECKING:
    from robot_foundry.catalog.validation.tasks import Validator

_COLUMNS = {"blocks": BLOCKS_SCHEMA, "documents": DOCUMENTS_SCHEMA, "pages": PAGES_SCHEMA}


@dataclass(frozen=True)
class TokensKind:
    """See `catalog.kind.Kind`."""

    name: str = "tokens"
    groups: str = "documents"
    samples: str = "tokens"
    left_out: tuple[str, ...] = ()
    tables: tuple[str, ...] = ("blocks",)
    shard_tables: tuple[str, ...] = ("documents", "pages")
    flags: tuple[str, ...] = ()

    def read_schema(self, obj: Mapping[str, Any], where: str) -> Schema:
        return Schema.from_json(obj, where)

    def columns(self, table: str, schema: Schema) -> pa.Schema:
        return _COLUMNS[table]

    # How a version is selected from, and mixed with others.

    def geometry(self, opened: OpenVersion, spec: SelectionSpec | None) -> Geometry:
        return geometry_of(opened, spec)

    def conditions(self, opened: OpenVersion, where: str) -> tuple[str, Mapping[str, pa.Table]]:
        rows = document_rows(opened)
        return f"SELECT {rows.columns} FROM documents", {"documents": rows.table}

    def flagged(self, opened: OpenVersion, shard: int, flags: Sequence[str]) -> NDArray[np.bool_]:
        return np.zeros(opened.manifest.shards[shard].num_samples, np.bool_)

    def check_mixed(self, opened: OpenMixture) -> None:
        check_tokenizers(opened)

    def doubts_of_mixture(self, opened: OpenMixture) -> list[str]:
        return []

    def columns_of_mixture(self, opened: OpenMixture) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return {}

    # How it is shown.

    sql: SqlFace = SQL

    def describe(self, opened: OpenVersion) -> Description:
        return describe(opened)

    def distributions(self, opened: OpenVersion, selection: Selection | None) -> Distributions:
        lengths = {"tokens": "num_tokens", "bytes": "num_bytes"}
        return lengths_of(opened, selection, "documents", "document", lengths)

    # How it is validated.

    doubts: tuple[str, ...] = ()

    @property
    def validator(self) -> Validator:
        from robot_foundry.catalog.tokens import validated

        return validated


KIND: Kind = TokensKind()
