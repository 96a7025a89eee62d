"""The files of a source: found, and listed into units."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import Any

from robot_foundry.catalog.manifest import Quarantined
from robot_foundry.ingest.files.fingerprints import FILES_WORTH_WORKERS, Fingerprints
from robot_foundry.ingest.files.places import Beneath, Listed, listed_at
from robot_foundry.ingest.files.same_files import lost_links_warning, taken_once
from robot_foundry.ingest.kind import kind_of
from robot_foundry.ingest.sources import Layout, Refused, SourceFile, Texts, Unit, layout
from robot_foundry.ingest.spec.spec import SourceSpec
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.errors import UsageError
from robot_foundry.runtime.files import NO_STAMP, FileStatus
from robot_foundry.runtime.parallel import Workers
from robot_foundry.runtime.progress import Progress
from robot_foundry.runtime.records import EXPORT_LOCK, EXPORT_RECORD

# Of files that are passed over.
MOST_NAMED = 3


@dataclass(frozen=True)
class ClaimedFile:
    """A file of the layout, and the files that are read together with it."""

    status: FileStatus
    companions: tuple[FileStatus, ...]


@dataclass(frozen=True)
class SourceFiles:
    """`files`, sorted by path, lie beneath `root`, a folder or URL; `num_ignored` others are of no use.

    `shared` are files that tell of many units, `ignored` the first of those that are of no use. `again` are
    links to files that are taken, each with the file; `nowhere` are those that lead to nothing, as far as no
    file of the layout is lost with them.
    """

    root: str
    files: tuple[ClaimedFile, ...]
    num_ignored: int
    shared: tuple[FileStatus, ...] = ()
    ignored: tuple[str, ...] = ()
    again: tuple[tuple[str, str], ...] = ()
    nowhere: tuple[str, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Size of all files that are read."""
        return sum({item.path: item.size for item in self.statuses}.values())

    @property
    def statuses(self) -> list[FileStatus]:
        """Of all files, in the order in which they are read; one that several share comes several times."""
        listed = (item for entry in self.files for item in (entry.status, *entry.companions))
        return [item for item in listed if item.stamp != NO_STAMP]


@dataclass(frozen=True)
class Listing:
    """Units in the source's order, and what cannot be read."""

    units: tuple[Unit, ...]
    refused: tuple[Quarantined, ...]


def choose(source: str | Path, spec: SourceSpec) -> tuple[SourceSpec, SourceFiles]:
    """The first of the spec and its forms whose layout has a file in the source, and those files.

    A single file, or what a pattern matches, is the spec's own whatever its name, unless it is a form's.
    """
    listed = listed_at(source)
    layouts: list[str] = []
    for form in _forms(spec):
        layouts.append(form.layout)
        reader = layout(form.layout)
        claimed = [file for file in listed.files if reader.claims(file.path)]
        if listed.named and not spec.forms:
            claimed = list(listed.files)
        if claimed:
            return form, _source(listed, claimed, reader, form.content)
    if listed.named:
        return spec, _source(listed, list(listed.files), layout(spec.layout), spec.content)
    nowhere = lost_links_warning([file.path for file in listed.files if file.stamp == NO_STAMP])
    raise UsageError(
        f"{source} holds no file of the layout {' or '.join(dict.fromkeys(layouts))}"
        + "".join(f"; {sentence}" for sentence in nowhere),
        hint="docs/specs.md says which spec reads what",
    )


def _forms(spec: SourceSpec) -> Iterator[SourceSpec]:
    """The spec, then its forms, each read when it is asked for: overrides need not suit those behind."""
    yield spec
    for form in spec.forms:
        yield load_spec(form, spec.overrides)


def _source(listed: Listed, claimed: Sequence[FileStatus], reader: Layout, content: Any) -> SourceFiles:
    """The claimed files, sorted, with their companions among their siblings."""
    once, again = taken_once(listed.root, claimed)
    for status in once:
        if not status.path.isprintable():
            raise UsageError(
                f"the file name {status.path!r} holds characters that cannot be printed: rename the file"
            )
    nowhere = {file.path for file in listed.files if file.stamp == NO_STAMP}
    together = reader.together([status.path for status in once], listed.siblings, content)
    if together is None:
        entries, lost = _each(listed, once, reader)
        nowhere |= lost
    else:
        entries = _gathered(listed, once, together)
    taken = {file.path for entry in entries for file in (entry.status, *entry.companions)}
    shared = tuple(listed.siblings.by_path[name] for name in reader.shared(listed.siblings))
    taken |= {file.path for file in shared}
    nowhere -= taken
    used = {*taken, *nowhere, *(path for path, _ in again)}
    ignored = sorted(
        file.path
        for file in listed.files
        if file.path not in used and not reader.needless(file.path) and not _of_an_export(file.path)
    )
    return SourceFiles(
        listed.root,
        tuple(entries),
        len(ignored),
        shared,
        tuple(ignored[:MOST_NAMED]),
        again,
        tuple(sorted(nowhere)),
    )


def _of_an_export(path: str) -> bool:
    """Whether it is the account that `foundry-data export` keeps of its own files."""
    return path.rpartition("/")[2] in (EXPORT_RECORD, EXPORT_LOCK)


def _gathered(
    listed: Listed, once: Sequence[FileStatus], together: Sequence[tuple[str, Sequence[str]]]
) -> list[ClaimedFile]:
    """What the layout gathered; equal companions are held once."""
    by_path, made = {status.path: status for status in once}, dict[int, tuple[FileStatus, ...]]()
    entries = []
    for path, names in together:
        if id(names) not in made:
            made[id(names)] = tuple(listed.siblings.by_path[name] for name in names)
        entries.append(ClaimedFile(by_path[path], made[id(names)]))
    return entries


def _each(listed: Listed, once: Sequence[FileStatus], reader: Layout) -> tuple[list[ClaimedFile], set[str]]:
    """Every file with what the layout says belongs to it; and links that would, but lead nowhere."""
    entries, nowhere = [], set[str]()
    for status in once:
        folder = status.path.rpartition("/")[0]
        names = sorted(reader.companions(status.path, Beneath(listed.siblings, folder)))
        entries.append(ClaimedFile(status, tuple(listed.siblings.by_path[name] for name in names)))
        # Only where what lies beside was looked at anyhow.
        if listed.siblings.is_listed and listed.siblings.lost:
            beside = reader.companions(status.path, Beneath(listed.siblings, folder, with_lost=True))
            nowhere |= listed.siblings.lost.intersection(beside)
    # A pattern may match what is read together with other files, too.
    others = {file.path for entry in entries for file in entry.companions if file.path != entry.status.path}
    return [entry for entry in entries if entry.status.path not in others], nowhere


def read_files(source: SourceFiles, fingerprints: Fingerprints, *, quiet: bool = True) -> list[SourceFile]:
    """Every file of the source with its fingerprint."""
    statuses = {item.path: item for item in source.statuses}
    hashes = fingerprints.of([statuses[path] for path in sorted(statuses)], quiet=quiet)
    return source_files(source, hashes.__getitem__)


def source_files(source: SourceFiles, fingerprint: Callable[[str], str]) -> list[SourceFile]:
    """Every file of the source; `fingerprint` gives that of a path."""

    def file_of(status: FileStatus, companions: tuple[SourceFile, ...] = ()) -> SourceFile:
        path, stamp = status.path, status.stamp
        identity = NO_STAMP if stamp == NO_STAMP else fingerprint(path)
        return SourceFile(source.root, path, status.size, stamp, identity, companions)

    made: dict[int, tuple[SourceFile, ...]] = {}  # files may share their companions, which may be many
    for entry in source.files:
        if id(entry.companions) not in made:
            made[id(entry.companions)] = tuple(map(file_of, entry.companions))
    return [file_of(entry.status, made[id(entry.companions)]) for entry in source.files]


def shared_files(source: SourceFiles, fingerprints: Fingerprints) -> list[SourceFile]:
    """The files that tell of many units, with their fingerprints."""
    hashes = fingerprints.of(source.shared)
    return [SourceFile(source.root, f.path, f.size, f.stamp, hashes[f.path]) for f in source.shared]


def with_texts(listing: Listing, shared: Sequence[SourceFile], reader: Layout) -> Listing:
    """The listing with what the shared files tell of its units; of two that tell of one, the last."""
    texts: dict[str, Texts] = {}
    for file in shared:
        with file.local() as path:
            texts |= reader.texts(file.path, path.read_bytes())
    units = (replace(unit, texts=texts[unit.id]) if unit.id in texts else unit for unit in listing.units)
    return replace(listing, units=tuple(units))


def list_units(
    files: Sequence[SourceFile], spec: SourceSpec, workers: Workers, *, quiet: bool = True
) -> Listing:
    """The units of all files, in their order."""
    list_one, by_file = partial(_list_file, spec), {}
    with Progress(len(files), "files", "list", quiet=quiet) as progress:
        for index, listed in workers.map(list_one, files, inline=len(files) < FILES_WORTH_WORKERS):
            by_file[index] = listed
            progress.advance(errors=len(listed.refused))
    in_order = [by_file[index] for index in range(len(files))]
    listing = Listing(
        tuple(unit for listed in in_order for unit in listed.units),
        tuple(entry for listed in in_order for entry in listed.refused),
    )
    return _each_once(listing, layout(spec.layout))


def unnamed_warning(source: SourceFiles, listing: Listing) -> list[str]:
    """A sentence on files that would be read together with others, but that no unit of those names.

    What a refused unit would have named is not known.
    """
    units = listing.units
    listed = {unit.file.path for unit in units}
    beside = {file.path for entry in source.files if entry.status.path in listed for file in entry.companions}
    unnamed = sorted(beside.difference(file.path for unit in units for file in unit.file.companions))
    if not unnamed:
        return []
    count = "1 file" if len(unnamed) == 1 else f"{len(unnamed)} files"
    more = ", …" if len(unnamed) > MOST_NAMED else ""
    what = "no unit that is taken" if listing.refused else "nothing"
    return [f"passed over {count} that {what} names: {', '.join(unnamed[:MOST_NAMED])}{more}"]


def first_units(
    source: SourceFiles, spec: SourceSpec, fingerprints: Fingerprints, limit: int
) -> tuple[list[SourceFile], Listing]:
    """The first `limit` units, and the files in which they are; no other file is read."""
    files_read: list[SourceFile] = []
    units: list[Unit] = []
    refused: list[Quarantined] = []
    here = Workers()
    for entry in source.files:
        if len(units) >= limit:
            break
        file = read_files(replace(source, files=(entry,)), fingerprints)
        listed = list_units(file, spec, here)
        files_read += file
        units += listed.units
        refused += listed.refused
    return files_read, _each_once(Listing(tuple(units[:limit]), tuple(refused)), layout(spec.layout))


def _each_once(listing: Listing, reader: Layout) -> Listing:
    """The listing without the units that are there a second time, which are refused."""
    again = reader.again(listing.units)
    if not again:
        return listing
    repeated = {id(unit) for unit, _ in again}
    refused = (Quarantined(unit.name, reason) for unit, reason in again)
    units = tuple(unit for unit in listing.units if id(unit) not in repeated)
    return Listing(units, (*listing.refused, *refused))


def _list_file(spec: SourceSpec, file: SourceFile) -> Listing:
    if file.stamp == NO_STAMP:
        return _none_in(file, "it is a link that leads nowhere: fetch the file that it stands for")
    reader = layout(spec.layout)
    try:
        units, refused = reader.list_units(file, spec.content)
    except Refused as error:
        return _none_in(file, error.message)
    if not units and not refused and file.size > 0 and not reader.tells_of_others(file.path):
        return _none_in(file, f"it holds no {kind_of(spec).unit}")
    return Listing(tuple(units), tuple(starmap(Quarantined, refused)))


def _none_in(file: SourceFile, reason: str) -> Listing:
    return Listing((), (Quarantined(file.path, reason),))
