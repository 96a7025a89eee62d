"""Validate a version: that every byte is what its manifest names, that all counts agree, and that the data
are plausible.

Shallow: manifest, refs and build; every tar's size, index and some headers; every table's digest; episodes,
windows, annotations and leaves against the tables; the data checks. Deep: also every byte of every tar, and
every image decoded. Nothing is taken from the cache. The result is the same for any number of workers.

Legend: R rows of a table.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from robot_foundry.catalog.manifest import Manifest, read_build, read_manifest
from robot_foundry.catalog.opened import OpenMixture, OpenVersions, Part
from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.robot.plausibility import doubts
from robot_foundry.catalog.robot.schema import schema_of
from robot_foundry.catalog.robot.tables import ANNOTATIONS_SCHEMA, EPISODES_SCHEMA, LEAVES_SCHEMA
from robot_foundry.catalog.store import Store, as_store
from robot_foundry.catalog.validation.shard_findings import ShardResult, ShardTask, validate_shard
from robot_foundry.catalog.validation.table_findings import Fault, checked_table, maker
from robot_foundry.catalog.version import Version
from robot_foundry.checks.evidence import Evidence
from robot_foundry.checks.finding import Finding
from robot_foundry.checks.following import Following, following
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.parallel import unordered_map
from robot_foundry.runtime.progress import Progress

_SCHEMAS = {"episodes": EPISODES_SCHEMA, "annotations": ANNOTATIONS_SCHEMA, "leaves": LEAVES_SCHEMA}


@dataclass(frozen=True)
class Validation:
    """What was looked at and what was found. `damage` is of the store, `doubts` are of the data.

    `following` says how the state follows each action: by "<column> <part>.<quantity>".
    """

    version: Version
    checked: Mapping[str, int]
    damage: tuple[Finding, ...]
    doubts: tuple[Finding, ...]
    following: Mapping[str, Following] = field(default_factory=dict)

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
        found, faults = _manifest(opened, part)
        done.append(_validate(opened, part, found, faults, deep, workers, quiet))
    return done


def _manifest(store: Store, version: Version) -> tuple[Manifest | None, list[Finding]]:
    """The manifest, and what is wrong with it and with what points at it."""
    found: list[Finding] = []
    fault = Fault(store, version, found)
    path = store.manifest(version.dataset, version.version_id)
    try:
        manifest = read_manifest(store, version)
    except FoundryError as error:
        fault.edited("manifest", f"{store.url}/{path}", error.message)
        return None, found
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
    return manifest, found


def _mixture(store: Store, version: Version, manifest: Manifest) -> list[Finding]:
    """Whether every component is there and still selects what the mixture was made with."""
    assert manifest.mixture is not None
    found: list[Finding] = []
    fault = Fault(store, version, found)
    versions, parts = OpenVersions(store), list[Part]()
    again = f"foundry-data mix --weights … --as {version.dataset} makes it anew"
    for component in manifest.mixture.components:
        try:
            part = versions.open_part(component)
            part.select()
            parts.append(part)
        except FoundryError as error:
            fault.add("mixture", component.name, f"{version}: {error.message}", again)
    if not found:
        try:
            opened = OpenMixture(manifest.mixture, tuple(parts), versions)
            opened.kind.check_mixed(opened)
        except FoundryError as error:
            fault.add("mixture", str(version), f"{version}: {error.message}", again)
    return found


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
    fault = Fault(store, version, damage, maker(manifest))
    tables = {
        name: checked_table(store, version, name, manifest.tables[name], manifest.files[name], schema, fault)
        for name, schema in _SCHEMAS.items()
    }
    _counts(manifest, tables, fault)
    shards = manifest.shards
    rows = {name: _ByShard(tables[name]) for name in ("episodes", "leaves")}
    tasks = (_task(store, version, manifest, ordinal, rows, deep) for ordinal in range(len(shards)))
    results: dict[int, ShardResult] = {}
    with Progress(len(shards), "shards", f"validate {version}", quiet=quiet) as progress:
        for index, result in unordered_map(validate_shard, tasks, workers=workers):
            results[index] = result
            progress.advance(bytes=shards[index].tar_bytes if deep else 0, errors=len(result.findings))
    done = [results[index] for index in range(len(shards))]
    checked = {
        "shards": len(shards),
        "episodes": manifest.counts["episodes"],
        "frames": manifest.counts["frames"],
        "members": sum(result.members for result in done),
        "images_decoded": sum(result.images for result in done),
        "tables": len(shards) + len(_SCHEMAS),
    }
    damage += [finding for result in done for finding in result.findings]
    evidence = Evidence.merge_all(r.evidence for r in done if r.evidence is not None)
    doubtful = _doubts(manifest, version, evidence, tables["leaves"])
    followed = {" ".join(where): how for where, how in following(evidence).items()}
    return Validation(version, checked, tuple(damage), doubtful, followed)


class _ByShard:
    """The rows of each shard in a table that need not be in the order of shards; None of a damaged table."""

    def __init__(self, table: pa.Table | None) -> None:
        self._table = table
        if table is not None:
            order_R = np.argsort(table["shard"].to_numpy(), kind="stable")
            self._table = table.take(pa.array(order_R)).combine_chunks()
            self._shard_R = self._table["shard"].to_numpy()

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
) -> ShardTask:
    entry = manifest.shards[ordinal]
    digest = manifest.tables[f"frames/{entry.key}"]
    return ShardTask(
        store=store,
        version=version,
        schema=schema_of(manifest),
        entry=entry,
        frames_digest=digest,
        frames_file=manifest.files[f"frames/{entry.key}"],
        episodes=rows["episodes"].of(ordinal),
        leaves=rows["leaves"].of(ordinal),
        deep=deep,
        made_by=maker(manifest),
    )


def _counts(manifest: Manifest, tables: Mapping[str, pa.Table | None], fault: Fault) -> None:
    """Units, episodes, frames and bytes add up, keys are there once, annotations lie in their episodes."""
    counts, episodes, annotations = manifest.counts, tables["episodes"], tables["annotations"]
    expected = {
        "discovered": counts["written"] + counts["quarantined"],
        "quarantined": len(manifest.quarantined),
        "bytes": sum(shard.tar_bytes for shard in manifest.shards),
    }
    rows = [] if episodes is None else episodes.to_pylist()
    if episodes is not None:
        expected |= {"episodes": len(rows), "frames": sum(row["num_frames"] for row in rows)}
    for name, number in expected.items():
        if counts[name] != number:
            fault.manifest("counts", f"the manifest counts {counts[name]:,} {name}, there are {number:,}")
    if episodes is None:
        return
    for key, times in Counter(row["key"] for row in rows).items():
        if times > 1:
            fault.manifest("episodes", f"episode {key} is there {times} times")
    strays = [row["key"] for row in rows if not 0 <= row["shard"] < len(manifest.shards)]
    if strays:
        fault.manifest("episodes", f"episode {strays[0]} is of a shard that the manifest lacks")
    lengths = {row["key"]: row["num_frames"] for row in rows}
    for row in _wrong_annotations(annotations, lengths)[:1]:
        span = f"{row['start']} … {row['end']}"
        fault.manifest(
            "annotations", f"an annotation of episode {row['key']} spans the frames {span}, which it lacks"
        )


def _wrong_annotations(table: pa.Table | None, lengths: Mapping[str, int]) -> list[dict[str, Any]]:
    rows: Iterable[dict[str, Any]] = () if table is None else table.to_pylist()
    return [row for row in rows if not 0 <= row["start"] < row["end"] <= lengths.get(row["key"], -1)]


def _doubts(
    manifest: Manifest, version: Version, evidence: Evidence, leaves: pa.Table | None
) -> tuple[Finding, ...]:
    """The data checks, with the name of the version before each."""
    spec = manifest.provenance.get("spec")
    mapping, content = (
        (spec.get("mapping"), spec.get("content")) if isinstance(spec, Mapping) else (None, None)
    )
    known = LEAVES_SCHEMA.empty_table() if leaves is None else leaves
    found = doubts(schema_of(manifest), evidence, known, mapping, content)
    return tuple(replace(finding, message=f"{version}: {finding.message}") for finding in found)
