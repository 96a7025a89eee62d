"""From shards to a committed version: have the kind make tables of them, write the tables, commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa

from robot_foundry.catalog.kind import Kind as CatalogKind
from robot_foundry.catalog.kind import kind_named as catalog_kind
from robot_foundry.catalog.manifest import Manifest, Quarantined, ShardEntry, commit
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.table_file import MeasuredFile, TableFile
from robot_foundry.catalog.tables import save_table, table_digest, write_table
from robot_foundry.catalog.version import Version
from robot_foundry.ingest.kind import CachedTable, DerivedKind, MadeTables, Shard, VersionTables
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
    kind: DerivedKind
    asked: Any
    provenance: Mapping[str, Any]
    refused: tuple[Quarantined, ...]  # what no tar holds
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
    """Commit a version of these shards, in this order. Blocks without rows are quarantined."""
    left_out = _left_out(request.holds, shards)
    blocks = [block for shard in shards for block in shard.blocks]
    shards = [shard for shard in shards if shard.num_groups]
    if not shards:
        raise nothing_written(request.refused, left_out)
    with request.kind.version_tables(request.asked, blocks) as tables:
        return _assemble(request, shards, left_out, tables, workers)


@dataclass(frozen=True)
class _Outcome:
    """What became of all that was discovered: groups by number, and by name what was refused."""

    written: int
    quarantined: tuple[Quarantined, ...]
    left_out: Mapping[str, int]

    @property
    def counts(self) -> dict[str, int]:
        refused = num_refused(self.quarantined)
        discovered = self.written + refused + sum(self.left_out.values())
        return {
            "discovered": discovered,
            "written": self.written,
            "quarantined": refused,
            **self.left_out,
        }


def _left_out(holds: CatalogKind, shards: Sequence[Shard]) -> dict[str, int]:
    counts = dict.fromkeys(holds.left_out, 0)
    for shard in shards:
        for block in shard.blocks:
            for name, count in zip(holds.left_out, block.left_out, strict=True):
                counts[name] += count
    return counts


def _assemble(
    request: Request,
    shards: Sequence[Shard],
    left_out: Mapping[str, int],
    tables: VersionTables,
    workers: Workers,
) -> Assembled:
    entries = _entries(shards)
    made = _made_tables(request, shards, tables, entries, workers)
    problems: list[Quarantined] = []
    for shard, of_shard in zip(shards, made, strict=True):
        by_key = {block.key: block for block in shard.blocks}
        for key, reason in sorted(of_shard.problems.items()):
            problems.append(Quarantined(by_key[key].unit, reason, by_key[key].num_groups))
    written = sum(entry.num_groups for entry in entries) - num_refused(problems)
    outcome = _Outcome(written, (*request.refused, *problems), left_out)
    check_errors(outcome.quarantined, request.max_errors)
    if not written:
        raise nothing_written(outcome.quarantined, left_out)
    of_shards = _of_shards(request, tables, shards, entries, made)
    merged = tables.merged()
    manifest = _manifest(request, tables, entries, of_shards, merged, outcome)
    manifest = replace(manifest, files=_write(request, manifest, of_shards, merged, workers))
    kill_point("tables-done")
    return Assembled(commit(request.store, manifest), manifest)


def num_refused(quarantined: Iterable[Quarantined]) -> int:
    """How many they are in all."""
    return sum(entry.count for entry in quarantined)


def check_errors(quarantined: Sequence[Quarantined], max_errors: int | None) -> None:
    """FoundryError when more was refused than is allowed; nothing is committed then."""
    if max_errors is None or num_refused(quarantined) <= max_errors:
        return
    raise FoundryError(
        f"{_units(num_refused(quarantined))} refused and {max_errors} allowed: {_listed(quarantined)}",
        hint="mend or remove them, or allow more with --max-errors; what is written already is reused",
    )


def nothing_written(refused: Sequence[Quarantined], left_out: Mapping[str, int]) -> FoundryError:
    """`left_out` counts by name what is not there for another reason than that it was refused."""
    others = ", ".join(f"{count:,} {name}" for name, count in left_out.items() if count)
    reasons = [f"{_units(num_refused(refused))} refused: {_listed(refused)}"] if refused else []
    reasons += [f"left out: {others}"] if others else []
    return FoundryError(
        f"nothing was written, {'; '.join(reasons) or 'and nothing was found in the source'}",
        hint="mend the source, or the spec; --dry-run tries a spec on the first unit that can be read",
    )


def _units(count: int) -> str:
    return "1 unit was" if count == 1 else f"{count:,} units were"


def _listed(refused: Sequence[Quarantined], most: int = 3) -> str:
    """The first units with their reasons; one that several have is said once."""
    first: dict[str, str] = {}
    alike: Counter[str] = Counter()
    for entry in refused:
        first.setdefault(entry.reason, entry.unit)
        alike[entry.reason] += entry.count
    shown = [
        f"{unit}: {reason}{f'; {alike[reason] - 1} more for the same reason' if alike[reason] > 1 else ''}"
        for reason, unit in list(first.items())[:most]
    ]
    left = sum(alike[reason] for reason in list(first)[most:])
    return "; ".join(shown) + (f"; and {left} more" if left else "")


def _entries(shards: Sequence[Shard]) -> list[ShardEntry]:
    """The tars of the version: every shard, followed by its further tars, which have no rows of their own.

    A tar that several shards adopt, since the source has it twice, comes once.
    """
    entries: dict[str, ShardEntry] = {}
    for shard in shards:
        entries[shard.key] = ShardEntry(
            shard.key, shard.tar_sha256, shard.tar_bytes, shard.num_groups, shard.num_samples
        )
        for tar in shard.segments:
            entries.setdefault(tar.key, ShardEntry(tar.key, tar.sha256, tar.num_bytes, 0, 0))
    return list(entries.values())


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
    outcome: _Outcome,
) -> Manifest:
    holds = request.holds
    num_groups, num_samples = tables.counts(merged)
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
            **outcome.counts,
            holds.groups: num_groups,
            holds.samples: num_samples,
            "bytes": sum(entry.tar_bytes for entry in entries),
        },
        provenance={**request.provenance, **tables.provenance(merged)},
        quarantined=outcome.quarantined,
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
