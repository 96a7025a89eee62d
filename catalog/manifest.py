"""The manifest of a version, its content address, and the commit that makes it visible."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.schema import Camera, Schema, check_keys
from robot_foundry.catalog.store import Store, check_id, check_name
from robot_foundry.catalog.tables import table_digest
from robot_foundry.catalog.version import Version
from robot_foundry.runtime.canonical import canonical_json, digest_of
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.killpoint import kill_point

__all__ = [
    "Camera",
    "Manifest",
    "Quarantined",
    "Schema",
    "ShardEntry",
    "commit",
    "find_build",
    "read_build",
    "read_manifest",
    "table_digest",
]

FORMAT = 1
KINDS = ("robot", "mixture")
COUNTS = ("discovered", "written", "quarantined", "episodes", "frames", "bytes")
_KEYS = (
    *("format", "kind", "dataset", "version_id", "build_id", "schema", "shards", "tables"),
    *("counts", "provenance", "mixture", "quarantined"),
)
_SHARD_KEYS = ("key", "tar_sha256", "tar_bytes", "num_episodes", "num_frames")


@dataclass(frozen=True)
class ShardEntry:
    """One tar of a version: its key, the sha256 (64 hex) and size of the tar, and what it holds."""

    key: str
    tar_sha256: str
    tar_bytes: int
    num_episodes: int
    num_frames: int


@dataclass(frozen=True)
class Quarantined:
    """A unit of the source that was left out, and why."""

    unit: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """Everything that defines a version, and what is known of its making.

    `tables` maps episodes, annotations, leaves and frames/<shard key> to `table_digest` values. `counts` has
    the keys of COUNTS. Only format, kind, schema, shard hashes, tables and mixture enter `version_id`: names
    of shards, counts, provenance, quarantine and build do not.
    """

    dataset: str
    build_id: str
    schema: Schema | None
    shards: tuple[ShardEntry, ...] = ()
    tables: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    provenance: Mapping[str, Any] = field(default_factory=dict)
    mixture: Mixture | None = None
    quarantined: tuple[Quarantined, ...] = ()
    kind: str = "robot"
    format: int = FORMAT

    def __post_init__(self) -> None:
        object.__setattr__(self, "shards", tuple(self.shards))
        object.__setattr__(self, "quarantined", tuple(self.quarantined))
        check_name(self.dataset)
        check_id(self.build_id)
        check_keys(self.counts, COUNTS, f"counts of '{self.dataset}'")
        if self.kind not in KINDS:
            raise FoundryError(f"manifest of '{self.dataset}' has the unknown kind '{self.kind}'")
        if (self.mixture is not None) != (self.kind == "mixture"):
            raise FoundryError(f"manifest of '{self.dataset}': the kind mixture and a mixture go together")
        if (self.schema is None) != (self.kind == "mixture"):
            raise FoundryError(f"manifest of '{self.dataset}': a robot version has a schema, a mixture none")
        if self.kind == "robot":
            expected = {"episodes", "annotations", "leaves"} | {f"frames/{s.key}" for s in self.shards}
            check_keys(self.tables, sorted(expected), f"tables of '{self.dataset}'")

    @cached_property
    def version_id(self) -> str:
        """32 hex digits of the content. Tables of frames count by shard order, not by the shard's name."""
        return digest_of(
            {
                "format": self.format,
                "kind": self.kind,
                "schema": None if self.schema is None else self.schema.to_json(),
                "shards": [shard.tar_sha256 for shard in self.shards],
                "frames": [self.tables[f"frames/{shard.key}"] for shard in self.shards],
                "tables": {k: v for k, v in self.tables.items() if not k.startswith("frames/")},
                "mixture": None if self.mixture is None else self.mixture.to_json(),
            }
        )

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(
            {
                "format": self.format,
                "kind": self.kind,
                "dataset": self.dataset,
                "version_id": self.version_id,
                "build_id": self.build_id,
                "schema": None if self.schema is None else self.schema.to_json(),
                "shards": [asdict(shard) for shard in self.shards],
                "tables": dict(self.tables),
                "counts": dict(self.counts),
                "provenance": dict(self.provenance),
                "mixture": None if self.mixture is None else self.mixture.to_json(),
                "quarantined": [asdict(entry) for entry in self.quarantined],
            }
        )

    @classmethod
    def from_json(cls, data: bytes, where: str = "manifest") -> Manifest:
        """Strict inverse of `to_json`: unknown formats and keys and a wrong version_id raise FoundryError."""
        try:
            obj = json.loads(data)
        except ValueError as error:
            raise FoundryError(f"{where} is not JSON: {error}") from error
        if not isinstance(obj, dict) or obj.get("format") != FORMAT:
            found = obj.get("format") if isinstance(obj, dict) else None
            raise FoundryError(
                f"{where} has format {found!r}, this robot_foundry reads format {FORMAT}",
                hint="pip install --upgrade robot-foundry",
            )
        try:
            manifest = cls._decoded(obj, where)
        except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise FoundryError(f"{where} is damaged: {error}") from error
        if manifest.version_id != obj["version_id"]:
            raise FoundryError(f"{where} says version {obj['version_id']} but holds {manifest.version_id}")
        return manifest

    @classmethod
    def _decoded(cls, obj: Mapping[str, Any], where: str) -> Manifest:
        check_keys(obj, _KEYS, where)
        for entry in obj["shards"]:
            check_keys(entry, _SHARD_KEYS, f"a shard of {where}")
        for entry in obj["quarantined"]:
            check_keys(entry, ("unit", "reason"), f"a quarantined unit of {where}")
        return cls(
            dataset=obj["dataset"],
            build_id=obj["build_id"],
            schema=None if obj["schema"] is None else Schema.from_json(obj["schema"], f"schema of {where}"),
            shards=tuple(ShardEntry(**entry) for entry in obj["shards"]),
            tables=obj["tables"],
            counts=obj["counts"],
            provenance=obj["provenance"],
            mixture=None if obj["mixture"] is None else Mixture.from_json(obj["mixture"]),
            quarantined=tuple(Quarantined(**entry) for entry in obj["quarantined"]),
            kind=obj["kind"],
        )


def read_manifest(store: Store, version: Version) -> Manifest:
    """The manifest of a committed version."""
    path = store.manifest(version.dataset, version.version_id)
    try:
        data = store.storage.read_bytes(path)
    except FileNotFoundError as error:
        raise FoundryError(
            f"version {version} ({version.version_id}) is not in store {store.url}", hint="foundry-data ls"
        ) from error
    return Manifest.from_json(data, f"{store.url}/{path}")


def commit(store: Store, manifest: Manifest) -> Version:
    """Make a version visible, exactly once; its tars and tables must lie in the store already.

    The exclusive creation of manifest.json is the commit. Content that is there already is the same version.
    Then the version takes the first free number v1, v2, … (or keeps the one it has), and the build is
    recorded. A crash between these steps leaves nothing half visible: the same call, made again, completes
    them.
    """
    kill_point("commit-before-manifest")
    store.storage.create(store.manifest(manifest.dataset, manifest.version_id), manifest.to_json())
    kill_point("commit-after-manifest")
    seq = _number(store, manifest)
    kill_point("commit-after-ref")
    record = {
        "format": FORMAT,
        "version_id": manifest.version_id,
        "seq": seq,
        "counts": dict(manifest.counts),
        "provenance": dict(manifest.provenance),
        "quarantined": [asdict(entry) for entry in manifest.quarantined],
    }
    store.storage.create(store.build(manifest.dataset, manifest.build_id), canonical_json(record))
    return Version(manifest.dataset, seq, manifest.version_id, manifest.build_id)


def _number(store: Store, manifest: Manifest) -> int:
    """The number of this version: the one that points at it, else the next free one, created exclusively."""
    content = canonical_json({"version_id": manifest.version_id, "build_id": manifest.build_id})
    seq = 1
    while not store.storage.create(store.ref(manifest.dataset, f"v{seq}"), content):
        taken = json.loads(store.storage.read_bytes(store.ref(manifest.dataset, f"v{seq}")))
        if taken["version_id"] == manifest.version_id:
            return seq
        seq += 1
    return seq


def find_build(store: Store, dataset: str, build_id: str) -> Version | None:
    """The version that this build made, or None when it has not finished."""
    try:
        record = json.loads(store.storage.read_bytes(store.build(dataset, build_id)))
    except FileNotFoundError:
        return None
    return Version(dataset, record["seq"], record["version_id"], build_id)


def read_build(store: Store, dataset: str, build_id: str) -> Mapping[str, Any]:
    """The provenance of a finished build: another build may have made the same version before."""
    record: dict[str, Any] = json.loads(store.storage.read_bytes(store.build(dataset, build_id)))
    return dict(record["provenance"])
