"""From shards to a committed version: fit the mapping, compute the tables, write them, commit."""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from robot_foundry.catalog.manifest import Manifest, Quarantined, ShardEntry, commit
from robot_foundry.catalog.robot.plausibility import doubts
from robot_foundry.catalog.robot.schema import Schema, schema_of
from robot_foundry.catalog.robot.tables import (
    ANNOTATIONS_SCHEMA,
    EPISODES_SCHEMA,
    LEAVES_SCHEMA,
    frames_schema_of,
)
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.table_file import MeasuredFile, TableFile
from robot_foundry.catalog.tables import save_table, table_digest, write_table
from robot_foundry.catalog.version import Version
from robot_foundry.checks import rules as checks
from robot_foundry.checks.evidence import Evidence
from robot_foundry.checks.finding import Finding
from robot_foundry.ingest.absence.absence import Absence, Outcome, absence
from robot_foundry.ingest.absence.asked import Asked
from robot_foundry.ingest.absence.notes import Notes, sentences
from robot_foundry.ingest.robot.resolve import Resolution, resolve
from robot_foundry.ingest.robot.shard_tables import ShardTables, TablesTask, shard_tables
from robot_foundry.ingest.spec.spec import MappingSpec, mapping_json
from robot_foundry.ingest.spilled import Spilled
from robot_foundry.ingest.survey import Shard
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.runtime.overrides import set_options
from robot_foundry.runtime.parallel import Workers
from robot_foundry.runtime.storage.cache import kept

# Tables take milliseconds a shard; fewer shards than this are not worth starting workers.
SHARDS_WORTH_WORKERS = 64
WRITES_AT_ONCE = 8


@dataclass(frozen=True)
class Request:
    """What a version is made of besides its shards."""

    store: Store
    dataset: str
    build_id: str
    asked: Asked
    provenance: Mapping[str, Any]
    discovered: int
    refused: tuple[tuple[str, str], ...]  # units that no tar holds, with the reason
    max_errors: int | None

    @property
    def mapping(self) -> MappingSpec:
        return self.asked.mapping


@dataclass(frozen=True)
class Assembled:
    """The committed version and its manifest."""

    version: Version
    manifest: Manifest


@dataclass(frozen=True)
class _Tables:
    """The tables of one shard as they are kept for the version, in few bytes."""

    frames_digest: str
    frames_path: str
    episodes: pa.Table
    annotations: pa.Table
    leaves: int  # the number of the table that is spilled
    problems: Mapping[str, str]
    evidence: bytes  # canonical JSON, compressed
    notes: Notes


def assemble(request: Request, shards: Sequence[Shard], workers: Workers) -> Assembled:
    """Commit a version of these shards, in this order. Episodes that the mapping misfits are quarantined."""
    shards = [shard for shard in shards if shard.episodes]
    surveyed = [item for shard in shards for item in shard.episodes]
    if not surveyed:
        raise nothing_written(request.discovered, request.refused)
    resolution = resolve(request.mapping, surveyed)
    with Spilled(LEAVES_SCHEMA) as leaves:
        return _assemble(request, shards, resolution, workers, leaves)


def _assemble(
    request: Request, shards: Sequence[Shard], resolution: Resolution, workers: Workers, leaves: Spilled
) -> Assembled:
    entries = _entries(shards)
    ordinals = {entry.key: i for i, entry in enumerate(entries)}
    tables = _all_tables(request, shards, resolution, ordinals, workers, leaves)
    quarantined = [*request.refused]
    for shard, made in zip(shards, tables, strict=True):
        units = {item.key: item.unit for item in shard.episodes}
        quarantined += [(units[key], reason) for key, reason in sorted(made.problems.items())]
    check_errors(quarantined, request.max_errors)
    if len(quarantined) >= request.discovered:
        raise nothing_written(request.discovered, quarantined)
    frames = _frames(entries, dict(zip((shard.key for shard in shards), tables, strict=True)), resolution)
    small = _small_tables(tables, leaves)
    found = _doubts(request, resolution, tables, small["leaves"])
    told = sentences(
        (made.notes for made in tables),
        small["episodes"].num_rows,
        pc.sum(small["episodes"]["num_frames"]).as_py() or 0,
    )
    resolution = replace(resolution, warnings=(*resolution.warnings, *told))
    lost = _absence(request, resolution, shards, tables, small)
    manifest = _manifest(request, resolution, entries, frames, small, quarantined, found, lost)
    manifest = replace(manifest, files=_write(request.store, manifest, frames, small, workers))
    kill_point("tables-done")
    return Assembled(commit(request.store, manifest), manifest)


def warnings_of(provenance: Mapping[str, Any]) -> tuple[str, ...]:
    """What was lost or not found when a version was made, and what the data checks found, a sentence each."""
    lost = provenance.get("absence", {}).get("warnings", ())
    found = provenance.get("checks", {}).get("findings", ())
    return (*lost, *map(_warning, found))


def _warning(finding: Mapping[str, Any]) -> str:
    settings = set_options(finding["overrides"])
    return f"{finding['message']}: {finding['remedy']}" + (f" ({settings})" if settings else "")


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
        f"{own[0]}: {reason}{f'; {len(own) - 1} more for the same reason' if len(own) > 1 else ''}"
        for reason, own in list(units.items())[:most]
    ]
    left = sum(map(len, list(units.values())[most:]))
    return "; ".join(shown) + (f"; and {left} more" if left else "")


def _task(request: Request, shard: Shard, resolution: Resolution) -> TablesTask:
    keys = [item.key for item in shard.episodes]
    problems = {key: resolution.problems[key] for key in keys if key in resolution.problems}
    return TablesTask(request.store, request.dataset, shard.key, resolution, problems)


def _entries(shards: Sequence[Shard]) -> list[ShardEntry]:
    """The tars of the version: every shard, followed by its segments, which have no rows of their own."""
    entries = []
    for shard in shards:
        entries.append(
            ShardEntry(shard.key, shard.tar_sha256, shard.tar_bytes, len(shard.episodes), shard.num_frames)
        )
        entries += [ShardEntry(tar.key, tar.sha256, tar.num_bytes, 0, 0) for tar in shard.segments]
    return entries


def _all_tables(
    request: Request,
    shards: Sequence[Shard],
    resolution: Resolution,
    ordinals: Mapping[str, int],
    workers: Workers,
    leaves: Spilled,
) -> list[_Tables]:
    tasks = (_task(request, shard, resolution) for shard in shards)
    made: dict[int, _Tables] = {}
    for index, tables in workers.map(shard_tables, tasks, inline=len(shards) < SHARDS_WORTH_WORKERS):
        path = _task(request, shards[index], resolution).frames_path
        made[index] = _kept(tables, path, ordinals[shards[index].key], leaves)
    return [made[index] for index in range(len(shards))]


def _kept(tables: ShardTables, frames_path: str, ordinal: int, leaves: Spilled) -> _Tables:
    def table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
        return pa.Table.from_pylist([{"shard": ordinal, **row} for row in rows], schema=schema)

    return _Tables(
        tables.frames_digest,
        frames_path,
        table(tables.episodes, EPISODES_SCHEMA),
        table(tables.annotations, ANNOTATIONS_SCHEMA),
        leaves.add(table(tables.leaves, LEAVES_SCHEMA)),
        tables.problems,
        zlib.compress(canonical_json(tables.evidence.to_json())),
        tables.notes,
    )


@dataclass(frozen=True)
class _Frames:
    """A frames table of the version: where it lies in the cache, or, for a segment, that it is empty."""

    shard_key: str
    digest: str
    path: str | None


def _frames(
    entries: Sequence[ShardEntry], tables: Mapping[str, _Tables], resolution: Resolution
) -> list[_Frames]:
    empty = table_digest(_empty_frames(resolution.schema))
    return [
        _Frames(entry.key, tables[entry.key].frames_digest, tables[entry.key].frames_path)
        if entry.key in tables
        else _Frames(entry.key, empty, None)
        for entry in entries
    ]


def _empty_frames(schema: Schema) -> pa.Table:
    return frames_schema_of(schema).empty_table()


def _manifest(
    request: Request,
    resolution: Resolution,
    entries: Sequence[ShardEntry],
    frames: Sequence[_Frames],
    small: Mapping[str, pa.Table],
    quarantined: Sequence[tuple[str, str]],
    found: Sequence[Finding],
    lost: Absence,
) -> Manifest:
    digests = {name: table_digest(table) for name, table in small.items()}
    digests |= {f"frames/{item.shard_key}": item.digest for item in frames}
    return Manifest(
        dataset=request.dataset,
        build_id=request.build_id,
        schema=resolution.schema,
        shards=tuple(entries),
        tables=digests,
        counts={
            "discovered": request.discovered,
            "written": request.discovered - len(quarantined),
            "quarantined": len(quarantined),
            "episodes": small["episodes"].num_rows,
            "frames": pc.sum(small["episodes"]["num_frames"]).as_py() or 0,
            "bytes": sum(entry.tar_bytes for entry in entries),
        },
        provenance={
            **request.provenance,
            "arrays": {key: [list(shape) for shape in found] for key, found in resolution.arrays.items()},
            "controllers": {name: list(found) for name, found in resolution.controllers.items()},
            "absence": lost.record,
            "checks": {
                "version": checks.VERSION,
                "found": len(found),
                "findings": [finding.to_json() for finding in found],
            },
        },
        quarantined=tuple(Quarantined(unit, reason) for unit, reason in quarantined),
    )


def _doubts(
    request: Request, resolution: Resolution, tables: Sequence[_Tables], leaves: pa.Table
) -> list[Finding]:
    """What the data checks find, the same for any number of workers."""
    evidence = (Evidence.from_json(json.loads(zlib.decompress(made.evidence))) for made in tables)
    mapping, spec = mapping_json(request.mapping), request.provenance.get("spec") or {}
    return doubts(resolution.schema, Evidence.merge_all(evidence), leaves, mapping, spec.get("content"))


def _absence(
    request: Request,
    resolution: Resolution,
    shards: Sequence[Shard],
    tables: Sequence[_Tables],
    small: Mapping[str, pa.Table],
) -> Absence:
    """What the source of the written episodes holds and nothing takes, and what is asked for and absent."""
    told: dict[str, set[tuple[str, str]]] = defaultdict(set)
    columns = (small["annotations"][name].to_pylist() for name in ("key", "kind", "source"))
    for key, kind, source in zip(*columns, strict=True):
        told[key].add((kind, source))
    columns = (small["episodes"][name].to_pylist() for name in ("key", "source", "id", "success"))
    outcomes = [
        Outcome(f"{path}#{episode}", success, frozenset(told[key]))
        for key, path, episode, success in zip(*columns, strict=True)
    ]
    written = [
        item
        for shard, made in zip(shards, tables, strict=True)
        for item in shard.episodes
        if item.key not in made.problems
    ]
    return absence(request.asked, resolution, written, outcomes)


def _small_tables(tables: Sequence[_Tables], leaves: Spilled) -> dict[str, pa.Table]:
    """The tables that a version has one of."""
    episodes = pa.concat_tables([EPISODES_SCHEMA.empty_table(), *(made.episodes for made in tables)])
    annotations = pa.concat_tables([ANNOTATIONS_SCHEMA.empty_table(), *(made.annotations for made in tables)])
    return {
        "episodes": episodes.combine_chunks(),
        "annotations": annotations.combine_chunks(),
        "leaves": leaves.table(made.leaves for made in tables),
    }


def _write(
    store: Store,
    manifest: Manifest,
    frames: Sequence[_Frames],
    small: Mapping[str, pa.Table],
    workers: Workers,
) -> dict[str, TableFile]:
    """Write the tables of the version, and tell which files hold them."""
    place = partial(_place, store, manifest.dataset, manifest.version_id, schema_of(manifest))
    names = [f"frames/{item.shard_key}" for item in frames]
    # Threads, because a write waits for the disk or the network.
    with ThreadPoolExecutor(WRITES_AT_ONCE) as pool:
        written = {}
        for name, table in small.items():
            path = store.table(manifest.dataset, manifest.version_id, name)
            written[name] = pool.submit(_save, store, path, table)
        if len(frames) < SHARDS_WORTH_WORKERS:
            written |= {name: pool.submit(place, item) for name, item in zip(names, frames, strict=True)}
            placed = {}
        else:
            placed = {names[index]: file for index, file in workers.map(place, frames)}
        return {name: done.result() for name, done in written.items()} | placed


def _save(store: Store, path: str, table: pa.Table) -> TableFile:
    with store.storage.writer(path) as file:
        measured = MeasuredFile(file)
        save_table(table, measured)
    return measured.measured()


def _place(store: Store, dataset: str, version_id: str, schema: Schema, frames: _Frames) -> TableFile:
    """Put a frames table where the version has it."""
    storage = store.storage
    data = write_table(_empty_frames(schema)) if frames.path is None else kept(storage, frames.path)
    if data is None:
        raise FoundryError(
            f"{frames.path} was removed from the store while a version was made of it",
            hint="run the same command again",
        )
    storage.write(store.frames(dataset, version_id, frames.shard_key), data)
    return TableFile.of(data)
