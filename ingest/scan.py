"""The files of a source: found, and listed into units."""

from __future__ import annotations

import glob
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from robot_foundry.ingest.fingerprints import FILES_WORTH_WORKERS, Fingerprints
from robot_foundry.ingest.sources import Layout, Refused, SourceFile, Texts, Unit, layout
from robot_foundry.ingest.spec import Spec, load_spec
from robot_foundry.runtime import files
from robot_foundry.runtime.errors import UsageError
from robot_foundry.runtime.files import NO_STAMP, FileStatus
from robot_foundry.runtime.parallel import Workers
from robot_foundry.runtime.progress import Progress

# Of files that are passed over.
MOST_NAMED = 3
LAST_CHARACTER = "\U0010ffff"


@dataclass(frozen=True)
class Found:
    """A file of the layout, and the files that are read together with it."""

    status: FileStatus
    companions: tuple[FileStatus, ...]


@dataclass(frozen=True)
class Source:
    """`files`, sorted by path, lie beneath `root`, a folder or URL; `num_ignored` others are of no use.

    `shared` are files that tell of many units, `ignored` the first of those that are of no use.
    """

    root: str
    files: tuple[Found, ...]
    num_ignored: int
    shared: tuple[FileStatus, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Size of all files that are read."""
        return sum({item.path: item.size for item in self.statuses}.values())

    @property
    def statuses(self) -> list[FileStatus]:
        """Of all files, in the order in which they are read; one that several share comes several times."""
        listed = (item for found in self.files for item in (found.status, *found.companions))
        return [item for item in listed if item.stamp != NO_STAMP]


@dataclass(frozen=True)
class Listing:
    """Units in the source's order, and (unit, reason) of what cannot be read."""

    units: tuple[Unit, ...]
    refused: tuple[tuple[str, str], ...]


class _Siblings(Collection[str]):
    """Paths of all files beneath a root, listed when they are first asked for; no links that lead nowhere."""

    def __init__(self, root: str) -> None:
        self._root = root

    @cached_property
    def found(self) -> list[FileStatus]:
        """Links that lead nowhere as well."""
        return list(files.walk(self._root))

    @cached_property
    def by_path(self) -> dict[str, FileStatus]:
        return {file.path: file for file in self.found if file.stamp != NO_STAMP}

    def __contains__(self, path: object) -> bool:
        return path in self.by_path

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_path)

    def __len__(self) -> int:
        return len(self.by_path)

    @cached_property
    def sorted_paths(self) -> list[str]:
        return sorted(self.by_path)


class _Beneath(Collection[str]):
    """Those of the siblings that lie in and beneath one folder, so that many folders take no long search."""

    def __init__(self, siblings: _Siblings, folder: str) -> None:
        self._siblings, self._prefix = siblings, f"{folder}/" if folder else ""

    @cached_property
    def _paths(self) -> list[str]:
        paths = self._siblings.sorted_paths
        first = bisect_left(paths, self._prefix)
        return paths[first : bisect_left(paths, self._prefix + LAST_CHARACTER, lo=first)]

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and path.startswith(self._prefix) and path in self._siblings

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


@dataclass(frozen=True)
class _Listed:
    """What was found at a place. `named` says that the user gave this one file or pattern."""

    root: str
    files: Sequence[FileStatus]
    siblings: _Siblings
    named: bool


def choose(source: str | Path, spec: Spec) -> tuple[Spec, Source]:
    """The first of the spec and its forms whose layout has a file in the source, and those files.

    A single file or a pattern is taken whatever its name if there is one form only.
    """
    listed = _listed(source)
    forms = [spec, *(load_spec(form, spec.overrides) for form in spec.forms)]
    for form in forms:
        reader = layout(form.layout)
        claimed = [file for file in listed.files if reader.claims(file.path)]
        if listed.named and len(forms) == 1:
            claimed = list(listed.files)
        if claimed:
            return form, _source(listed, claimed, reader)
    layouts = " or ".join(dict.fromkeys(form.layout for form in forms))
    raise UsageError(
        f"{source} holds no file of the layout {layouts}", hint="docs/specs.md says which spec reads what"
    )


def _listed(source: str | Path) -> _Listed:
    """The files of a file, a folder or a glob pattern, local or in an object store."""
    text = str(source)
    if files.is_remote(text):
        files.check_scheme(text)
        place = text.rstrip("/")
    else:
        place = str(Path(text).expanduser().absolute())
    if files.is_file(place):
        root, _, name = place.rpartition("/")
        root = root or "/"
        return _Listed(root, [files.status(root, name)], _Siblings(root), named=True)
    if glob.has_magic(place):
        root, pattern = _before_magic(place)
        found = list(files.matching(root, pattern))
        if not found:
            raise UsageError(f"no file matches {text}")
        return _Listed(root, found, _Siblings(root), named=True)
    siblings = _Siblings(place)
    if not siblings.found:
        if not files.is_remote(place) and Path(place).is_dir():
            raise UsageError(f"the folder {text} is empty")
        raise UsageError(f"there is no file or folder {text}", hint="give a file, a folder or a quoted glob")
    return _Listed(place, siblings.found, siblings, named=False)


def _source(listed: _Listed, claimed: Sequence[FileStatus], reader: Layout) -> Source:
    """The claimed files, sorted, with their companions among their siblings."""
    found = []
    for status in sorted(claimed, key=lambda file: file.path):
        if not status.path.isprintable():
            raise UsageError(
                f"the file name {status.path!r} holds characters that cannot be printed: rename the file"
            )
        beneath = _Beneath(listed.siblings, status.path.rpartition("/")[0])
        names = sorted(reader.companions(status.path, beneath))
        found.append(Found(status, tuple(listed.siblings.by_path[name] for name in names)))
    shared = tuple(listed.siblings.by_path[name] for name in reader.shared(listed.siblings))
    taken = {file.path for entry in found for file in (entry.status, *entry.companions)}
    taken |= {file.path for file in shared}
    ignored = sorted(file.path for file in listed.files if file.path not in taken)
    return Source(listed.root, tuple(found), len(ignored), shared, tuple(ignored[:MOST_NAMED]))


def _before_magic(place: str) -> tuple[str, str]:
    """The folder above the first part of the path that has a wildcard, and the rest."""
    parts = place.split("/")
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:first]) or "/", "/".join(parts[first:])


def read_files(source: Source, known: Fingerprints, *, quiet: bool = True) -> list[SourceFile]:
    """Every file of the source with its fingerprint."""
    statuses = {item.path: item for item in source.statuses}
    hashes = known.of([statuses[path] for path in sorted(statuses)], quiet=quiet)
    return source_files(source, hashes.__getitem__)


def source_files(source: Source, fingerprint: Callable[[str], str]) -> list[SourceFile]:
    """Every file of the source; `fingerprint` gives that of a path."""

    def file_of(status: FileStatus, companions: tuple[SourceFile, ...] = ()) -> SourceFile:
        path, stamp = status.path, status.stamp
        known_as = NO_STAMP if stamp == NO_STAMP else fingerprint(path)
        return SourceFile(source.root, path, status.size, stamp, known_as, companions)

    return [file_of(found.status, tuple(map(file_of, found.companions))) for found in source.files]


def shared_files(source: Source, known: Fingerprints) -> list[SourceFile]:
    """The files that tell of many units, with their fingerprints."""
    hashes = known.of(source.shared)
    return [SourceFile(source.root, f.path, f.size, f.stamp, hashes[f.path]) for f in source.shared]


def with_texts(listing: Listing, shared: Sequence[SourceFile], reader: Layout) -> Listing:
    """The listing with what the shared files tell of its units; of two that tell of one, the last."""
    told: dict[str, Texts] = {}
    for file in shared:
        with file.local() as path:
            told |= reader.texts(file.path, path.read_bytes())
    units = (
        replace(unit, texts=told[unit.episode]) if unit.episode in told else unit for unit in listing.units
    )
    return replace(listing, units=tuple(units))


def list_units(found: Sequence[SourceFile], spec: Spec, workers: Workers, *, quiet: bool = True) -> Listing:
    """The units of all files, in their order."""
    listing, by_file = partial(_list_file, spec), {}
    with Progress(len(found), "files", "list", quiet=quiet) as progress:
        for index, listed in workers.map(listing, found, inline=len(found) < FILES_WORTH_WORKERS):
            by_file[index] = listed
            progress.advance(errors=len(listed.refused))
    in_order = [by_file[index] for index in range(len(found))]
    return Listing(
        tuple(unit for listed in in_order for unit in listed.units),
        tuple(entry for listed in in_order for entry in listed.refused),
    )


def first_units(
    source: Source, spec: Spec, known: Fingerprints, limit: int
) -> tuple[list[SourceFile], Listing]:
    """The first `limit` units, and the files in which they are; no other file is read."""
    files_read: list[SourceFile] = []
    units: list[Unit] = []
    refused: list[tuple[str, str]] = []
    here = Workers()
    for found in source.files:
        if len(units) >= limit:
            break
        file = read_files(replace(source, files=(found,)), known)
        listed = list_units(file, spec, here)
        files_read += file
        units += listed.units
        refused += listed.refused
    return files_read, Listing(tuple(units[:limit]), tuple(refused))


def _list_file(spec: Spec, file: SourceFile) -> Listing:
    if file.stamp == NO_STAMP:
        return Listing(
            (), ((file.path, "it is a link that leads nowhere: fetch the file that it stands for"),)
        )
    try:
        units, refused = layout(spec.layout).list_units(file, spec.content)
    except Refused as error:
        return Listing((), ((file.path, error.message),))
    if not units and not refused and file.size > 0:
        return Listing((), ((file.path, "it holds no demonstration"),))
    return Listing(tuple(units), tuple(refused))
