"""The tables of a version of tokens, from its tars alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import table_digest, write_table
from robot_foundry.catalog.tars import open_tar
from robot_foundry.catalog.tokens.derived import tables_of
from robot_foundry.catalog.tokens.schema import Schema
from robot_foundry.catalog.tokens.tables import BLOCKS_SCHEMA, counts
from robot_foundry.ingest.kind import CachedTable, MadeTables, Shard
from robot_foundry.runtime.storage.cache import keep

TABLES_VERSION = 1


@dataclass(frozen=True)
class TablesTask:
    """A shard of which the tables are wanted."""

    store: Store
    dataset: str
    shard_key: str
    tar_sha256: str


class TokensTables:
    """See `ingest.kind.VersionTables`. `asked` of the kind is the schema."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._blocks: dict[int, pa.Table] = {}

    def task(self, store: Store, dataset: str, shard: Shard) -> TablesTask:
        return TablesTask(store, dataset, shard.key, shard.tar_sha256)

    def add(self, number: int, ordinal: int, rows: pa.Table) -> None:
        at = BLOCKS_SCHEMA.get_field_index("shard")
        shard = pa.array(np.full(rows.num_rows, ordinal, np.int32))
        self._blocks[number] = rows.set_column(at, BLOCKS_SCHEMA.field(at), shard)

    def merged(self) -> dict[str, pa.Table]:
        in_order = [self._blocks[number] for number in sorted(self._blocks)]
        return {"blocks": pa.concat_tables([BLOCKS_SCHEMA.empty_table(), *in_order]).combine_chunks()}

    def counts(self, merged: Mapping[str, pa.Table]) -> tuple[int, int]:
        return counts(merged["blocks"])

    def provenance(self, merged: Mapping[str, pa.Table]) -> dict[str, Any]:
        return {}


def shard_tables(task: TablesTask) -> MadeTables:
    """The tables of a shard, kept in the cache; its rows of `blocks`, all of shard 0."""
    tables = tables_of(open_tar(task.store, task.dataset, task.shard_key))
    cached = {}
    for name in ("documents", "pages"):
        path = f"cache/tables/tokens-{TABLES_VERSION}/{task.tar_sha256[:32]}.{name}.arrow"
        keep(task.store.storage, path, write_table(tables[name]))
        cached[name] = CachedTable(table_digest(tables[name]), path)
    return MadeTables(cached, {}, tables["blocks"])
