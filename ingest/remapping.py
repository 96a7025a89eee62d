"""A new version from the tars of another: a new mapping, the same bytes. No image is read, no tar written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from robot_foundry.catalog.kind import MIXTURE, ROOMS
from robot_foundry.catalog.manifest import Manifest, find_build, read_build, read_manifest
from robot_foundry.catalog.refs import resolve as resolve_reference
from robot_foundry.catalog.store import Store, as_store
from robot_foundry.catalog.tars import lacking_tables, lacking_tars
from robot_foundry.catalog.version import Version
from robot_foundry.ingest.engine import DEFAULTS, Options
from robot_foundry.ingest.kind import DerivedKind, Remapping, Shard, kind_named, kind_of
from robot_foundry.ingest.plan import INGEST_VERSION
from robot_foundry.ingest.report import Report, report_of
from robot_foundry.ingest.shards.survey import Interned, cached_survey, survey
from robot_foundry.ingest.spec.spec import SourceSpec
from robot_foundry.ingest.spec.spec_files import load_spec, read_spec, with_overrides
from robot_foundry.ingest.tables.assemble import Request, assemble, check_errors
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.runtime.parallel import Workers


def remap(
    reference: str | Version,
    mapping: Any,
    *,
    store: Store | str | os.PathLike[str] | None = None,
) -> Version:
    """A version of the same dataset that shares every tar and has its tables by another mapping, or spec."""
    report = run(reference, mapping, store=store)
    assert report.version is not None
    return report.version


def spec_of(
    reference: str | Version,
    spec: str | None,
    overrides: Sequence[str],
    *,
    store: Store | str | os.PathLike[str] | None = None,
) -> SourceSpec:
    """The spec of that name or file, else the version's own, with overrides, which may not touch content."""
    opened = as_store(store)
    version = _version(opened, reference)
    base = read_manifest(opened, version)
    kind, _ = _remapping(version, base)
    if spec is not None:
        loaded = load_spec(spec, overrides)
        if kind_of(loaded).name != kind.name:
            raise UsageError(f"the spec {spec} is of the kind {kind_of(loaded).name}, not {kind.name}")
        return loaded
    stored = base.provenance.get("spec")
    if stored is None:
        raise UsageError(f"{version} does not say by which spec it was made", hint="give --spec")
    for override in overrides:
        if override.split(".")[0].split("=")[0] in ("content", "layout"):
            raise UsageError(
                f"override '{override}' is not of the mapping, and the content is in the tars already",
                hint="foundry-data ingest makes new tars",
            )
    return read_spec(with_overrides(stored, overrides), str(version))


def run(
    reference: str | Version,
    mapping: Any,
    *,
    store: Store | str | os.PathLike[str] | None = None,
    options: Options = DEFAULTS,
) -> Report:
    """As `remap`, and tell what happened. Units that the tars lack stay quarantined for their old reason."""
    opened = as_store(store)
    version = _version(opened, reference)
    base = read_manifest(opened, version)
    kind, remapping = _remapping(version, base)
    _check_tars(opened, version, base)
    build_id = _build_id(base, kind, remapping.to_json(mapping))
    earlier = find_build(opened, base.dataset, build_id)
    manifest = None if earlier is None else read_manifest(opened, earlier)
    if earlier is not None and manifest is not None and not lacking_tables(opened, manifest):
        build = read_build(opened, opened.build(base.dataset, build_id))
        report = report_of(opened, earlier, manifest, noop=True, provenance=build["provenance"])
        check_errors(report.refused, options.max_errors)
        return report
    with Workers(options.workers, options.ray_address) as workers:
        return _remap(opened, version, base, mapping, build_id, options, workers)


def _remapping(version: Version, base: Manifest) -> tuple[DerivedKind, Remapping]:
    """The kind of a version, and how it is remapped. UsageError if it is not."""
    kind = kind_named(base.holds.name)
    if base.kind == MIXTURE or kind.remapping is None:
        mapped = " or ".join(name for name in ROOMS if kind_named(name).remapping is not None)
        what = "is a mixture" if base.kind == MIXTURE else f"holds {base.holds.samples}"
        raise UsageError(
            f"{version} {what}, and only a {mapped} dataset has a mapping",
            hint="foundry-data ls shows what there is",
        )
    return kind, kind.remapping


def _remap(
    opened: Store,
    version: Version,
    base: Manifest,
    mapping: Any,
    build_id: str,
    options: Options,
    workers: Workers,
) -> Report:
    kind, remapping = _remapping(version, base)
    shards = _shards(opened, kind, base, workers)
    held = {block.unit for shard in shards for block in shard.blocks}
    refused = tuple(entry for entry in base.quarantined if entry.unit not in held)
    spec = {**dict(base.provenance.get("spec") or {}), "mapping": remapping.to_json(mapping)}
    request = Request(
        store=opened,
        dataset=base.dataset,
        build_id=build_id,
        kind=kind,
        asked=remapping.asked(spec, mapping, str(version)),
        provenance={
            **base.provenance,
            "spec": spec,
            "remap_of": version.version_id,
            **({} if options.created is None else {"created": options.created}),
        },
        refused=refused,
        max_errors=options.max_errors,
    )
    made = assemble(request, shards, workers)
    return report_of(opened, made.version, made.manifest, noop=False)


def _check_tars(store: Store, version: Version, base: Manifest) -> None:
    """FoundryError unless the version's tars are there: only its source can give them back."""
    lacking = lacking_tars(store, base)
    if lacking:
        more = f", and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise FoundryError(
            f"{version} cannot be remapped: {lacking[0]}{more}",
            hint="run the foundry-data ingest that made it again: it writes what is missing",
        )


def _version(store: Store, reference: str | Version) -> Version:
    return reference if isinstance(reference, Version) else resolve_reference(store, reference)


def _build_id(base: Manifest, kind: DerivedKind, mapping: dict[str, Any]) -> str:
    return digest_of(
        {
            "remap": [INGEST_VERSION, kind.tables_version],
            "shards": [[shard.key, shard.tar_sha256] for shard in base.shards],
            "quarantined": [entry.unit for entry in base.quarantined],
            "mapping": mapping,
        }
    )


def _shards(store: Store, kind: DerivedKind, base: Manifest, workers: Workers) -> list[Shard]:
    read = partial(_survey, kind, store, base.dataset)
    keys = [shard.key for shard in base.shards]
    pool = Interned(kind)
    by_index = {index: pool.shard(shard) for index, shard in workers.map(read, keys)}
    for index, entry in enumerate(base.shards):
        if by_index[index].tar_sha256 != entry.tar_sha256:
            raise FoundryError(f"shard {entry.key} of {base.dataset} is not the one that the version names")
    return [by_index[index] for index in range(len(keys))]


def _survey(kind: DerivedKind, store: Store, dataset: str, shard_key: str) -> Shard:
    return cached_survey(kind, store, dataset, shard_key) or survey(kind, store, dataset, shard_key)
