"""Tables that name pictures in files of their own: JSON lines, a JSON array, CSV. LLaVA's JSON is such a one.

A plain table is cut into parts, each of whole rows that follow each other. What a part has as companions are
the pictures that its rows name, so that a picture that changes touches one part alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from robot_foundry.ingest.sources.base import SourceFile
from robot_foundry.ingest.sources.json_values import UnusableJson
from robot_foundry.ingest.sources.pairs.asked import Asked
from robot_foundry.ingest.sources.pairs.files_named import MOST_TRIED, NamedPictures, Pictures, names_of
from robot_foundry.ingest.sources.pairs.forms import Form
from robot_foundry.ingest.sources.pairs.raw import RawPair
from robot_foundry.ingest.sources.pairs.record import pair_of, pictures_of, record_of
from robot_foundry.ingest.sources.pairs.table_rows import Row, rows_of, rows_within
from robot_foundry.ingest.sources.unusable import Broken, Unusable

_ID = re.compile(r"(?:all|bytes_([0-9]+)_to_([0-9]+)_from_([0-9]+))(?:_in_(.+))?", re.DOTALL)


@dataclass(frozen=True)
class Part:
    """Rows of a table, the first of which has the `number`, in bytes from `start` to `end` (exclusive).

    `end` is None for the whole of a file. Pictures are named in `folder`. As the `id` of a unit it names itself.
    """

    start: int
    end: int | None
    number: int
    folder: str

    @property
    def id(self) -> str:
        bounds = "all" if self.end is None else f"bytes_{self.start}_to_{self.end}_from_{self.number}"
        return f"{bounds}_in_{self.folder}" if self.folder else bounds

    @classmethod
    def of_id(cls, text: str) -> Part:
        match = _ID.fullmatch(text)
        assert match is not None  # `parts` made it
        start, end, number, folder = match.groups()
        if start is None:
            return cls(0, None, 0, folder or "")
        return cls(int(start), int(end), int(number), folder or "")


@dataclass
class FoundPart:
    """A part, the files that it names, and how many bytes all of it has."""

    part: Part
    files: dict[str, SourceFile] = field(default_factory=dict)
    num_bytes: int = 0


def parts(path: Path, form: Form, file: SourceFile, content: Asked) -> list[FoundPart]:
    """The parts of the table at `path`; the companions of `file` are all that it may name. Refused if it is none."""
    pictures = Pictures(file.companions)
    folder = pictures.folder(file.path, list(islice(_names(path, form, content), MOST_TRIED)), content)
    is_cut = form.compression is None
    found: list[FoundPart] = []
    try:
        for row in rows_of(path, form):
            if not found or (is_cut and found[-1].num_bytes >= content.unit_bytes):
                found.append(FoundPart(Part(row.start, row.end if is_cut else None, row.number, folder)))
            last = found[-1]
            last.num_bytes += row.end - row.start
            if is_cut:
                last.part = Part(last.part.start, row.end, last.part.number, folder)
            for name in _names_in(row, content):
                picture = pictures.file(folder, name)
                if picture is not None and picture.path not in last.files:
                    last.files[picture.path] = picture
                    last.num_bytes += picture.size
    except Broken:
        pass  # reading the part tells it
    return found


def pairs_of_part(file: SourceFile, form: Form, part: Part, content: Asked) -> Iterator[RawPair | Unusable]:
    """The pairs of a part; the table and the pictures that it names are at hand."""
    path, pictures = (
        Path(file.root, file.path),
        NamedPictures(Pictures(file.companions), part.folder, content),
    )
    last = part.number - 1
    try:
        if part.end is None:
            rows = rows_of(path, form)
        else:
            rows = rows_within(path, form, part.start, part.end, part.number)
        for row in rows:
            last = row.number
            yield _pair(row, pictures, content)
    except Broken as error:
        yield Unusable(str(last + 1), f"{error}, and what follows is lost")


def _pair(row: Row, pictures: NamedPictures, content: Asked) -> RawPair | Unusable:
    place = str(row.number)
    try:
        if isinstance(row.values, UnusableJson):
            raise row.values
        record = record_of(row.values, content, has_images=True)
        found = [pictures.read(value, record.image_key) for value in record.pictures]
    except UnusableJson as error:
        return Unusable(place, str(error))
    return pair_of(place, record, found, content)


def _names(path: Path, form: Form, content: Asked) -> Iterator[str]:
    try:
        for row in rows_of(path, form):
            yield from _names_in(row, content)
    except Broken:
        return


def _names_in(row: Row, content: Asked) -> Iterator[str]:
    if not isinstance(row.values, UnusableJson):
        key, values = pictures_of(row.values, content)
        yield from names_of(values, key)
