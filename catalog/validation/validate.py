"""Validate a version: that every byte is what its manifest names, that all counts agree, and that the data
are plausible.

Shallow: manifest, refs and build; every tar's size, index and some headers; every table's digest; and what
the kind of the version says of members, rows and data. Deep: also every byte of every tar, and all that the
kind can decode. Nothing is taken from the cache. The result is the same for any number of workers.

Legend: R rows of a table.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from robot_foundry.catalog.manifest import Manifest, read_build, read_manifest
from robot_foundry.catalog.opened import OpenMixture, OpenVersions, Part
from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.store import Store, as_store
from robot_foundry.catalog.validation.shard_findings import ShardResult, validate_shard
from robot_foundry.catalog.validation.table_findings import Fault, checked_table, maker
from robot_foundry.catalog.validation.tasks import ShardCheck
from robot_foundry.catalog.version import Version
from robot_foundry.checks.finding import Finding
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.parallel import unordered_map
from robot_foundry.runtime.progress import Progress

SHARD = "shard"  # the column of a table of a version that tells which rows are of which shard, by its ordinal


@dataclass(frozen=True)
class Validation:
    """What was looked at and what was found. `damage` is of the store, `doubts` are of the data.

    `following` says how one thing follows another where the kind measures that; of robots how the state
    follows each action, by "<column> <part>.<quantity>". `lines` say it to people.
    """

    version: Version
    checked: Mapping[str, int]
    damage: tuple[Finding, ...]
    doubts: tuple[Finding, ...]
    following: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        return (*self.damage, *self.doubts)


def validate(
    reference: str | Version,
    *,
    store: Store | str | os.PathLike[str] | None = None,
    deep: bool = False,
    workers: int = 0,
    quiet: bool = True,
) -> list[Validation]:
    """The version that `reference` names; of a mixture, itself and then each of its components' versions.

    Raises FoundryError only where the reference names nothing.
    """
    opened = Store(as_store(store).url)  # which has proven nothing yet
    version = resolve(opened, reference)
    manifest, damage = _manifest(opened, version)
    if manifest is None or manifest.mixture is None:
        return [_validate(opened, version, manifest, damage, deep, workers, quiet)]
    damage += _mixture(opened, version, manifest)
    done = [Validation(version, {"components": len(manifest.mixture.components)}, tuple(damage), ())]
    for component in dict.fromkeys((c.dataset, c.version_id) for c in manifest.mixture.components):
        try:
            part = resolve(opened, "{}@{}".format(*component))
        except FoundryError:
            continue  # said above
        part_manifest, faults = _manifest(opened, part)
        done.append(_validate(opened, part, part_manifest, faults, deep, workers, quiet))
    return done


def _manifest(store: Store, version: Version) -> tuple[Manifest | None, list[Finding]]:
    """The manifest, and what is wrong with it and with what points at it."""
    findings: list[Finding] = []
    fault = Fault(store, version, findings)
    path = store.manifest(version.dataset, version.version_id)
    try:
        manifest = read_manifest(store, version)
    except FoundryError as error:
        fault.edited("manifest", f"{store.url}/{path}", error.message)
        return None, findings
    fault = replace(fault, made_by=maker(manifest))
    if manifest.to_json() != store.storage.read_bytes(path):
        what = f"{version}: its manifest.json is not canonical JSON, so somebody edited it"
        fault.edited("manifest", str(version), what)
    build = store.build(version.dataset, manifest.build_id)
    if store.storage.exists(build):
        with fault.caught("manifest", build):
            record = read_build(store, build)
            if record["version_id"] != manifest.version_id or record["counts"] != dict(manifest.counts):
                what = f"{version}: its counts are not those of the build {manifest.build_id}"
                fault.edited("manifest", str(version), what)
    return manifest, findings


def _mixture(store: Store, version: Version, manifest: Manifest) -> list[Finding]:
    """Whether every component is there and still selects what the mixture was made with."""
    assert manifest.mixture is not None
    findings: list[Finding] = []
    fault = Fault(store, version, findings)
    versions, parts = OpenVersions(store), list[Part]()
    again = f"foundry-data mix --weights … --as {version.dataset} makes it anew"
    for component in manifest.mixture.components:
        try:
            part = versions.open_part(component)
            part.select()
            parts.append(part)
        except FoundryError as error:
            fault.add("mixture", component.name, f"{version}: {error.message}", again)
    if not findings:
        try:
            opened = OpenMixture(manifest.mixture, tuple(parts), versions)
            opened.kind.check_mixed(opened)
        except FoundryError as error:
            fault.add("mixture", str(version), f"{version}: {error.message}", again)
    return findings


def _validate(
    store: Store,
    version: Version,
    manifest: Manifest | None,
    damage: list[Finding],
    deep: bool,
    workers: int,
    quiet: bool,
) -> Validation:
    if manifest is None or manifest.schema is None:
        return Validation(version, {}, tuple(damage), ())
    fault, kind = Fault(store, version, damage, maker(manifest)), manifest.holds
    tables = {name: _table(store, version, manifest, name, fault) for name in kind.tables}
    _counts(manifest, tables, fault)
    kind.validator.check_tables(manifest, tables, fault)
    shards = manifest.shards
    rows = {
        name: _ByShard(tables[name])
        for name in kind.tables
        if SHARD in kind.columns(name, manifest.schema).names
    }
    tasks = (_task(store, version, manifest, ordinal, rows, deep) for ordinal in range(len(shards)))
    results: dict[int, ShardResult] = {}
    with Progress(len(shards), "shards", f"validate {version}", quiet=quiet) as progress:
        for index, result in unordered_map(validate_shard, tasks, workers=workers):
            results[index] = result
            progress.advance(bytes=shards[index].tar_bytes if deep else 0, errors=len(result.findings))
    done = [results[index] for index in range(len(shards))]
    damage += [finding for result in done for finding in result.findings]
    conclusion = kind.validator.conclude(version, manifest, tables, [result.of_kind for result in done])
    checked = {
        "shards": len(shards),
        kind.groups: manifest.num_groups,
        kind.samples: manifest.num_samples,
        "members": sum(result.members for result in done),
        **conclusion.checked,
        "tables": len(shards) * len(kind.shard_tables) + len(kind.tables),
    }
    return Validation(
        version, checked, tuple(damage), conclusion.doubts, conclusion.following, conclusion.lines
    )


def _table(store: Store, version: Version, manifest: Manifest, name: str, fault: Fault) -> pa.Table | None:
    columns = manifest.holds.columns(name, manifest.schema)
    return checked_table(store, version, name, manifest.tables[name], manifest.files[name], columns, fault)


class _ByShard:
    """The rows of each shard in a table that need not be in the order of shards; None of a damaged table."""

    def __init__(self, table: pa.Table | None) -> None:
        self._table = table
        if table is not None:
            order_R = np.argsort(table[SHARD].to_numpy(), kind="stable")
            self._table = table.take(pa.array(order_R)).combine_chunks()
            self._shard_R = self._table[SHARD].to_numpy()

    def of(self, ordinal: int) -> list[dict[str, Any]] | None:
        if self._table is None:
            return None
        # Numbers of another type would have the whole column converted for each shard.
        bounds = np.array((ordinal, ordinal + 1), self._shard_R.dtype)
        begin, end = np.searchsorted(self._shard_R, bounds).tolist()
        rows: list[dict[str, Any]] = self._table.slice(begin, end - begin).to_pylist()
        return rows


def _task(
    store: Store,
    version: Version,
    manifest: Manifest,
    ordinal: int,
    rows: Mapping[str, _ByShard],
    deep: bool,
) -> ShardCheck:
    entry, names = manifest.shards[ordinal], manifest.holds.shard_tables
    full = {name: f"{name}/{entry.key}" for name in names}
    return ShardCheck(
        store=store,
        version=version,
        kind=manifest.kind,
        schema=manifest.schema,
        entry=entry,
        tables={name: (manifest.tables[full[name]], manifest.files[full[name]]) for name in names},
        rows={name: table.of(ordinal) for name, table in rows.items()},
        deep=deep,
        made_by=maker(manifest),
    )


def _counts(manifest: Manifest, tables: Mapping[str, pa.Table | None], fault: Fault) -> None:
    """Units, groups, samples and bytes add up."""
    counts, kind = manifest.counts, manifest.holds
    expected = {
        "discovered": sum(counts[name] for name in ("written", "quarantined", *kind.left_out)),
        "quarantined": sum(entry.count for entry in manifest.quarantined),
        "bytes": sum(shard.tar_bytes for shard in manifest.shards),
    }
    counted = kind.validator.count(tables)
    if counted is not None:
        expected |= dict(zip((kind.groups, kind.samples), counted, strict=True))
    for name, number in expected.items():
        if counts[name] != number:
            fault.manifest("counts", f"the manifest counts {counts[name]:,} {name}, there are {number:,}")
