"""From shards to a committed version: have the kind make tables of them, write the tables, commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from robot_foundry.catalog.kind import Kind as CatalogKind
from robot_foundry.catalog.kind import kind_named as catalog_kind
from robot_foundry.catalog.manifest import Manifest, Quarantined, ShardEntry, commit
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.table_file import MeasuredFile, TableFile
from robot_foundry.catalog.tables import save_table, table_digest, write_table
from robot_foundry.catalog.version import Version
from robot_foundry.ingest.kind import CachedTable, IngestKind, MadeTables, Shard, VersionTables
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.runtime.parallel import Workers
from robot_foundry.runtime.storage.cache import kept

# Tables take milliseconds a shard; fewer shards than this are not worth starting workers.
SHARDS_WORTH_WORKERS = 64
WRITES_AT_ONCE = 8


@dataclass(frozen=True)
class Request:
    """What a version is made of besides its shards. `asked` is what its kind is asked of the tables."""

    store: Store
    dataset: str
    build_id: str
    kind: IngestKind
    asked: Any
    provenance: Mapping[str, Any]
    discovered: int
    refused: tuple[tuple[str, str], ...]  # units that no tar holds, with the reason
    max_errors: int | None

    @property
    def holds(self) -> CatalogKind:
        return catalog_kind(self.kind.name)


@dataclass(frozen=True)
class Assembled:
    """The committed version and its manifest."""

    version: Version
    manifest: Manifest


def assemble(request: Request, shards: Sequence[Shard], workers: Workers) -> Assembled:
    """Commit a version of these shards, in this order. Groups without rows are quarantined."""
    shards = [shard for shard in shards if shard.groups]
    groups = [group for shard in shards for group in shard.groups]
    if not groups:
        raise nothing_written(request.discovered, request.refused)
    with request.kind.version_tables(request.asked, groups) as tables:
        return _assemble(request, shards, tables, workers)


def _assemble(
    request: Request, shards: Sequence[Shard], tables: VersionTables, workers: Workers
) -> Assembled:
    entries = _entries(shards)
    made = _made_tables(request, shards, tables, entries, workers)
    quarantined = [*request.refused]
    for shard, of_shard in zip(shards, made, strict=True):
        units = {group.key: group.unit for group in shard.groups}
        quarantined += [(units[key], reason) for key, reason in sorted(of_shard.problems.items())]
    check_errors(quarantined, request.max_errors)
    if len(quarantined) >= request.discovered:
        raise nothing_written(request.discovered, quarantined)
    of_shards = _of_shards(request, tables, shards, entries, made)
    merged = tables.merged()
    provenance = tables.provenance(merged)
    manifest = _manifest(request, tables, entries, of_shards, merged, quarantined, provenance)
    manifest = replace(manifest, files=_write(request, manifest, of_shards, merged, workers))
    kill_point("tables-done")
    return Assembled(commit(request.store, manifest), manifest)


def check_errors(quarantined: Sequence[tuple[str, str]], max_errors: int | None) -> None:
    """FoundryError when more was refused than is allowed; nothing is committed then."""
    if max_errors is None or len(quarantined) <= max_errors:
        return
    raise FoundryError(
        f"{_units(len(quarantined))} refused and {max_errors} allowed: {_listed(quarantined)}",
        hint="mend or remove them, or allow more with --max-errors; what is written already is reused",
    )


def nothing_written(discovered: int, refused: Sequence[tuple[str, str]]) -> FoundryError:
    return FoundryError(
        f"nothing was written, {_units(discovered)} refused: {_listed(refused)}",
        hint="mend the source, or the spec; --dry-run tries a spec on the first unit that can be read",
    )


def _units(count: int) -> str:
    return "1 unit was" if count == 1 else f"{count} units were"


def _listed(refused: Sequence[tuple[str, str]], most: int = 3) -> str:
    """The first units with their reasons; one that several have is said once."""
    units: dict[str, list[str]] = {}
    for unit, reason in refused:
        units.setdefault(reason, []).append(unit)
    shown = [
        f"{alike[0]}: {reason}{f'; {len(alike) - 1} more for the same reason' if len(alike) > 1 else ''}"
        for reason, alike in list(units.items())[:most]
    ]
    left = sum(map(len, list(units.values())[most:]))
    return "; ".join(shown) + (f"; and {left} more" if left else "")


def _entries(shards: Sequence[Shard]) -> list[ShardEntry]:
    """The tars of the version: every shard, followed by its segments, which have no rows of their own."""
    entries = []
    for shard in shards:
        entries.append(
            ShardEntry(shard.key, shard.tar_sha256, shard.tar_bytes, len(shard.groups), shard.num_samples)
        )
        entries += [ShardEntry(tar.key, tar.sha256, tar.num_bytes, 0, 0) for tar in shard.segments]
    return entries


@dataclass(frozen=True)
class _Made:
    """What is kept of the tables of one shard; its rows are with the kind's `VersionTables`."""

    tables: Mapping[str, CachedTable]
    problems: Mapping[str, str]


def _made_tables(
    request: Request,
    shards: Sequence[Shard],
    tables: VersionTables,
    entries: Sequence[ShardEntry],
    workers: Workers,
) -> list[_Made]:
    """The tables of every shard, computed or found in the cache."""
    ordinals = {entry.key: i for i, entry in enumerate(entries)}
    tasks = (tables.task(request.store, request.dataset, shard) for shard in shards)
    by_shard: dict[int, _Made] = {}
    results = workers.map(request.kind.shard_tables, tasks, inline=len(shards) < SHARDS_WORTH_WORKERS)
    made: MadeTables
    for number, made in results:
        tables.add(number, ordinals[shards[number].key], made.rows)
        by_shard[number] = _Made(made.tables, made.problems)
    return [by_shard[number] for number in range(len(shards))]


@dataclass(frozen=True)
class _OfShard:
    """A table of one tar of the version: where it lies in the cache, or, for a segment, that it is empty."""

    table: str
    shard_key: str
    digest: str
    path: str | None

    @property
    def name(self) -> str:
        return f"{self.table}/{self.shard_key}"


def _of_shards(
    request: Request,
    tables: VersionTables,
    shards: Sequence[Shard],
    entries: Sequence[ShardEntry],
    made: Sequence[_Made],
) -> list[_OfShard]:
    by_key = dict(zip((shard.key for shard in shards), (of_shard.tables for of_shard in made), strict=True))
    listed = []
    for table in request.holds.shard_tables:
        empty = table_digest(request.holds.columns(table, tables.schema).empty_table())
        for entry in entries:
            cached = by_key[entry.key][table] if entry.key in by_key else None
            digest, path = (empty, None) if cached is None else (cached.digest, cached.path)
            listed.append(_OfShard(table, entry.key, digest, path))
    return listed


def _manifest(
    request: Request,
    tables: VersionTables,
    entries: Sequence[ShardEntry],
    of_shards: Sequence[_OfShard],
    merged: Mapping[str, pa.Table],
    quarantined: Sequence[tuple[str, str]],
    provenance: Mapping[str, Any],
) -> Manifest:
    holds = request.holds
    groups = merged[holds.groups]
    digests = {name: table_digest(table) for name, table in merged.items()}
    digests |= {item.name: item.digest for item in of_shards}
    return Manifest(
        dataset=request.dataset,
        build_id=request.build_id,
        schema=tables.schema,
        kind=holds.name,
        shards=tuple(entries),
        tables=digests,
        counts={
            "discovered": request.discovered,
            "written": request.discovered - len(quarantined),
            "quarantined": len(quarantined),
            holds.groups: groups.num_rows,
            holds.samples: pc.sum(groups[f"num_{holds.samples}"]).as_py() or 0,
            "bytes": sum(entry.tar_bytes for entry in entries),
        },
        provenance={**request.provenance, **provenance},
        quarantined=tuple(Quarantined(unit, reason) for unit, reason in quarantined),
    )


def _write(
    request: Request,
    manifest: Manifest,
    of_shards: Sequence[_OfShard],
    merged: Mapping[str, pa.Table],
    workers: Workers,
) -> dict[str, TableFile]:
    """Write the tables of the version, and tell which files hold them."""
    store, dataset, version_id = request.store, manifest.dataset, manifest.version_id
    empty = {
        table: manifest.holds.columns(table, manifest.schema).empty_table()
        for table in manifest.holds.shard_tables
    }
    place = partial(_place, store, dataset, version_id, empty)
    # Threads, because a write waits for the disk or the network.
    with ThreadPoolExecutor(WRITES_AT_ONCE) as pool:
        written = {}
        for name, table in merged.items():
            written[name] = pool.submit(_save, store, store.table(dataset, version_id, name), table)
        if len(of_shards) < SHARDS_WORTH_WORKERS:
            written |= {item.name: pool.submit(place, item) for item in of_shards}
            placed = {}
        else:
            placed = {of_shards[index].name: file for index, file in workers.map(place, of_shards)}
        return {name: done.result() for name, done in written.items()} | placed


def _save(store: Store, path: str, table: pa.Table) -> TableFile:
    with store.storage.writer(path) as file:
        measured = MeasuredFile(file)
        save_table(table, measured)
    return measured.measured()


def _place(
    store: Store, dataset: str, version_id: str, empty: Mapping[str, pa.Table], item: _OfShard
) -> TableFile:
    """Put a table of a shard where the version has it."""
    storage = store.storage
    data = write_table(empty[item.table]) if item.path is None else kept(storage, item.path)
    if data is None:
        raise FoundryError(
            f"{item.path} was removed from the store while a version was made of it",
            hint="run the same command again",
        )
    storage.write(store.table(dataset, version_id, item.name), data)
    return TableFile.of(data)
