"""The files of a source: found, hashed, and listed into units."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from robot_foundry.ingest.sources import Layout, Refused, SourceFile, Unit, layout
from robot_foundry.ingest.spec import Spec
from robot_foundry.runtime.canonical import canonical_json, digest_of
from robot_foundry.runtime.errors import UsageError
from robot_foundry.runtime.parallel import unordered_map
from robot_foundry.runtime.storage import Storage

# Starting workers takes seconds; fewer files than this are looked at here.
FILES_WORTH_WORKERS = 64


@dataclass(frozen=True)
class Source:
    """`paths` are relative to `root`, '/'-separated and sorted; `num_ignored` files are not of the layout."""

    root: Path
    paths: tuple[str, ...]
    num_ignored: int


@dataclass(frozen=True)
class Listing:
    """Units in the source's order, and (unit, reason) of what cannot be read."""

    units: tuple[Unit, ...]
    refused: tuple[tuple[str, str], ...]


def find(source: str | Path, reader: Layout) -> Source:
    """The files of a file, a folder or a glob pattern. A file that is named is taken whatever it is."""
    text = str(source)
    path = Path(text).expanduser()
    if path.is_file():
        return Source(path.absolute().parent, (path.name,), 0)
    if path.is_dir():
        found = [
            Path(folder) / name for folder, _, names in os.walk(path, followlinks=True) for name in names
        ]
        claimed = [file for file in found if file.is_file() and reader.claims(file)]
        return _source(path, claimed, len(found) - len(claimed), f"the folder {text} holds no HDF5 file")
    if "://" in text:
        raise UsageError(f"{text} is not a local path", hint="copy the source to this machine, or mount it")
    if glob.has_magic(text):
        fixed = Path(*_before_magic(path.parts))
        files = [Path(match) for match in glob.glob(str(path), recursive=True) if os.path.isfile(match)]
        return _source(fixed, files, 0, f"no file matches {text}")
    raise UsageError(f"there is no file or folder {text}")


def _source(root: Path, files: Iterable[Path], num_ignored: int, if_none: str) -> Source:
    paths = sorted(file.relative_to(root).as_posix() for file in files)
    if not paths:
        raise UsageError(if_none)
    for path in paths:
        if not path.isprintable():
            raise UsageError(
                f"the file name {path!r} holds characters that cannot be printed: rename the file"
            )
    return Source(root.absolute(), tuple(paths), num_ignored)


def _before_magic(parts: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for part in parts[:-1]:
        if glob.has_magic(part):
            break
        kept.append(part)
    return kept or ["."]


def fingerprints(source: Source, cache: Storage, workers: int, ray_address: str | None) -> list[SourceFile]:
    """Every file with the SHA-256 of its content.

    A hash is kept in the cache under the file's place, size and modification time, so that a second run reads
    no file.
    """
    if len(source.paths) < FILES_WORTH_WORKERS:
        workers, ray_address = 0, None
    hashing = partial(_fingerprint, source.root, cache)
    files = dict(unordered_map(hashing, source.paths, workers=workers, ray_address=ray_address))
    return [files[index] for index in range(len(files))]


def _fingerprint(root: Path, cache: Storage, path: str) -> SourceFile:
    status = (root / path).stat()
    key = {"size": status.st_size, "modified_ns": status.st_mtime_ns}
    cached = f"cache/fingerprints/{digest_of([str(root), path])}.json"
    if cache.exists(cached):
        known = json.loads(cache.read_bytes(cached))
        if {name: known.get(name) for name in key} == key:
            return SourceFile(str(root), path, **key, sha256=known["sha256"])
    sha256 = _sha256(root / path)
    file = SourceFile(str(root), path, **key, sha256=sha256)
    file.check_unchanged()
    cache.write(cached, canonical_json({**key, "sha256": sha256}))
    return file


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_units(
    files: Sequence[SourceFile], spec: Spec, workers: int, ray_address: str | None, limit: int | None
) -> Listing:
    """The units of all files, in their order; the first `limit` of them."""
    if len(files) < FILES_WORTH_WORKERS:
        workers, ray_address = 0, None
    listing = partial(_list_file, spec)
    by_file = dict(unordered_map(listing, files, workers=workers, ray_address=ray_address))
    units: list[Unit] = []
    refused: list[tuple[str, str]] = []
    for index in range(len(files)):
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
