"""Ingest a source: find and list its units, plan shards, write those that are missing, commit a version.

Every step can be repeated: shards are named by what goes into them, a shard is whole when its index is there,
and a version is there when its manifest is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version as package_version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from robot_foundry.catalog.kind import Kind as CatalogKind
from robot_foundry.catalog.kind import kind_named as catalog_kind
from robot_foundry.catalog.manifest import Manifest, find_build, read_build, read_manifest
from robot_foundry.catalog.refs import check_same_kind
from robot_foundry.catalog.store import Store, as_store, check_name
from robot_foundry.catalog.tars import is_whole, lacking_tables, lacking_tars
from robot_foundry.catalog.version import Version
from robot_foundry.ingest.cluster import source_seen_by_all
from robot_foundry.ingest.files.fingerprints import Fingerprints
from robot_foundry.ingest.files.same_files import (
    content_by_path,
    copies_warning,
    links_warning,
    lost_links_warning,
)
from robot_foundry.ingest.files.scan import (
    Listing,
    SourceFiles,
    choose,
    first_units,
    list_units,
    read_files,
    shared_files,
    source_files,
    unnamed_warning,
    with_texts,
)
from robot_foundry.ingest.kind import IngestKind, Shard, kind_of
from robot_foundry.ingest.plan import INGEST_VERSION, PlannedShard, batches, grouped, named, plan
from robot_foundry.ingest.report import Report, report_of
from robot_foundry.ingest.shards.shard_writer import ShardTask, write_batch, write_shards
from robot_foundry.ingest.shards.survey import Interned
from robot_foundry.ingest.sources import SourceFile, layout
from robot_foundry.ingest.sources.base import UNKNOWN
from robot_foundry.ingest.spec.spec import SourceSpec
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.ingest.tables.assemble import Request, assemble, check_errors, nothing_written, num_refused
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import UsageError
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
    spec: SourceSpec | str,
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
    spec: SourceSpec | str,
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
    spec, files = choose(source, load_spec(spec) if isinstance(spec, str) else spec)
    with Workers(options.workers, options.ray_address) as workers:
        job = _Job(as_store(store), name, spec, str(source), files, options, workers)
        check_same_kind(job.store, name, job.holds)
        return _run(job, dry_run=dry_run)


@dataclass(frozen=True)
class _Job:
    """One run."""

    store: Store
    dataset: str
    spec: SourceSpec
    source: str
    files: SourceFiles
    options: Options
    workers: Workers

    @property
    def kind(self) -> IngestKind:
        return kind_of(self.spec)

    @property
    def holds(self) -> CatalogKind:
        return catalog_kind(self.kind.name)


def _run(job: _Job, *, dry_run: bool) -> Report:
    with ExitStack() as until_done:
        if job.options.ray_address is not None:
            until_done.enter_context(source_seen_by_all(job.files, job.store, job.workers))
        options = job.options
        fingerprints = Fingerprints(job.files.root, job.store.storage, job.workers, options.fingerprint)
        is_all_written = options.limit is None and not dry_run
        reads_ahead = job.workers.inline and not job.kind.compares(job.spec)
        if reads_ahead and is_all_written and fingerprints.reads(job.files.statuses):
            return _run_reading(job, fingerprints)
        files, listing = _look(job, fingerprints)
        shared, reader = shared_files(job.files, fingerprints), layout(job.spec.layout)
        build_id = _build_id(job, [*files, *shared], options.limit)
        made = _made(job, build_id)
        if made is not None:
            return made
        if listing is None:
            listing = list_units(files, job.spec, job.workers, quiet=options.quiet)
        listing = with_texts(listing, shared, reader)
        _check(job, listing)
        listing = _compared(job, listing, dry_run=dry_run)
        planned = plan(listing.units, job.spec, job.kind.codecs(job.spec))
        if dry_run:
            return _dry_report(job, files, listing, planned, build_id)
        return _commit(job, build_id, listing, _write_shards(job, planned, listing))


def _run_reading(job: _Job, fingerprints: Fingerprints) -> Report:
    """The run of one process where files must be read for their fingerprints.

    They are read while shards of those before are written. So whether the version is there already is known
    at the end, when all its shards were found.
    """
    versions = job.kind.codecs(job.spec)
    files = source_files(job.files, lambda path: UNKNOWN)
    shared = shared_files(job.files, fingerprints)
    listing = list_units(files, job.spec, job.workers, quiet=job.options.quiet)
    listing = with_texts(listing, shared, layout(job.spec.layout))
    _check(job, listing)
    with fingerprints.ahead(job.files.statuses) as fingerprint:
        planned = (
            named([unit.fingerprinted(fingerprint) for unit in units], job.spec, versions)
            for units in grouped(listing.units, job.spec)
        )
        shards = _write_shards(job, planned, listing)
    files = read_files(job.files, fingerprints, quiet=job.options.quiet)
    build_id = _build_id(job, [*files, *shared], None)
    made = _made(job, build_id) if all(shard.reused for shard in shards) else None
    return made or _commit(job, build_id, listing, shards)


def _made(job: _Job, build_id: str) -> Report | None:
    """The report of the version, if it is there with all its files."""
    version = find_build(job.store, job.dataset, build_id)
    if version is None:
        return None
    manifest = read_manifest(job.store, version)
    if lacking_tars(job.store, manifest) or lacking_tables(job.store, manifest):
        return None  # so it is made again, of what is still there and what is written anew
    build = read_build(job.store, job.store.build(job.dataset, build_id))
    report = report_of(job.store, version, manifest, noop=True, provenance=build["provenance"])
    check_errors(report.refused, job.options.max_errors)
    return report


def _check(job: _Job, listing: Listing) -> None:
    """FoundryError if there is nothing to write, or too much was refused."""
    check_errors(listing.refused, job.options.max_errors)
    if not listing.units:
        raise nothing_written(listing.refused, {})


def _compared(job: _Job, listing: Listing, *, dry_run: bool) -> Listing:
    """The listing with what comparing its units tells, where the kind asks for that.

    What was read for it stays in the cache, also of a dry run, which needs no store to write to, though.
    """
    if not job.kind.compares(job.spec):
        return listing
    compared = partial(job.kind.compared, listing.units, job.spec, quiet=job.options.quiet)
    try:
        units = compared(job.store, job.workers)
    except OSError:
        if not dry_run:
            raise
        with TemporaryDirectory(prefix="robot-foundry-") as folder:
            units = compared(as_store(folder), Workers())
    return replace(listing, units=tuple(units))


def _look(job: _Job, fingerprints: Fingerprints) -> tuple[list[SourceFile], Listing | None]:
    """The files with their fingerprints; with a limit those of the first units only, and these units."""
    options = job.options
    if options.limit is not None:
        return first_units(job.files, job.spec, fingerprints, options.limit)
    return read_files(job.files, fingerprints, quiet=options.quiet), None


def _commit(job: _Job, build_id: str, listing: Listing, shards: Sequence[Shard]) -> Report:
    request = Request(
        store=job.store,
        dataset=job.dataset,
        build_id=build_id,
        kind=job.kind,
        asked=job.kind.asked(job.spec),
        provenance=_provenance(job),
        refused=(*listing.refused, *(entry for shard in shards for entry in shard.quarantined)),
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
            *_source_warnings(job, made.manifest, listing),
            *copies_warning(_content(shards), job.holds.groups),
        ),
    )


def _content(shards: Sequence[Shard]) -> dict[str, str]:
    """What tells the content of every file that a group is of, by its path."""
    return dict(block.source_file for shard in shards for block in shard.blocks if block.num_groups)


def _build_id(job: _Job, files: Sequence[SourceFile], limit: int | None) -> str:
    """The name of the request: everything that decides what comes out."""
    reader, values = layout(job.spec.layout), job.spec.to_json()
    # Where a dataset may lie, and in which other forms, decides nothing once it was found in this one.
    deciding = {name: value for name, value in values.items() if name not in ("forms", "locations")}
    return digest_of(
        {
            "ingest": [INGEST_VERSION, job.kind.tables_version],
            "layout": [reader.name, reader.version],
            "codecs": job.kind.codecs(job.spec),
            "spec": deciding,
            "files": [[file.path, file.fingerprint] for file in files],
            "limit": limit,
        }
    )


def _write_shards(job: _Job, planned: Iterable[PlannedShard], listing: Listing) -> list[Shard]:
    """All shards, in the plan's order."""
    refused, pool = list(listing.refused), Interned(job.kind)
    shards: dict[str, Shard] = {}
    in_order: list[str] = []

    def upcoming() -> Iterator[PlannedShard]:
        for item in planned:
            in_order.append(item.shard_key)
            yield item

    label = f"ingest {job.dataset}"
    with Progress(len(listing.units), "units", label, quiet=job.options.quiet) as progress:
        for item, shard in _written(job, upcoming()):
            shards[shard.key] = pool.shard(shard)
            refused += shard.quarantined
            num_refused_here = num_refused(shard.quarantined)
            progress.advance(len(item.units), bytes=shard.num_bytes, errors=num_refused_here)
            check_errors(refused, job.options.max_errors)
    return [shards[key] for key in in_order]


def _written(job: _Job, planned: Iterable[PlannedShard]) -> Iterator[tuple[PlannedShard, Shard]]:
    """What was planned, each with its shard, as they come."""

    def task(item: PlannedShard) -> ShardTask:
        return ShardTask(job.store, job.dataset, job.spec, item)

    if job.workers.inline:
        yield from write_shards(map(task, planned))
        return
    together = batches(list(planned))
    for _, made in job.workers.map(write_batch, (list(map(task, batch)) for batch in together)):
        yield from made


def _dry_report(
    job: _Job, files: Sequence[SourceFile], listing: Listing, planned: Sequence[PlannedShard], build_id: str
) -> Report:
    keys = [key for item in planned for key in item.shard_keys]
    reused = sum(is_whole(job.store, job.dataset, key) for key in keys)
    expected = job.kind.preview(job.spec, listing.units, sum(file.num_bytes for file in files))
    content = {} if job.kind.compares(job.spec) else content_by_path(files)
    refused = (*listing.refused, *expected.refused)
    written = len(listing.units) - len(expected.refused)
    check_errors(refused, job.options.max_errors)
    return Report(
        holds=job.holds,
        dataset=job.dataset,
        version=None,
        discovered=len(listing.units) + len(listing.refused),
        written=written,
        refused=refused,
        shards_written=len(keys) - reused if written else 0,
        shards_reused=reused,
        noop=False,
        counts={
            job.holds.groups: expected.num_groups or 0,
            job.holds.samples: expected.num_samples or 0,
            "bytes": expected.stored_bytes,
        },
        warnings=(
            *expected.warnings,
            *_missing(job),
            *_links(job.files),
            *copies_warning(content, job.holds.groups),
        ),
        build_id=build_id,
        absence=expected.absence,
        preview=expected,
    )


def _provenance(job: _Job) -> dict[str, Any]:
    files, created = job.files, job.options.created
    provenance = {
        "tool": f"robot_foundry {package_version('robot-foundry')}",
        "spec": job.spec.to_json(),
        "source": {
            "path": job.source,
            "files": len(files.files),
            "ignored_files": files.num_ignored,
            **({"ignored": list(files.ignored)} if files.ignored else {}),
        },
    }
    return provenance if created is None else {**provenance, "created": created}


def _source_warnings(job: _Job, manifest: Manifest, listing: Listing) -> list[str]:
    warnings = [] if manifest.schema is None else job.kind.advice(manifest.schema)
    warnings += _missing(job)
    warnings += _links(job.files)
    if job.options.limit is None:
        warnings += unnamed_warning(job.files, listing)
    num_ignored = job.files.num_ignored
    if num_ignored:
        count = "1 file" if num_ignored == 1 else f"{num_ignored} files"
        more = ", …" if num_ignored > len(job.files.ignored) else ""
        names = f"{', '.join(job.files.ignored)}{more}"
        warnings.append(f"passed over {count} that the layout {job.spec.layout} does not read: {names}")
    return warnings


def _missing(job: _Job) -> list[str]:
    """What the source says that it has and that is not there."""
    paths = [entry.status.path for entry in job.files.files]
    return layout(job.spec.layout).missing(job.files.root, paths)


def _links(files: SourceFiles) -> list[str]:
    """Warnings of the links in the source."""
    return [*links_warning(files.again), *lost_links_warning(files.nowhere)]
