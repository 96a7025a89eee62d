"""A new version from the tars of another: a new mapping, the same bytes. No image is read, no tar written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from robot_foundry.catalog.manifest import Manifest, find_build, read_build, read_manifest
from robot_foundry.catalog.opening import lacking_tables, lacking_tars
from robot_foundry.catalog.refs import resolve as resolve_reference
from robot_foundry.catalog.store import Store, as_store
from robot_foundry.catalog.version import Version
from robot_foundry.ingest.absence.asked import Asked
from robot_foundry.ingest.assemble import Request, assemble, check_errors
from robot_foundry.ingest.engine import DEFAULTS, Options
from robot_foundry.ingest.plan import INGEST_VERSION
from robot_foundry.ingest.report import Report, report_of
from robot_foundry.ingest.robot.shard_tables import TABLES_VERSION
from robot_foundry.ingest.spec.spec import MappingSpec, Spec, mapping_json
from robot_foundry.ingest.spec.spec_files import load_spec, with_overrides
from robot_foundry.ingest.spec.spec_reader import spec_from_json
from robot_foundry.ingest.survey import Interned, Shard, cached_survey, survey
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.runtime.parallel import Workers


def remap(
    reference: str | Version,
    mapping: MappingSpec | Spec,
    *,
    store: Store | str | os.PathLike[str] | None = None,
) -> Version:
    """A version of the same dataset that shares every tar and has its tables by `mapping`."""
    report = run(reference, mapping, store=store)
    assert report.version is not None
    return report.version


def spec_of(
    reference: str | Version,
    spec: str | None,
    overrides: Sequence[str],
    *,
    store: Store | str | os.PathLike[str] | None = None,
) -> Spec:
    """The spec of that name or file, else the version's own, with overrides, which may not touch content."""
    opened = as_store(store)
    if spec is not None:
        return load_spec(spec, overrides)
    version = _version(opened, reference)
    stored = read_manifest(opened, version).provenance.get("spec")
    if stored is None:
        raise UsageError(f"{version} does not say by which spec it was made", hint="give --spec")
    for override in overrides:
        if override.split(".")[0].split("=")[0] in ("content", "layout"):
            raise UsageError(
                f"override '{override}' is not of the mapping, and the content is in the tars already",
                hint="foundry-data ingest makes new tars",
            )
    return spec_from_json(with_overrides(stored, overrides), str(version))


def run(
    reference: str | Version,
    mapping: MappingSpec | Spec,
    *,
    store: Store | str | os.PathLike[str] | None = None,
    options: Options = DEFAULTS,
) -> Report:
    """As `remap`, and tell what happened. Units that the tars lack stay quarantined for their old reason."""
    opened = as_store(store)
    version = _version(opened, reference)
    base = read_manifest(opened, version)
    if base.kind != "robot":
        raise FoundryError(f"{version} is a {base.kind}, and only a robot dataset has a mapping")
    _check_tars(opened, version, base)
    new = mapping.mapping if isinstance(mapping, Spec) else mapping
    build_id = _build_id(base, new)
    known = find_build(opened, base.dataset, build_id)
    made = None if known is None else read_manifest(opened, known)
    if known is not None and made is not None and not lacking_tables(opened, made):
        build = read_build(opened, opened.build(base.dataset, build_id))
        report = report_of(opened, known, made, noop=True, provenance=build["provenance"])
        check_errors(report.quarantined, options.max_errors)
        return report
    with Workers(options.workers, options.ray_address) as workers:
        return _remap(opened, version, base, new, build_id, options, workers)


def _remap(
    opened: Store,
    version: Version,
    base: Manifest,
    new: MappingSpec,
    build_id: str,
    options: Options,
    workers: Workers,
) -> Report:
    shards = _shards(opened, base, workers)
    held = {item.unit for shard in shards for item in shard.episodes}
    refused = tuple((entry.unit, entry.reason) for entry in base.quarantined if entry.unit not in held)
    spec = {**dict(base.provenance.get("spec") or {}), "mapping": mapping_json(new)}
    request = Request(
        store=opened,
        dataset=base.dataset,
        build_id=build_id,
        asked=_asked(spec, new, str(version)),
        provenance={
            **base.provenance,
            "spec": spec,
            "remap_of": version.version_id,
            **({} if options.created is None else {"created": options.created}),
        },
        discovered=base.counts["discovered"],
        refused=refused,
        max_errors=options.max_errors,
    )
    made = assemble(request, shards, workers)
    return report_of(opened, made.version, made.manifest, noop=False)


def _asked(spec: dict[str, Any], mapping: MappingSpec, where: str) -> Asked:
    """The mapping with what the version's own spec says of the content, if it says anything."""
    if "layout" not in spec:
        return Asked(mapping)
    own = spec_from_json(spec, where)
    return Asked(mapping, own.content, own.name)


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


def _build_id(base: Manifest, mapping: MappingSpec) -> str:
    return digest_of(
        {
            "remap": [INGEST_VERSION, TABLES_VERSION],
            "shards": [[shard.key, shard.tar_sha256] for shard in base.shards],
            "quarantined": [entry.unit for entry in base.quarantined],
            "mapping": mapping_json(mapping),
        }
    )


def _shards(store: Store, base: Manifest, workers: Workers) -> list[Shard]:
    read = partial(_survey, store, base.dataset)
    keys = [shard.key for shard in base.shards]
    pool = Interned()
    found = {index: pool.shard(shard) for index, shard in workers.map(read, keys)}
    for index, entry in enumerate(base.shards):
        if found[index].tar_sha256 != entry.tar_sha256:
            raise FoundryError(f"shard {entry.key} of {base.dataset} is not the one that the version names")
    return [found[index] for index in range(len(keys))]


def _survey(store: Store, dataset: str, shard_key: str) -> Shard:
    return cached_survey(store, dataset, shard_key) or survey(store, dataset, shard_key)
