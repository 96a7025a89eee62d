"""A table of one shard and what a version needs of it, made from its tar alone and kept in the store's cache,
so that a version with the same shard need not make them again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import table_digest, write_table
from robot_foundry.catalog.tars import open_tar
from robot_foundry.ingest.kind import CachedTable
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.storage.cache import keep, kept
from robot_foundry.shards.reader import ShardReader


@dataclass(frozen=True)
class TablesTask:
    """A shard of which the tables are wanted."""

    store: Store
    dataset: str
    shard_key: str


def cached_table(
    task: TablesTask, made_by: str, compute: Callable[[ShardReader], tuple[pa.Table, dict[str, Any]]]
) -> tuple[CachedTable, dict[str, Any]]:
    """The table and the JSON that `compute` makes of the tar, or made before.

    `made_by` names `compute` and its version: equal names make the same of equal tars.
    """
    storage, path = task.store.storage, f"cache/tables/{made_by}/{task.shard_key}"
    table_path, rows_path = f"{path}.arrow", f"{path}.json"
    cached = kept(storage, rows_path)
    if cached is None or kept(storage, table_path) is None:
        table, rows = compute(open_tar(task.store, task.dataset, task.shard_key))
        keep(storage, table_path, write_table(table))
        cached = canonical_json({"digest": table_digest(table), **rows})
        keep(storage, rows_path, cached)
    values = json.loads(cached)
    return CachedTable(values.pop("digest"), table_path), values
