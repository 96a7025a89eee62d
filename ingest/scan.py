"""The files of a source: found, known by their content, and listed into units."""

from __future__ import annotations

import glob
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from robot_foundry.ingest.sources import Layout, Refused, SourceFile, Unit, layout
from robot_foundry.ingest.sources.base import STORE_CHECKSUM
from robot_foundry.ingest.spec import Spec
from robot_foundry.runtime import files
from robot_foundry.runtime.canonical import canonical_json, digest_of
from robot_foundry.runtime.errors import UsageError
from robot_foundry.runtime.files import FileStatus
from robot_foundry.runtime.parallel import unordered_map
from robot_foundry.runtime.storage import Storage

# Starting workers takes seconds; fewer files than this are looked at here.
FILES_WORTH_WORKERS = 64
FINGERPRINTS = ("auto", "full")


@dataclass(frozen=True)
class Found:
    """A file of the layout, and the files that are read together with it."""

    status: FileStatus
    companions: tuple[FileStatus, ...]


@dataclass(frozen=True)
class Source:
    """`files`, sorted by path, lie beneath `root`, a folder or URL; `num_ignored` others are of no use."""

    root: str
    files: tuple[Found, ...]
    num_ignored: int

    @property
    def num_bytes(self) -> int:
        """Size of all files that are read."""
        sizes = {item.path: item.size for found in self.files for item in (found.status, *found.companions)}
        return sum(sizes.values())


@dataclass(frozen=True)
class Listing:
    """Units in the source's order, and (unit, reason) of what cannot be read."""

    units: tuple[Unit, ...]
    refused: tuple[tuple[str, str], ...]


class _Siblings(Collection[str]):
    """Paths of all files beneath a root, listed when they are first asked for."""

    def __init__(self, root: str) -> None:
        self._root = root

    @cached_property
    def by_path(self) -> dict[str, FileStatus]:
        return {file.path: file for file in files.walk(self._root)}

    def __contains__(self, path: object) -> bool:
        return path in self.by_path

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_path)

    def __len__(self) -> int:
        return len(self.by_path)


def find(source: str | Path, reader: Layout) -> Source:
    """The files of a file, a folder or a glob pattern, local or in an object store.

    A file that is named is taken whatever it is.
    """
    text = str(source)
    if files.is_remote(text):
        files.check_scheme(text)
        place = text.rstrip("/")
    else:
        place = str(Path(text).expanduser().absolute())
    if files.is_file(place):
        root, _, name = place.rpartition("/")
        return _source(root or "/", [files.status(root or "/", name)], reader, 0, text)
    if glob.has_magic(place):
        root, pattern = _before_magic(place)
        return _source(root, files.matching(root, pattern), reader, 0, f"no file matches {text}")
    siblings = _Siblings(place)
    if not siblings:
        raise UsageError(f"there is no file or folder {text}, or nothing is in it")
    claimed = [file for path, file in siblings.by_path.items() if reader.claims(path)]
    if_none = f"the folder {text} holds no file of the layout {reader.name}"
    return _source(place, claimed, reader, len(siblings), if_none, siblings)


def _source(
    root: str,
    claimed: Iterable[FileStatus],
    reader: Layout,
    num_listed: int,
    if_none: str,
    siblings: _Siblings | None = None,
) -> Source:
    """The claimed files, sorted, with their companions among their siblings."""
    siblings = siblings or _Siblings(root)
    found = []
    for status in sorted(claimed, key=lambda file: file.path):
        if not status.path.isprintable():
            raise UsageError(
                f"the file name {status.path!r} holds characters that cannot be printed: rename the file"
            )
        names = sorted(reader.companions(status.path, siblings))
        found.append(Found(status, tuple(siblings.by_path[name] for name in names)))
    if not found:
        raise UsageError(if_none)
    taken = {file.path for entry in found for file in (entry.status, *entry.companions)}
    return Source(root, tuple(found), max(0, num_listed - len(taken)))


def _before_magic(place: str) -> tuple[str, str]:
    """The folder above the first part of the path that has a wildcard, and the rest."""
    parts = place.split("/")
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:first]) or "/", "/".join(parts[first:])


def fingerprints(
    source: Source, cache: Storage, workers: int, ray_address: str | None, how: str = "auto"
) -> list[SourceFile]:
    """Every file with its fingerprint: the SHA-256 of its content, or the checksum of its object store.

    `how` is auto, or full to read remote files too. A hash is kept in the cache under the file's place, size
    and stamp, so that a second run reads no file.
    """
    if how not in FINGERPRINTS:
        raise UsageError(f"fingerprint is {' or '.join(FINGERPRINTS)}, got {how!r}")
    statuses = {item.path: item for found in source.files for item in (found.status, *found.companions)}
    paths = sorted(statuses)
    if files.is_remote(source.root) and how == "auto":
        hashes = {path: f"{STORE_CHECKSUM}{statuses[path].stamp}:{statuses[path].size}" for path in paths}
    else:
        if len(paths) < FILES_WORTH_WORKERS:
            workers, ray_address = 0, None
        hashing = partial(_sha256, source.root, cache)
        results = unordered_map(
            hashing, (statuses[path] for path in paths), workers=workers, ray_address=ray_address
        )
        hashes = {paths[index]: sha256 for index, sha256 in results}

    def file_of(status: FileStatus, companions: tuple[SourceFile, ...] = ()) -> SourceFile:
        path = status.path
        return SourceFile(source.root, path, status.size, status.stamp, hashes[path], companions)

    return [file_of(found.status, tuple(map(file_of, found.companions))) for found in source.files]


def _sha256(root: str, cache: Storage, status: FileStatus) -> str:
    key = {"size": status.size, "stamp": status.stamp}
    cached = f"cache/fingerprints/{digest_of([root, status.path])}.json"
    if cache.exists(cached):
        known = json.loads(cache.read_bytes(cached))
        if {name: known.get(name) for name in key} == key:
            return str(known["sha256"])
    sha256 = files.sha256(root, status.path)
    SourceFile(root, status.path, status.size, status.stamp, sha256).check_unchanged()
    cache.write(cached, canonical_json({**key, "sha256": sha256}))
    return sha256


def list_units(
    found: Sequence[SourceFile], spec: Spec, workers: int, ray_address: str | None, limit: int | None
) -> Listing:
    """The units of all files, in their order; the first `limit` of them."""
    if len(found) < FILES_WORTH_WORKERS:
        workers, ray_address = 0, None
    listing = partial(_list_file, spec)
    by_file = dict(unordered_map(listing, found, workers=workers, ray_address=ray_address))
    units: list[Unit] = []
    refused: list[tuple[str, str]] = []
    for index in range(len(found)):
        if limit is not None and len(units) >= limit:
            break
        units += by_file[index].units
        refused += by_file[index].refused
    if limit is not None:
        units = units[:limit]
    return Listing(tuple(units), tuple(refused))


def _list_file(spec: Spec, file: SourceFile) -> Listing:
    try:
        units, refused = layout(spec.layout).list_units(file, spec.content)
    except Refused as error:
        return Listing((), ((file.path, error.message),))
    if not units and not refused:
        return Listing((), ((file.path, "it holds no demonstration"),))
    return Listing(tuple(units), tuple(refused))
