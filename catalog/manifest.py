"""The manifest of a version, its content address, and the commit that makes it visible."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass, field, replace
from functools import cached_property
from operator import itemgetter
from typing import Any

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.kind import FIRST, MIXTURE, Kind, Schema, kind_named
from robot_foundry.catalog.store import Store, check_id, check_name
from robot_foundry.catalog.table_file import TableFile
from robot_foundry.catalog.version import Version
from robot_foundry.runtime.canonical import check_keys, digest_of
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.runtime.sealed import seal, unseal

__all__ = [
    "AGAIN",
    "Manifest",
    "Quarantined",
    "ShardEntry",
    "TableFile",
    "commit",
    "count_names",
    "find_build",
    "numbers",
    "numbers_among",
    "read_build",
    "read_manifest",
    "reference_names",
]

FORMAT = 1
_OF_UNITS = ("discovered", "written", "quarantined")
_KEYS = (
    *("format", "kind", "dataset", "version_id", "build_id", "schema", "shards", "tables"),
    *("files", "counts", "provenance", "mixture", "quarantined"),
)
AGAIN = "run the same foundry-data ingest, remap, tokenize or mix again"
_NUMBERED_ANEW = f"delete it, then {AGAIN}: the version gets its number back"
_NUMBERED = re.compile(r"v([1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One tar of a version: its key, the sha256 (64 hex) and size of the tar, and how much it holds."""

    key: str
    tar_sha256: str
    tar_bytes: int
    num_groups: int
    num_samples: int

    def to_json(self, kind: Kind) -> dict[str, Any]:
        return dict(zip(_shard_keys(kind), astuple(self), strict=True))


def count_names(kind: Kind) -> tuple[str, ...]:
    """What the manifest of a version of this kind counts."""
    return (*_OF_UNITS, *kind.left_out, kind.groups, kind.samples, "bytes")


def _shard_keys(kind: Kind) -> tuple[str, ...]:
    return "key", "tar_sha256", "tar_bytes", f"num_{kind.groups}", f"num_{kind.samples}"


@dataclass(frozen=True)
class Quarantined:
    """A unit of the source that was left out, and why; or `count` groups of a unit for one reason."""

    unit: str
    reason: str
    count: int = 1

    def to_json(self) -> dict[str, Any]:
        """Without the count where it is 1."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("count", 1)}

    @classmethod
    def from_json(cls, obj: Any, where: str) -> Quarantined:
        """Strict inverse; FoundryError names `where`."""
        has_count = isinstance(obj, Mapping) and "count" in obj
        check_keys(obj, ("unit", "reason", "count") if has_count else ("unit", "reason"), where)
        entry = cls(**obj)
        if type(entry.count) is not int or entry.count < 1 or entry.to_json() != obj:
            raise FoundryError(f"{where} counts {entry.count!r}")
        return entry


@dataclass(frozen=True)
class Manifest:
    """Everything that defines a version, and what is known of its making.

    `kind` is what its samples are, or 'mixture', and then `of` is what it mixes. `tables` maps the tables of
    the kind, and those of each shard as <table>/<shard key>, to `table_digest` values; `files` maps them to
    the files that hold them, and is empty as long as none is written. `counts` are of units of the source
    (discovered = written + quarantined + what the kind leaves out), of the kind's groups and samples by their
    names, and of bytes.
    Only format, kind, schema, shard hashes, tables and mixture enter `version_id`: names of shards, files,
    counts, provenance, quarantine and build do not.
    """

    dataset: str
    build_id: str
    schema: Schema | None
    kind: str
    shards: tuple[ShardEntry, ...] = ()
    tables: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    mixture: Mixture | None = None
    quarantined: tuple[Quarantined, ...] = ()
    of: str | None = None
    format: int = FORMAT
    files: Mapping[str, TableFile] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shards", tuple(self.shards))
        object.__setattr__(self, "quarantined", tuple(self.quarantined))
        check_name(self.dataset)
        check_id(self.build_id)
        self._check_kind()
        names = count_names(self.holds)
        object.__setattr__(self, "counts", self.counts or dict.fromkeys(names, 0))
        check_keys(self.counts, names, f"counts of '{self.dataset}'")
        check_keys(self.tables, self._table_names(), f"tables of '{self.dataset}'")
        if self.files:
            check_keys(self.files, list(self.tables), f"files of '{self.dataset}'")

    def _check_kind(self) -> None:
        where, is_mixture = f"manifest of '{self.dataset}'", self.kind == MIXTURE
        if (self.mixture is not None) != is_mixture or (self.of is not None) != is_mixture:
            raise FoundryError(f"{where}: the kind mixture, a mixture, and what it is of go together")
        if (self.schema is None) != is_mixture:
            raise FoundryError(f"{where}: a version has a schema, a mixture none")

    def _table_names(self) -> list[str]:
        if self.mixture is not None:
            return []
        of_shards = [f"{name}/{shard.key}" for name in self.holds.shard_tables for shard in self.shards]
        return [*self.holds.tables, *of_shards]

    @cached_property
    def holds(self) -> Kind:
        """The kind of its samples, be it a mixture."""
        return kind_named(self.of or self.kind)

    @property
    def num_samples(self) -> int:
        return self.counts[self.holds.samples]

    @property
    def num_groups(self) -> int:
        return self.counts[self.holds.groups]

    @cached_property
    def version_id(self) -> str:
        """32 hex digits of the content. Tables of shards count by shard order, not by the shard's name."""
        of_shards = {
            name: [self.tables[f"{name}/{shard.key}"] for shard in self.shards]
            for name in self.holds.shard_tables
        }
        return digest_of(
            {
                "format": self.format,
                "kind": self.kind,
                "schema": None if self.schema is None else self.schema.to_json(),
                "shards": [shard.tar_sha256 for shard in self.shards],
                **of_shards,
                "tables": {name: digest for name, digest in self.tables.items() if "/" not in name},
                "mixture": None if self.mixture is None else self.mixture.to_json(),
            }
        )

    @cached_property
    def tar_hashes(self) -> dict[str, str]:
        """The SHA-256 of each tar by the key of its shard."""
        return {shard.key: shard.tar_sha256 for shard in self.shards}

    def to_json(self) -> bytes:
        """Canonical JSON behind its checksum (`runtime.sealed`)."""
        return seal(
            {
                "format": self.format,
                "kind": self.kind,
                **({} if self.of in (None, FIRST) else {"of": self.of}),
                "dataset": self.dataset,
                "version_id": self.version_id,
                "build_id": self.build_id,
                "schema": None if self.schema is None else self.schema.to_json(),
                "shards": [shard.to_json(self.holds) for shard in self.shards],
                "tables": dict(self.tables),
                "files": {name: [file.num_bytes, file.blake3] for name, file in self.files.items()},
                "counts": dict(self.counts),
                "provenance": dict(self.provenance),
                "mixture": None if self.mixture is None else self.mixture.to_json(),
                "quarantined": [entry.to_json() for entry in self.quarantined],
            }
        )

    @classmethod
    def from_json(cls, data: bytes, where: str = "manifest") -> Manifest:
        """Strict inverse of `to_json`: FoundryError for whatever differs, be it a byte."""
        obj = unseal(data, where, hint="foundry-data validate says how to mend it")
        if obj.get("format") != FORMAT:
            raise FoundryError(
                f"{where} has format {obj.get('format')!r}, this robot_foundry reads format {FORMAT}",
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
        is_mixture = obj.get("kind") == MIXTURE
        check_keys(obj, (*_KEYS, "of") if is_mixture and "of" in obj else _KEYS, where)
        of = obj.get("of", FIRST) if is_mixture else None
        holds = kind_named(of or obj["kind"])
        shard_keys = _shard_keys(holds)
        for entry in obj["shards"]:
            check_keys(entry, shard_keys, f"a shard of {where}")
        quarantined = tuple(
            Quarantined.from_json(entry, f"a quarantined unit of {where}") for entry in obj["quarantined"]
        )
        if obj["tables"] and not obj["files"]:
            raise ValueError("it does not say which files hold its tables")
        return cls(
            dataset=obj["dataset"],
            build_id=obj["build_id"],
            schema=None if obj["schema"] is None else holds.read_schema(obj["schema"], f"schema of {where}"),
            shards=tuple(ShardEntry(*itemgetter(*shard_keys)(entry)) for entry in obj["shards"]),
            tables=obj["tables"],
            files={name: TableFile(*file) for name, file in obj["files"].items()},
            counts=obj["counts"],
            provenance=obj["provenance"],
            mixture=None if obj["mixture"] is None else Mixture.from_json(obj["mixture"]),
            quarantined=quarantined,
            kind=obj["kind"],
            of=of,
        )


def read_manifest(store: Store, version: Version) -> Manifest:
    """The manifest of a committed version, read anew from the store.

    For what looks at the store itself: validate, ingest, remap and the snapshot. What uses a version opens it
    (`catalog.opened`).
    """
    path = store.manifest(version.dataset, version.version_id)
    try:
        data = store.storage.read_bytes(path)
    except FileNotFoundError as error:
        raise FoundryError(
            f"version {version} ({version.version_id}) is not in store {store.url}", hint="foundry-data ls"
        ) from error
    manifest = Manifest.from_json(data, f"{store.url}/{path}")
    if (manifest.dataset, manifest.version_id) != (version.dataset, version.version_id):
        raise FoundryError(
            f"{store.url}/{path} is the manifest of {manifest.dataset} {manifest.version_id}",
            hint=f"foundry-data validate {version}",
        )
    return manifest


def commit(store: Store, manifest: Manifest) -> Version:
    """Make a version visible, exactly once; its tars and tables must lie in the store already.

    The exclusive creation of manifest.json is the commit. Content that is there already is the same version,
    and keeps its manifest but for the files of its tables, which were just written. Then the version takes
    the number after the highest, v1, v2, … (or keeps the one it has), and the build is recorded. A crash
    between these steps leaves nothing half visible: the same call, made again, completes them.
    """
    if manifest.tables and not manifest.files:
        raise FoundryError(f"the manifest of '{manifest.dataset}' does not say which files hold its tables")
    kill_point("commit-before-manifest")
    if not store.storage.create(store.manifest(manifest.dataset, manifest.version_id), manifest.to_json()):
        _renew_files(store, manifest)
    kill_point("commit-after-manifest")
    seq = _number(store, manifest)
    kill_point("commit-after-ref")
    record = {
        "format": FORMAT,
        "version_id": manifest.version_id,
        "seq": seq,
        "counts": dict(manifest.counts),
        "provenance": dict(manifest.provenance),
        "quarantined": [entry.to_json() for entry in manifest.quarantined],
    }
    path = store.build(manifest.dataset, manifest.build_id)
    if not store.storage.create(path, seal(record)):
        earlier = read_build(store, path)
        if earlier["version_id"] == manifest.version_id and earlier["seq"] != seq:
            store.storage.write(path, seal(earlier | {"seq": seq}))
    return Version(manifest.dataset, seq, manifest.version_id, manifest.build_id)


def _renew_files(store: Store, manifest: Manifest) -> None:
    """Let the manifest that is there name the tables as they lie there now.

    Another version of Arrow may have written the same tables as other bytes.
    """
    path = store.manifest(manifest.dataset, manifest.version_id)
    stored = Manifest.from_json(store.storage.read_bytes(path), f"{store.url}/{path}")
    files = {name: manifest.files.get(name, file) for name, file in stored.files.items()}
    if files != stored.files:
        store.storage.write(path, replace(stored, files=files).to_json())


def reference_names(store: Store, dataset: str) -> list[str]:
    """All references of `dataset`, v1, v2, … and tags, sorted by name."""
    return [path.rsplit("/", 1)[1] for path in store.storage.list(store.refs(dataset))]


def numbers(store: Store, dataset: str) -> list[int]:
    """The numbers that versions of `dataset` have, ascending."""
    return numbers_among(reference_names(store, dataset))


def numbers_among(names: Iterable[str]) -> list[int]:
    """The numbers of versions among references, ascending."""
    return sorted(int(match[1]) for name in names if (match := _NUMBERED.fullmatch(name)))


def _number(store: Store, manifest: Manifest) -> int:
    """The number of this version, created exclusively where it has none.

    A number whose reference is gone goes only to the version that a build recorded under it: what somebody
    noted as v2 must not come to mean another version.
    """
    content = seal({"version_id": manifest.version_id, "build_id": manifest.build_id})
    while True:
        taken = numbers(store, manifest.dataset)
        for seq in taken:
            if read_ref(store, store.ref(manifest.dataset, f"v{seq}"))["version_id"] == manifest.version_id:
                return seq
        recorded = _recorded(store, manifest)
        is_free = recorded is not None and recorded not in taken
        seq = recorded if recorded is not None and is_free else max(taken, default=0) + 1
        if store.storage.create(store.ref(manifest.dataset, f"v{seq}"), content):
            return seq


def _recorded(store: Store, manifest: Manifest) -> int | None:
    """The number under which this very build recorded this version, if it did."""
    try:
        record = read_build(store, store.build(manifest.dataset, manifest.build_id))
    except FileNotFoundError:
        return None
    return int(record["seq"]) if record["version_id"] == manifest.version_id else None


def read_ref(store: Store, path: str, *, hint: str = _NUMBERED_ANEW) -> dict[str, Any]:
    """What the reference at `path` holds; FoundryError with the hint if it is damaged."""
    return unseal(store.storage.read_bytes(path), f"reference {store.url}/{path}", hint=hint)


def read_build(store: Store, path: str) -> dict[str, Any]:
    """What the record of a build holds; FoundryError if it is damaged, FileNotFoundError if it is gone."""
    again = f"delete it, then {AGAIN}"
    return unseal(store.storage.read_bytes(path), f"build {store.url}/{path}", hint=again)


def find_build(store: Store, dataset: str, build_id: str) -> Version | None:
    """The version that this build made; None when it has not finished, or the version's number is gone."""
    try:
        record = read_build(store, store.build(dataset, build_id))
        numbered = read_ref(store, store.ref(dataset, f"v{record['seq']}"))
    except FileNotFoundError:
        return None
    if numbered["version_id"] != record["version_id"]:
        return None
    return Version(dataset, record["seq"], record["version_id"], build_id)
