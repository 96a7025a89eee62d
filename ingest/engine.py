"""Ingest a source: find and list its units, plan shards, write those that are missing, commit a version.

Every step can be repeated: shards are named by what goes into them, a shard is whole when its index is there,
and a version is there when its manifest is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from robot_foundry.catalog.manifest import Manifest, find_build, read_manifest
from robot_foundry.catalog.store import Store, as_store, check_name
from robot_foundry.catalog.version import Version
from robot_foundry.ingest.assemble import Request, assemble, check_errors, nothing_written
from robot_foundry.ingest.plan import INGEST_VERSION, Group, plan
from robot_foundry.ingest.scan import Listing, Source, find, fingerprints, list_units
from robot_foundry.ingest.shard_tables import TABLES_VERSION
from robot_foundry.ingest.shard_writer import ShardTask, codecs, write_shard
from robot_foundry.ingest.sources import Layout, SourceFile, layout
from robot_foundry.ingest.spec import Spec, load_spec
from robot_foundry.ingest.survey import Shard
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import UsageError
from robot_foundry.runtime.parallel import unordered_map
from robot_foundry.runtime.progress import Progress


@dataclass(frozen=True)
class Options:
    """How to run; nothing here changes what is written, except `limit`, which takes the first units only."""

    workers: int = 0
    ray_address: str | None = None
    limit: int | None = None
    max_errors: int | None = None
    fingerprint: str = "auto"
    created: str | None = None
    quiet: bool = True


DEFAULTS = Options()


@dataclass(frozen=True)
class Report:
    """What a run did. `discovered` = `written` + len(`quarantined`); `version` is None for a dry run.

    `noop` says that the version was there already. `shards_written` is what a dry run would write.
    """

    dataset: str
    version: Version | None
    discovered: int
    written: int
    quarantined: tuple[tuple[str, str], ...]
    shards_written: int
    shards_reused: int
    noop: bool
    counts: dict[str, int]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        version = self.version
        return {
            "dataset": self.dataset,
            "version": None if version is None else str(version),
            "version_id": None if version is None else version.version_id,
            "build_id": None if version is None else version.build_id,
            "discovered": self.discovered,
            "written": self.written,
            "quarantined": [{"unit": unit, "reason": reason} for unit, reason in self.quarantined],
            "shards_written": self.shards_written,
            "shards_reused": self.shards_reused,
            "noop": self.noop,
            "episodes": self.counts.get("episodes", 0),
            "frames": self.counts.get("frames", 0),
            "bytes": self.counts.get("bytes", 0),
            "warnings": list(self.warnings),
        }


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
    spec = load_spec(spec) if isinstance(spec, str) else spec
    store, reader = as_store(store), layout(spec.layout)
    check_name(name)
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"limit must be 1 or more, got {options.limit}")
    found = find(source, reader)
    files = fingerprints(found, store.storage, options.workers, options.ray_address, options.fingerprint)
    build_id = _build_id(spec, files, reader, options.limit)
    known = find_build(store, name, build_id)
    if known is not None:
        report = report_of(known, read_manifest(store, known), noop=True)
        check_errors(report.quarantined, options.max_errors)
        return report
    listing = list_units(files, spec, options.workers, options.ray_address, options.limit)
    check_errors(listing.refused, options.max_errors)
    if not listing.units:
        raise nothing_written(len(listing.refused), listing.refused)
    groups = plan(listing.units, spec.content, reader, codecs(spec.content, reader.has_images))
    if dry_run:
        return _dry_report(store, name, listing, groups)
    shards = _write_shards(store, name, spec, groups, listing, options)
    refused = (*listing.refused, *(entry for shard in shards for entry in shard.refused))
    request = Request(
        store=store,
        dataset=name,
        build_id=build_id,
        mapping=spec.mapping,
        provenance=_provenance(spec, source, found, options),
        discovered=len(listing.units) + len(listing.refused),
        refused=refused,
        max_errors=options.max_errors,
        workers=options.workers,
        ray_address=options.ray_address,
    )
    made = assemble(request, shards)
    report = report_of(made.version, made.manifest, noop=False)
    reused = sum(shard.reused for shard in shards)
    return replace(
        report,
        shards_written=len(shards) - reused,
        shards_reused=reused,
        warnings=(*made.warnings, *_source_warnings(found, made.manifest, spec)),
    )


def report_of(version: Version, manifest: Manifest, *, noop: bool) -> Report:
    """The report of a version from what its manifest says."""
    return Report(
        dataset=manifest.dataset,
        version=version,
        discovered=manifest.counts["discovered"],
        written=manifest.counts["written"],
        quarantined=tuple((entry.unit, entry.reason) for entry in manifest.quarantined),
        shards_written=0,
        shards_reused=len(manifest.shards),
        noop=noop,
        counts=dict(manifest.counts),
    )


def _build_id(spec: Spec, files: Sequence[SourceFile], reader: Layout, limit: int | None) -> str:
    """The name of the request: everything that decides what comes out."""
    return digest_of(
        {
            "ingest": [INGEST_VERSION, TABLES_VERSION],
            "layout": [reader.name, reader.version],
            "codecs": codecs(spec.content, reader.has_images),
            "spec": spec.to_json(),
            "files": [[file.path, file.fingerprint] for file in files],
            "limit": limit,
        }
    )


def _write_shards(
    store: Store, name: str, spec: Spec, groups: Sequence[Group], listing: Listing, options: Options
) -> list[Shard]:
    """All shards, in the plan's order."""
    tasks = [ShardTask(store, name, spec, group) for group in groups]
    refused = list(listing.refused)
    shards: dict[int, Shard] = {}
    with Progress(len(listing.units), "episodes", f"ingest {name}", quiet=options.quiet) as progress:
        for index, shard in unordered_map(
            write_shard, tasks, workers=options.workers, ray_address=options.ray_address
        ):
            shards[index] = shard
            refused += shard.refused
            progress.advance(len(groups[index].units), bytes=shard.tar_bytes, errors=len(shard.refused))
            check_errors(refused, options.max_errors)
    return [shards[index] for index in range(len(groups))]


def _dry_report(store: Store, name: str, listing: Listing, groups: Sequence[Group]) -> Report:
    reused = sum(store.storage.exists(store.shard_index(name, group.shard_key)) for group in groups)
    return Report(
        dataset=name,
        version=None,
        discovered=len(listing.units) + len(listing.refused),
        written=len(listing.units),
        quarantined=listing.refused,
        shards_written=len(groups) - reused,
        shards_reused=reused,
        noop=False,
        counts={"episodes": len(listing.units), "bytes": sum(group.num_bytes for group in groups)},
    )


def _provenance(spec: Spec, source: str | Path, found: Source, options: Options) -> dict[str, Any]:
    provenance = {
        "tool": f"robot_foundry {package_version('robot-foundry')}",
        "spec": spec.to_json(),
        "source": {"path": str(source), "files": len(found.files), "ignored_files": found.num_ignored},
    }
    return provenance if options.created is None else {**provenance, "created": options.created}


def _source_warnings(found: Source, manifest: Manifest, spec: Spec) -> list[str]:
    assert manifest.schema is not None
    warnings = [
        f"camera '{camera.name}' has no role in the mapping, so its name is its role"
        for camera in manifest.schema.cameras
        if camera.name not in spec.mapping.cameras
    ]
    if found.num_ignored:
        count = "1 file" if found.num_ignored == 1 else f"{found.num_ignored} files"
        warnings.append(f"passed over {count} that the layout {spec.layout} does not read")
    return warnings
