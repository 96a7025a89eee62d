"""The catalogue: SQL over a store's manifests, from a DuckDB file that can be thrown away at any time.

The file is built whole beside its place, renamed into it and opened read-only; it is rebuilt when the listing
of the store has changed, or when its bytes have: catalog.json beside it tells both. Each kind adds columns
and tables of its own (`shown.SqlFace`). Rows of versions and runs never enter it: a query that names them
reads the store's own files.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from robot_foundry.catalog import refs
from robot_foundry.catalog.kind import ROOMS, Kind, all_kinds
from robot_foundry.catalog.manifest import Manifest, read_build, read_manifest
from robot_foundry.catalog.opened import OpenVersion, OpenVersions
from robot_foundry.catalog.query import duck
from robot_foundry.catalog.query.shown import Rows, RowTable
from robot_foundry.catalog.store import Store, as_store
from robot_foundry.catalog.version import Version
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.runtime.files import content_hash
from robot_foundry.runtime.sealed import seal, unseal

LAYOUT = 4
_FILE, _SEAL = "catalog.duckdb", "catalog.json"
_INT, _TEXT, _FLOAT, _BOOL = pa.int64(), pa.string(), pa.float64(), pa.bool_()
_VERSION = [("dataset", _TEXT), ("seq", _INT), ("version", _TEXT)]
_NEUTRAL = {
    "components": [
        *_VERSION,
        *(("name", _TEXT), ("component", _TEXT), ("component_id", _TEXT), ("weight", _TEXT)),
        *(("share", _FLOAT), ("selection", _TEXT), ("samples", _INT)),
    ],
    "tags": [("dataset", _TEXT), ("tag", _TEXT), ("seq", _INT), ("version_id", _TEXT)],
    "quarantine": [
        *(("dataset", _TEXT), ("seq", _INT), ("build_id", _TEXT)),
        *(("unit", _TEXT), ("reason", _TEXT), ("count", _INT)),
    ],
}
# A row for each dataset and mixture, as `ls` shows it.
NEWEST = """
SELECT d.*, v.holds, v.groups, v.samples FROM datasets d JOIN versions v USING (dataset, seq) ORDER BY dataset
"""
_RUNS = pa.schema([("id", _TEXT), ("record", _TEXT)])


def _tables(kinds: Sequence[Kind]) -> dict[str, pa.Schema]:
    """The tables of the catalogue: what every version has, and what it has by its kind."""
    counts = [(name, _INT) for name in _counted(kinds)]
    said = [column for kind in kinds for column in _columns(kind.sql.columns)]
    tables = {
        "versions": [
            *_VERSION,
            *(("version_id", _TEXT), ("build_id", _TEXT), ("kind", _TEXT), ("latest", _BOOL)),
            *(*said, ("shards", _INT), *counts, ("bytes", _INT)),
            *(("discovered", _INT), ("quarantined", _INT)),
            *((name, _INT) for kind in kinds for name in kind.left_out),
            ("provenance", _TEXT),
            *(("holds", _TEXT), ("groups", _INT), ("samples", _INT)),
        ],
        "shards": [
            *_VERSION,
            *(("shard", _INT), ("key", _TEXT), ("tar_sha256", _TEXT), ("bytes", _INT)),
            *counts,
        ],
        **{name: [*_VERSION, *_columns(table)] for kind in kinds for name, table in kind.sql.tables.items()},
        **_NEUTRAL,
    }
    return {name: pa.schema(dict(columns)) for name, columns in tables.items()}


def _columns(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    return list(zip(schema.names, schema.types, strict=True))


def _counted(kinds: Sequence[Kind]) -> list[str]:
    """The names of what versions count; kinds may share them."""
    return list(dict.fromkeys(name for kind in kinds for name in (kind.groups, kind.samples)))


def _datasets(kinds: Sequence[Kind]) -> str:
    """The view of the newest versions."""
    said = ", ".join([*(name for kind in kinds for name in kind.sql.listed), *_counted(kinds)])
    return f"""
CREATE VIEW datasets AS
SELECT dataset, seq, version, kind, version_id, build_id, {said}, bytes, quarantined,
       (SELECT count(*) FROM versions o WHERE o.dataset = v.dataset) AS versions,
       (SELECT list(tag ORDER BY tag) FROM tags t WHERE t.dataset = v.dataset) AS tags
FROM versions v WHERE latest ORDER BY dataset
"""


@dataclass(frozen=True)
class Entry:
    """A dataset or mixture, by its newest version.

    `holds` is the kind of its samples, which a mixture has of its components; `groups` and `samples` count
    what they are of that kind.
    """

    version: Version
    kind: str
    holds: str
    versions: int
    groups: int
    samples: int
    bytes: int
    quarantined: int
    tags: tuple[str, ...]


class Catalog:
    """Everything that is in a store.

    Tables: datasets, versions, shards, components, tags, quarantine, and those of kinds: dims and cameras of
    robots. Read in place: runs; and of robots episodes and annotations (newest version of every dataset), and
    frames_NAME, episodes_NAME, annotations_NAME of one dataset, or of one version with "frames_NAME@v3" in
    double quotes.
    """

    def __init__(self, store: Store | str | os.PathLike[str] | None = None) -> None:
        self.store = as_store(store)
        self._versions = OpenVersions(self.store)

    def ls(self) -> list[Entry]:
        """One entry a dataset or mixture, by name."""
        entries = []
        for row in self.sql(NEWEST).to_pylist():
            version = Version(row["dataset"], row["seq"], row["version_id"], row["build_id"])
            counts = {k: row[k] for k in ("versions", "groups", "samples", "bytes", "quarantined")}
            entries.append(Entry(version, row["kind"], row["holds"], tags=tuple(row["tags"] or ()), **counts))
        return entries

    def resolve(self, ref: str) -> Version:
        """The version that a reference names."""
        return refs.resolve(self.store, ref)

    def sql(self, query: str) -> pa.Table:
        """The rows of a query. Nothing can be written and no other file read; errors raise UsageError."""
        unknown: list[FoundryError] = []
        with duck.attach(refresh(self.store)) as connection:
            for name, rows in self._in_place(query, unknown):
                duck.show(connection, name, rows)
            duck.lock_down(connection)
            try:
                return duck.fetch(connection, query, "query")
            except UsageError as error:
                error.hint = error.hint or "foundry-data query --help lists the tables"
                # 'there is no dataset lfit, did you mean lift' says more than 'no table frames_lfit'
                raise (unknown[0] if unknown else error) from error

    def _in_place(self, query: str, unknown: list[FoundryError]) -> Iterator[tuple[str, pa.Table | Rows]]:
        """The tables of rows that `query` mentions; `unknown` collects names that may only look like one."""
        text = query.lower()
        if re.search(r"\bruns\b", text):
            yield "runs", _runs(self.store)
        kinds = all_kinds()
        names = list(dict.fromkeys(name for kind in kinds for name in kind.sql.in_place))
        if not re.search(rf"\b({'|'.join(names)})", text):
            return
        newest = [self._open(name) for name in refs.datasets(self.store)]
        for kind in kinds:
            versions = [o for o in newest if o.kind.name == kind.name and o.manifest.mixture is None]
            for name, rows in kind.sql.in_place.items():
                if rows.of_all is not None and versions and re.search(rf"\b{name}\b", text):
                    yield name, rows.of_all(versions)
        by_name = {opened.version.dataset: opened for opened in newest}
        for name, ref in sorted(set(_named_rows(names).findall(text))):
            try:
                opened = by_name[ref] if ref in by_name else self._open(ref)
            except FoundryError as error:
                unknown.append(error)
                continue
            if name in (of_version := _rows_of(opened)):
                yield f"{name}_{ref}", of_version[name].of_one(opened)

    def _open(self, ref: str) -> OpenVersion:
        """What the reference names now, which may be open already."""
        return self._versions.open(self.resolve(ref))


def _rows_of(opened: OpenVersion) -> Mapping[str, RowTable]:
    """The tables of rows that a version has; a mixture has none."""
    return {} if opened.manifest.mixture is not None else opened.kind.sql.in_place


def _named_rows(names: Iterable[str]) -> re.Pattern[str]:
    """Finds the table of rows of a dataset or version, as (name, reference)."""
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile(rf"({'|'.join(longest_first)})_([a-z0-9_-]{{1,64}}(?:@v[0-9]+)?)")


def refresh(store: Store) -> Path:
    """The snapshot file, made anew when it is not of the store's listing, or not as it was written."""
    path = _place(store)
    fingerprint = _fingerprint(store)
    if _is_of(path, fingerprint):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = all_kinds()
    tables = _tables(kinds)
    rows = _rows(store, tables)
    with _beside(path) as beside:
        with duck.connect(beside) as connection:
            for name, columns in tables.items():
                connection.register("incoming", pa.Table.from_pylist(rows[name], schema=columns))
                connection.execute(f"CREATE TABLE {name} AS SELECT * FROM incoming")
                connection.unregister("incoming")
            connection.execute(_datasets(kinds))
        sealed = seal({"fingerprint": fingerprint, "blake3": content_hash(str(path.parent), beside.name)})
        os.replace(beside, path)
    with _beside(path.with_name(_SEAL)) as beside:
        beside.write_bytes(sealed)
        os.replace(beside, path.with_name(_SEAL))
    return path


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name for what becomes `path` once it is whole."""
    beside = path.with_name(f".tmp-{secrets.token_hex(8)}-{path.name}")
    try:
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def _place(store: Store) -> Path:
    """In the store where it is a folder that can be written, else in the user's cache."""
    local = store.storage.local_path(_FILE)
    writable = local is not None and (os.access(local.parent, os.W_OK) or not local.parent.exists())
    if local is not None and writable and duck.can_open(local):
        return local
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if not duck.can_open(cache):
        raise FoundryError(
            f"DuckDB cannot open a file in {cache}: its path holds '?' or '\\'",
            hint="set XDG_CACHE_HOME to a folder without them",
        )
    return cache / "robot_foundry" / digest_of(store.url) / _FILE


def _fingerprint(store: Store) -> str:
    """Digest of all that a snapshot is made from: numbered refs and builds never change, tags do."""
    paths = store.storage.list("refs")
    moving = {p: store.storage.read_bytes(p).hex() for p in paths if not re.search(r"/v[0-9]+$", p)}
    return digest_of([LAYOUT, sorted(ROOMS), paths, moving, store.storage.list("builds")])


def _is_of(path: Path, fingerprint: str) -> bool:
    """Whether a snapshot of this listing is there, every byte as it was written."""
    seal_path = path.with_name(_SEAL)
    if not path.exists() or not seal_path.exists():
        return False
    try:
        sealed = unseal(seal_path.read_bytes(), str(seal_path), hint="")
    except FoundryError:  # it is only a copy
        return False
    return sealed["fingerprint"] == fingerprint and sealed["blake3"] == content_hash(
        str(path.parent), path.name
    )


def _rows(store: Store, tables: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in tables}
    for dataset in refs.datasets(store):
        versions = refs.versions(store, dataset)
        for version in versions:
            manifest = read_manifest(store, version)
            for name, entries in _version_rows(version, manifest, version == versions[-1]).items():
                rows[name] += entries
        rows["tags"] += [
            {"dataset": dataset, "tag": name, "seq": version.seq, "version_id": version.version_id}
            for name, version in refs.tags(store, dataset).items()
        ]
    for path in store.storage.list("builds"):
        record = read_build(store, path)
        _, dataset, file = path.split("/")
        build = {"dataset": dataset, "seq": record["seq"], "build_id": file.removesuffix(".json")}
        rows["quarantine"] += [build | {"count": 1} | entry for entry in record["quarantined"]]
    return rows


def _version_rows(version: Version, manifest: Manifest, latest: bool) -> dict[str, list[dict[str, Any]]]:
    same: dict[str, Any] = {"dataset": version.dataset, "seq": version.seq, "version": str(version)}
    kind = manifest.holds
    of_kind = {} if manifest.schema is None else kind.sql.rows_of(manifest.schema)
    rows = {name: [same | dict(row) for row in entries] for name, entries in of_kind.items()}
    counts = {k: manifest.counts[k] for k in ("bytes", "discovered", "quarantined", *kind.left_out)}
    head = (
        {"version_id": version.version_id, "build_id": version.build_id, "kind": manifest.kind}
        | {"latest": latest, "shards": len(manifest.shards), "holds": kind.name}
        | {"provenance": json.dumps(dict(manifest.provenance), sort_keys=True)}
        | counts
        | _held(kind, manifest.num_groups, manifest.num_samples)
        | {"groups": manifest.num_groups, "samples": manifest.num_samples}
    )
    rows["versions"] = [row | head for row in rows.get("versions", [same])]
    rows["shards"] = [
        same
        | {"shard": i, "key": s.key, "tar_sha256": s.tar_sha256, "bytes": s.tar_bytes}
        | _held(kind, s.num_groups, s.num_samples)
        for i, s in enumerate(manifest.shards)
    ]
    if manifest.mixture is not None:
        rows["components"] = [
            same
            | {"name": c.name, "component": c.dataset, "component_id": c.version_id, "weight": c.weight}
            | {"share": float(c.fraction), "selection": json.dumps(dict(c.selection), sort_keys=True)}
            | {"samples": c.num_samples}
            for c in manifest.mixture.components
        ]
    return rows


def _held(kind: Kind, num_groups: int, num_samples: int) -> dict[str, int]:
    return {kind.groups: num_groups, kind.samples: num_samples}


def _runs(store: Store) -> pa.Table:
    paths = [path for path in store.storage.list("runs") if path.count("/") == 1 and path.endswith(".json")]
    rows = [{"id": path.split("/")[1].removesuffix(".json"), "record": _text(store, path)} for path in paths]
    return pa.Table.from_pylist(rows, schema=_RUNS)


def _text(store: Store, path: str) -> str:
    try:
        return store.storage.read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise FoundryError(
            f"the record of a run {store.url}/{path} is damaged: {error}", hint="delete it, or bring it back"
        ) from error
