"""Ingest a source: find and list its units, plan shards, write those that are missing, commit a version.

Every step can be repeated: shards are named by what goes into them, a shard is whole when its index is there,
and a version is there when its manifest is.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from robot_foundry.catalog.manifest import Manifest, find_build, read_build, read_manifest
from robot_foundry.catalog.opening import is_whole, lacking_tables, lacking_tars
from robot_foundry.catalog.robot.schema import schema_of
from robot_foundry.catalog.store import Store, as_store, check_name
from robot_foundry.catalog.version import Version
from robot_foundry.ingest.absence.asked import Asked
from robot_foundry.ingest.assemble import Request, assemble, check_errors, nothing_written
from robot_foundry.ingest.fingerprints import Fingerprints
from robot_foundry.ingest.plan import INGEST_VERSION, Group, grouped, named, plan
from robot_foundry.ingest.report import Report, report_of
from robot_foundry.ingest.robot.pictures import advice, codecs
from robot_foundry.ingest.robot.preview import preview
from robot_foundry.ingest.robot.shard_tables import TABLES_VERSION
from robot_foundry.ingest.same_files import known_content, told_again, told_copies, told_nowhere
from robot_foundry.ingest.scan import (
    Listing,
    SourceFiles,
    choose,
    first_units,
    list_units,
    read_files,
    shared_files,
    source_files,
    with_texts,
)
from robot_foundry.ingest.shard_writer import ShardTask, write_batch, write_shards
from robot_foundry.ingest.sources import SourceFile, layout
from robot_foundry.ingest.sources.base import UNKNOWN
from robot_foundry.ingest.spec.spec import Spec
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.ingest.survey import Interned, Shard
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import UsageError
from robot_foundry.runtime.files import is_remote
from robot_foundry.runtime.parallel import Workers
from robot_foundry.runtime.progress import Progress


@dataclass(frozen=True)
class Options:
    """How to run; nothing here changes what is written, except `limit`, which takes the first units only.

    `fingerprint` says by what a remote file is known: auto is its store's checksum, full is its content.
    """

    workers: int = 0
    ray_address: str | None = None
    limit: int | None = None
    max_errors: int | None = None
    fingerprint: str = "auto"
    created: str | None = None
    quiet: bool = True


DEFAULTS = Options()


def ingest(
    spec: Spec | str,
    source: str | Path,
    *,
    store: Store | str | os.PathLike[str] | None = None,
    name: str,
    workers: int = 0,
    **options: Any,
) -> Version:
    """A version of dataset `name` from the file, folder or glob `source`; see `run` for the other options."""
    report = run(spec, source, store=store, name=name, options=Options(workers=workers, **options))
    assert report.version is not None
    return report.version


def run(
    spec: Spec | str,
    source: str | Path,
    *,
    store: Store | str | os.PathLike[str] | None = None,
    name: str,
    options: Options = DEFAULTS,
    dry_run: bool = False,
) -> Report:
    """Ingest, and tell what happened. Bad units are quarantined by name; FoundryError if nothing is left.

    With `max_errors` the run fails, and commits nothing, when more units than that are refused.
    """
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"limit must be 1 or more, got {options.limit}")
    check_name(name)
    spec, found = choose(source, load_spec(spec) if isinstance(spec, str) else spec)
    with Workers(options.workers, options.ray_address) as workers:
        job = _Job(as_store(store), name, spec, str(source), found, options, workers)
        return _run(job, dry_run=dry_run)


@dataclass(frozen=True)
class _Job:
    """One run."""

    store: Store
    dataset: str
    spec: Spec
    source: str
    found: SourceFiles
    options: Options
    workers: Workers


def _run(job: _Job, *, dry_run: bool) -> Report:
    with ExitStack() as until_done:
        if job.options.ray_address is not None:
            until_done.enter_context(_seen_by_all(job))
        options = job.options
        known = Fingerprints(job.found.root, job.store.storage, job.workers, options.fingerprint)
        if job.workers.inline and options.limit is None and not dry_run and known.reads(job.found.statuses):
            return _run_reading(job, known)
        files, listing = _look(job, known)
        shared, reader = shared_files(job.found, known), layout(job.spec.layout)
        build_id = _build_id(job.spec, [*files, *shared], options.limit)
        made = _made(job, build_id)
        if made is not None:
            return made
        if listing is None:
            listing = list_units(files, job.spec, job.workers, quiet=options.quiet)
        listing = with_texts(listing, shared, reader)
        _check(job, listing)
        groups = plan(listing.units, job.spec.content, reader, codecs(job.spec.content, reader))
        if dry_run:
            return _dry_report(job, files, listing, groups, build_id)
        return _commit(job, build_id, listing, _write_shards(job, groups, listing))


def _run_reading(job: _Job, known: Fingerprints) -> Report:
    """The run of one process where files must be read for their fingerprints.

    They are read while shards of those before are written. So whether the version is there already is known
    at the end, when all its shards were found.
    """
    content, reader = job.spec.content, layout(job.spec.layout)
    versions = codecs(content, reader)
    files = source_files(job.found, lambda path: UNKNOWN)
    shared = shared_files(job.found, known)
    listing = list_units(files, job.spec, job.workers, quiet=job.options.quiet)
    listing = with_texts(listing, shared, reader)
    _check(job, listing)
    with known.ahead(job.found.statuses) as fingerprint:
        groups = (
            named([unit.fingerprinted(fingerprint) for unit in units], content, reader, versions)
            for units in grouped(listing.units, content, reader)
        )
        shards = _write_shards(job, groups, listing)
    files = read_files(job.found, known, quiet=job.options.quiet)
    build_id = _build_id(job.spec, [*files, *shared], None)
    made = _made(job, build_id) if all(shard.reused for shard in shards) else None
    return made or _commit(job, build_id, listing, shards)


def _made(job: _Job, build_id: str) -> Report | None:
    """The report of the version, if it is there with all its files."""
    known = find_build(job.store, job.dataset, build_id)
    if known is None:
        return None
    manifest = read_manifest(job.store, known)
    if lacking_tars(job.store, manifest) or lacking_tables(job.store, manifest):
        return None  # so it is made again, of what is still there and what is written anew
    build = read_build(job.store, job.store.build(job.dataset, build_id))
    report = report_of(job.store, known, manifest, noop=True, provenance=build["provenance"])
    check_errors(report.quarantined, job.options.max_errors)
    return report


def _check(job: _Job, listing: Listing) -> None:
    """FoundryError if there is nothing to write, or too much was refused."""
    check_errors(listing.refused, job.options.max_errors)
    if not listing.units:
        raise nothing_written(len(listing.refused), listing.refused)


@contextmanager
def _seen_by_all(job: _Job) -> Iterator[None]:
    """Have the nodes of a cluster checked for a local source and a local store before they work."""
    if not is_remote(job.found.root):
        first = job.found.statuses[:1]
        job.workers.require({str(Path(job.found.root, file.path)): file.size for file in first})
    probe = f"cache/probes/{secrets.token_hex(8)}"
    local = job.store.storage.local_path(probe)
    if local is None:
        yield
        return
    job.store.storage.write(probe, b"probe")
    job.workers.require({str(local): len(b"probe")})
    try:
        yield
    finally:
        job.store.storage.delete(probe)


def _look(job: _Job, known: Fingerprints) -> tuple[list[SourceFile], Listing | None]:
    """The files with their fingerprints; with a limit those of the first units only, and these units."""
    options = job.options
    if options.limit is not None:
        return first_units(job.found, job.spec, known, options.limit)
    return read_files(job.found, known, quiet=options.quiet), None


def _commit(job: _Job, build_id: str, listing: Listing, shards: Sequence[Shard]) -> Report:
    request = Request(
        store=job.store,
        dataset=job.dataset,
        build_id=build_id,
        asked=Asked.of(job.spec),
        provenance=_provenance(job),
        discovered=len(listing.units) + len(listing.refused),
        refused=(*listing.refused, *(entry for shard in shards for entry in shard.refused)),
        max_errors=job.options.max_errors,
    )
    made = assemble(request, shards, job.workers)
    reused = sum(1 + len(shard.segments) for shard in shards if shard.reused)
    report = report_of(job.store, made.version, made.manifest, noop=False)
    return replace(
        report,
        shards_written=sum(1 + len(shard.segments) for shard in shards) - reused,
        shards_reused=reused,
        warnings=(
            *report.warnings,
            *_source_warnings(job, made.manifest),
            *told_copies(_content(shards)),
        ),
    )


def _content(shards: Sequence[Shard]) -> dict[str, str]:
    """The BLAKE3 of every file that an episode is of."""
    sources = (item.episode["source"] for shard in shards for item in shard.episodes)
    return {source["path"]: source["blake3"] for source in sources}


def _build_id(spec: Spec, files: Sequence[SourceFile], limit: int | None) -> str:
    """The name of the request: everything that decides what comes out."""
    reader = layout(spec.layout)
    # Where a dataset may lie, and in which other forms, decides nothing once it was found in this one.
    told = {name: value for name, value in spec.to_json().items() if name not in ("forms", "locations")}
    return digest_of(
        {
            "ingest": [INGEST_VERSION, TABLES_VERSION],
            "layout": [reader.name, reader.version],
            "codecs": codecs(spec.content, reader),
            "spec": told,
            "files": [[file.path, file.fingerprint] for file in files],
            "limit": limit,
        }
    )


def _write_shards(job: _Job, groups: Iterable[Group], listing: Listing) -> list[Shard]:
    """All shards, in the plan's order."""
    refused, pool = list(listing.refused), Interned()
    shards: dict[str, Shard] = {}
    planned: list[str] = []

    def upcoming() -> Iterator[Group]:
        for group in groups:
            planned.append(group.shard_key)
            yield group

    label = f"ingest {job.dataset}"
    with Progress(len(listing.units), "episodes", label, quiet=job.options.quiet) as progress:
        for group, shard in _written(job, upcoming()):
            shards[shard.key] = pool.shard(shard)
            refused += shard.refused
            progress.advance(len(group.units), bytes=shard.num_bytes, errors=len(shard.refused))
            check_errors(refused, job.options.max_errors)
    return [shards[key] for key in planned]


def _written(job: _Job, groups: Iterable[Group]) -> Iterator[tuple[Group, Shard]]:
    """Each group with its shard, as they come."""

    def task(group: Group) -> ShardTask:
        return ShardTask(job.store, job.dataset, job.spec, group)

    if job.workers.inline:
        yield from write_shards(map(task, groups))
        return
    batches = _batches(list(groups))
    for _, made in job.workers.map(write_batch, (list(map(task, batch)) for batch in batches)):
        yield from made


def _batches(groups: Sequence[Group]) -> list[list[Group]]:
    """What one worker does in one go: the shards of one remote file together, so that it is fetched once."""
    batches: list[list[Group]] = []
    for group in groups:
        file = group.units[0].file
        if batches and file.is_remote and batches[-1][-1].units[-1].file == file:
            batches[-1].append(group)
        else:
            batches.append([group])
    return batches


def _dry_report(
    job: _Job, files: Sequence[SourceFile], listing: Listing, groups: Sequence[Group], build_id: str
) -> Report:
    keys = [key for group in groups for key in group.shard_keys]
    reused = sum(is_whole(job.store, job.dataset, key) for key in keys)
    expected = preview(job.spec, listing.units, sum(file.num_bytes for file in files))
    return Report(
        dataset=job.dataset,
        version=None,
        discovered=len(listing.units) + len(listing.refused),
        written=len(listing.units),
        quarantined=listing.refused,
        shards_written=len(keys) - reused,
        shards_reused=reused,
        noop=False,
        counts={
            "episodes": len(listing.units),
            "frames": expected.frames or 0,
            "bytes": expected.stored_bytes,
        },
        warnings=(*expected.warnings, *_links(job.found), *told_copies(known_content(files))),
        build_id=build_id,
        absence=expected.absence,
        preview=expected,
    )


def _provenance(job: _Job) -> dict[str, Any]:
    found, created = job.found, job.options.created
    provenance = {
        "tool": f"robot_foundry {package_version('robot-foundry')}",
        "spec": job.spec.to_json(),
        "source": {
            "path": job.source,
            "files": len(found.files),
            "ignored_files": found.num_ignored,
            **({"ignored": list(found.ignored)} if found.ignored else {}),
        },
    }
    return provenance if created is None else {**provenance, "created": created}


def _source_warnings(job: _Job, manifest: Manifest) -> list[str]:
    cameras = schema_of(manifest).cameras
    hint = advice({camera.name: (camera.height, camera.width) for camera in cameras})
    warnings = [] if hint is None else [hint]
    paths = [found.status.path for found in job.found.files]
    warnings += layout(job.spec.layout).missing(job.found.root, paths)
    warnings += _links(job.found)
    num_ignored = job.found.num_ignored
    if num_ignored:
        count = "1 file" if num_ignored == 1 else f"{num_ignored} files"
        more = ", …" if num_ignored > len(job.found.ignored) else ""
        names = f"{', '.join(job.found.ignored)}{more}"
        warnings.append(f"passed over {count} that the layout {job.spec.layout} does not read: {names}")
    return warnings


def _links(found: SourceFiles) -> list[str]:
    """What is to be told of the links in the source."""
    return [*told_again(found.again), *told_nowhere(found.nowhere)]
