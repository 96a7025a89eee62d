"""From shards to a committed version: fit the mapping, compute the tables, write them, commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from robot_foundry.catalog.manifest import Manifest, Quarantined, ShardEntry, commit
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import (
    ANNOTATIONS_SCHEMA,
    EPISODES_SCHEMA,
    LEAVES_SCHEMA,
    table_digest,
    write_table,
)
from robot_foundry.catalog.version import Version
from robot_foundry.ingest.resolve import Resolution, resolve
from robot_foundry.ingest.shard_tables import ShardTables, TablesTask, shard_tables
from robot_foundry.ingest.spec import Mapping as SpecMapping
from robot_foundry.ingest.survey import Shard
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.runtime.parallel import unordered_map

# Tables take milliseconds a shard; fewer shards than this are not worth starting workers.
SHARDS_WORTH_WORKERS = 64


@dataclass(frozen=True)
class Request:
    """What a version is made of besides its shards."""

    store: Store
    dataset: str
    build_id: str
    mapping: SpecMapping
    provenance: Mapping[str, Any]
    discovered: int
    refused: tuple[tuple[str, str], ...]  # units that no tar holds, with the reason
    max_errors: int | None
    workers: int = 0
    ray_address: str | None = None


@dataclass(frozen=True)
class Assembled:
    """The committed version and its manifest."""

    version: Version
    manifest: Manifest
    warnings: tuple[str, ...]


def assemble(request: Request, shards: Sequence[Shard]) -> Assembled:
    """Commit a version of these shards, in this order. Episodes that the mapping misfits are quarantined."""
    shards = [shard for shard in shards if shard.episodes]
    surveyed = [item for shard in shards for item in shard.episodes]
    if not surveyed:
        raise nothing_written(request.discovered, request.refused)
    resolution = resolve(request.mapping, surveyed)
    tasks = [_task(request, shard, resolution) for shard in shards]
    tables = _all_tables(request, tasks)
    quarantined = [*request.refused]
    for shard, made in zip(shards, tables, strict=True):
        units = {item.key: item.unit for item in shard.episodes}
        quarantined += [(units[key], reason) for key, reason in sorted(made.problems.items())]
    check_errors(quarantined, request.max_errors)
    if len(quarantined) >= request.discovered:
        raise nothing_written(request.discovered, quarantined)
    manifest = _manifest(request, resolution, shards, tables, quarantined)
    _write(request.store, manifest, tasks, tables)
    kill_point("tables-done")
    return Assembled(commit(request.store, manifest), manifest, resolution.warnings)


def check_errors(quarantined: Sequence[tuple[str, str]], max_errors: int | None) -> None:
    """FoundryError when more was refused than is allowed; nothing is committed then."""
    if max_errors is None or len(quarantined) <= max_errors:
        return
    raise FoundryError(
        f"{_units(len(quarantined))} refused and {max_errors} allowed: {_listed(quarantined)}",
        hint="mend or remove them, or allow more with --max-errors; what is written already is reused",
    )


def nothing_written(discovered: int, refused: Sequence[tuple[str, str]]) -> FoundryError:
    return FoundryError(f"nothing was written, {_units(discovered)} refused: {_listed(refused)}")


def _units(count: int) -> str:
    return "1 unit was" if count == 1 else f"{count} units were"


def _listed(refused: Sequence[tuple[str, str]], most: int = 3) -> str:
    shown = "; ".join(f"{unit}: {reason}" for unit, reason in refused[:most])
    return shown if len(refused) <= most else f"{shown}; and {len(refused) - most} more"


def _task(request: Request, shard: Shard, resolution: Resolution) -> TablesTask:
    keys = [item.key for item in shard.episodes]
    problems = {key: resolution.problems[key] for key in keys if key in resolution.problems}
    return TablesTask(request.store, request.dataset, shard.key, resolution, problems)


def _all_tables(request: Request, tasks: Sequence[TablesTask]) -> list[ShardTables]:
    workers, ray_address = request.workers, request.ray_address
    if len(tasks) < SHARDS_WORTH_WORKERS:
        workers, ray_address = 0, None
    made = dict(unordered_map(shard_tables, tasks, workers=workers, ray_address=ray_address))
    return [made[index] for index in range(len(tasks))]


def _manifest(
    request: Request,
    resolution: Resolution,
    shards: Sequence[Shard],
    tables: Sequence[ShardTables],
    quarantined: Sequence[tuple[str, str]],
) -> Manifest:
    digests = {name: table_digest(table) for name, table in _small_tables(tables).items()}
    digests |= {f"frames/{s.key}": made.frames_digest for s, made in zip(shards, tables, strict=True)}
    episodes = [row for made in tables for row in made.episodes]
    return Manifest(
        dataset=request.dataset,
        build_id=request.build_id,
        schema=resolution.schema,
        shards=tuple(
            ShardEntry(s.key, s.tar_sha256, s.tar_bytes, len(s.episodes), s.num_frames) for s in shards
        ),
        tables=digests,
        counts={
            "discovered": request.discovered,
            "written": request.discovered - len(quarantined),
            "quarantined": len(quarantined),
            "episodes": len(episodes),
            "frames": sum(row["num_frames"] for row in episodes),
            "bytes": sum(shard.tar_bytes for shard in shards),
        },
        provenance=request.provenance,
        quarantined=tuple(Quarantined(unit, reason) for unit, reason in quarantined),
    )


def _small_tables(tables: Sequence[ShardTables]) -> dict[str, pa.Table]:
    """The tables that a version has one of."""
    episodes = [{"shard": i, **row} for i, made in enumerate(tables) for row in made.episodes]
    annotations = [row for made in tables for row in made.annotations]
    leaves = [{"shard": i, **row} for i, made in enumerate(tables) for row in made.leaves]
    return {
        "episodes": pa.Table.from_pylist(episodes, schema=EPISODES_SCHEMA),
        "annotations": pa.Table.from_pylist(annotations, schema=ANNOTATIONS_SCHEMA),
        "leaves": pa.Table.from_pylist(leaves, schema=LEAVES_SCHEMA),
    }


def _write(
    store: Store, manifest: Manifest, tasks: Sequence[TablesTask], tables: Sequence[ShardTables]
) -> None:
    dataset, version_id, storage = manifest.dataset, manifest.version_id, store.storage
    for task in tasks:
        storage.write(store.frames(dataset, version_id, task.shard_key), storage.read_bytes(task.frames_path))
    for name, table in _small_tables(tables).items():
        storage.write(store.table(dataset, version_id, name), write_table(table))
