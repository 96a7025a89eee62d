"""Tables that name pictures in files of their own: JSON lines, a JSON array, CSV. LLaVA's JSON is such a one.

A plain table is cut into parts, each of whole rows that follow each other. What a part has as companions are
the pictures that its rows name, so that a picture that changes touches one part alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path

from robot_foundry.ingest.sources.base import SourceFile
from robot_foundry.ingest.sources.formats.json_values import UnusableJson
from robot_foundry.ingest.sources.pairs.asked import Asked
from robot_foundry.ingest.sources.pairs.files_named import (
    MOST_TRIED,
    FoundPart,
    NamedPictures,
    Pictures,
    bounds_and_folder,
    names_of,
)
from robot_foundry.ingest.sources.pairs.forms import Form
from robot_foundry.ingest.sources.pairs.raw import RawPair
from robot_foundry.ingest.sources.pairs.readers.table_rows import Row, rows_of, rows_within
from robot_foundry.ingest.sources.pairs.record import pair_of, pictures_of, record_of
from robot_foundry.ingest.sources.unusable import Broken, Unusable

_ID = re.compile(r"bytes_([0-9]+)_to_([0-9]+)_from_([0-9]+)")
WHOLE = "all"
LOST = ", and this and what follows is lost"


@dataclass(frozen=True)
class Part:
    """Rows of a plain table: bytes from `start` to `end` (exclusive), and the `number` of the first row."""

    start: int
    end: int
    number: int

    @property
    def bounds(self) -> str:
        return f"bytes_{self.start}_to_{self.end}_from_{self.number}"

    @classmethod
    def of(cls, bounds: str) -> Part | None:
        """None for the bounds of no part."""
        match = _ID.fullmatch(bounds)
        return None if match is None else cls(*map(int, match.groups()))


def parts(
    path: Path, form: Form, file: SourceFile, content: Asked
) -> tuple[list[FoundPart], list[tuple[str, str]]]:
    """The parts of the table at `path`, which may name companions of `file`. Refused if it is none.

    And what no part has: place and reason of where a plain table is damaged.
    """
    pictures = Pictures(file.companions)
    folder = pictures.folder(file.path, list(islice(_names(path, form, content), MOST_TRIED)), content)
    is_cut = form.compression is None
    found: list[FoundPart] = []
    part, number = Part(0, 0, 0), -1
    try:
        for row in rows_of(path, form):
            number = row.number
            if not found or (is_cut and found[-1].num_bytes >= content.unit_bytes):
                part = Part(row.start, row.end, row.number)
                found.append(FoundPart(WHOLE, folder))
            part = Part(part.start, row.end, part.number)
            if is_cut:
                found[-1].bounds = part.bounds
            found[-1].num_bytes += row.end - row.start
            found[-1].name(pictures, _names_in(row, content))
    except Broken as error:
        if is_cut or not found:  # else reading the part tells it
            return found, [(f"{file.path}#{number + 1}", f"{error}{LOST}")]
    return found, []


def pairs_of_part(file: SourceFile, form: Form, unit: str, content: Asked) -> Iterator[RawPair | Unusable]:
    """The pairs of a unit by its id; the table and the pictures that it names are at hand."""
    bounds, folder = bounds_and_folder(unit)
    pictures, part = NamedPictures(Pictures(file.companions), folder, content), Part.of(bounds)
    path, number = Path(file.root, file.path), 0
    try:
        rows = rows_of(path, form) if part is None else rows_within(path, form, *astuple(part))
        for row in rows:
            number = row.number
            yield _pair(row, pictures, content)
    except Broken as error:
        yield Unusable(str(number + 1), f"{error}{LOST}")


def _pair(row: Row, pictures: NamedPictures, content: Asked) -> RawPair | Unusable:
    place = str(row.number)
    try:
        if isinstance(row.values, UnusableJson):
            raise row.values
        record = record_of(row.values, content, has_images=True)
        found = [pictures.read(key, value) for key, value in record.pictures]
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
        yield from names_of(pictures_of(row.values, content))
