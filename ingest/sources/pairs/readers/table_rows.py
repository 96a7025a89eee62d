"""Rows of a table in a file of text, and where each lies: JSON lines, a JSON array, CSV.

Lines of JSON lines are numbered from 1, rows of CSV from 1 behind the header, elements of an array from 0.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.formats.json_array import elements, elements_within
from robot_foundry.ingest.sources.formats.json_values import BOM, UnusableJson, json_object, unicode_text
from robot_foundry.ingest.sources.formats.streams import blocks_of, decompressed
from robot_foundry.ingest.sources.pairs.asked import CSV, JSON, JSON_LINES, TSV
from robot_foundry.ingest.sources.pairs.forms import Form
from robot_foundry.ingest.sources.unusable import shown

TABLES = (JSON, JSON_LINES, CSV, TSV)
# Of one row, pictures apart.
MOST_ROW_BYTES = 16 << 20
MOST_HEADER_SHOWN = 400  # characters
# What may divide the cells of a header, and so of all rows: the first of these that it holds.
_DELIMITERS = {CSV: ",;\t", TSV: "\t"}


@dataclass(frozen=True)
class Row:
    """A row, in bytes from `start` to `end` (exclusive) of the table; what it says, or why it does not."""

    number: int
    start: int
    end: int
    values: dict[str, Any] | UnusableJson


def rows_of(path: Path, form: Form) -> Iterator[Row]:
    """All rows of a table. Refused if it is none; `Broken`, at any row, where it is damaged from there on."""
    with path.open("rb") as file:
        blocks = decompressed(blocks_of(file), form.compression)
        if form.container == JSON:
            for number, (start, data) in enumerate(elements(blocks, MOST_ROW_BYTES)):
                yield Row(number, start, start + len(data), _object(data))
        elif form.container == JSON_LINES:
            yield from _json_rows(_lines(blocks, 0), 1)
        else:
            lines = _Lines(_lines(blocks, 0))
            yield from _csv_rows(lines, _header(lines, form), 1)


def rows_within(path: Path, form: Form, start: int, end: int, number: int) -> Iterator[Row]:
    """The rows in a range of bytes of a plain table, of which the first has the `number`."""
    with path.open("rb") as file:
        is_csv = form.container in _DELIMITERS
        header = _header(_Lines(_lines(blocks_of(file), 0)), form) if is_csv else _Header([], "")
        file.seek(start)
        blocks = _limited(blocks_of(file), end - start)
        if form.container == JSON:
            for element, data in enumerate(elements_within(blocks, MOST_ROW_BYTES), number):
                yield Row(element, start, end, _object(data))
        elif form.container == JSON_LINES:
            yield from _json_rows(_lines(blocks, start), number)
        else:
            yield from _csv_rows(_Lines(_lines(blocks, start)), header, number)


def _object(data: bytes) -> dict[str, Any] | UnusableJson:
    try:
        return json_object(data)
    except UnusableJson as error:
        return error


def _json_rows(lines: Iterator[tuple[int, int, bytes | None]], number: int) -> Iterator[Row]:
    """Blank lines are no rows, and count as lines."""
    for line, (start, end, data) in enumerate(lines, number):
        if data is None:
            yield Row(line, start, end, UnusableJson(f"it has more than {MOST_ROW_BYTES} bytes"))
        elif data.removeprefix(BOM).strip():
            yield Row(line, start, end, _object(data))


def _lines(blocks: Iterator[bytes], at: int) -> Iterator[tuple[int, int, bytes | None]]:
    """Lines with their ends, behind where each starts and ends; None for one longer than a row may be."""
    parts: list[bytes] = []
    start = end = at
    for block in blocks:
        for piece in block.splitlines(keepends=True) if b"\r" not in block else _split(block):
            end += len(piece)
            if end - start <= MOST_ROW_BYTES:
                parts.append(piece)
            if piece.endswith(b"\n"):
                yield start, end, b"".join(parts) if end - start <= MOST_ROW_BYTES else None
                parts, start = [], end
    if end > start:
        yield start, end, b"".join(parts) if end - start <= MOST_ROW_BYTES else None


def _split(block: bytes) -> Iterator[bytes]:
    """At line feeds alone, as `splitlines` also splits at carriage returns."""
    *whole, last = block.split(b"\n")
    yield from (line + b"\n" for line in whole)
    if last:
        yield last


class _Lines:
    """Lines as `csv.reader` asks for them; `start` and `end` are of those that it took since `begin`."""

    def __init__(self, lines: Iterator[tuple[int, int, bytes | None]]) -> None:
        self._lines = lines
        self.start = self.end = 0
        self._is_begun = False

    def begin(self) -> None:
        self._is_begun = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        start, self.end, data = next(self._lines)
        if not self._is_begun:
            self.start, self._is_begun = start, True
        if data is None:
            raise csv.Error(f"a line has more than {MOST_ROW_BYTES} bytes")
        if start == 0:
            data = data.removeprefix(BOM)
        return data.decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class _Header:
    """Names of the columns, and what divides the cells of a row."""

    names: list[str]
    delimiter: str


def _header(lines: _Lines, form: Form) -> _Header:
    """Refused where the first row names no columns."""
    among = _DELIMITERS[form.container]
    try:
        first = next(lines, "")
        delimiter = next((letter for letter in among if letter in first), among[0])
        cells: list[str] = next(csv.reader(chain([first], lines), delimiter=delimiter), [])
        names = [unicode_text(cell, cell).strip() for cell in cells]
    except (csv.Error, UnusableJson) as error:
        raise Refused("its first row is no header of names of columns in UTF-8") from error
    if not all(names) or len(set(names)) < len(names):
        listed = shown(", ".join(names), MOST_HEADER_SHOWN)
        raise Refused(f"its header names a column twice or not at all ({listed})")
    return _Header(names, delimiter)


def _csv_rows(lines: _Lines, header: _Header, number: int) -> Iterator[Row]:
    """Empty rows are none, and are not counted."""
    reader = csv.reader(lines, delimiter=header.delimiter)
    numbers = count(number)
    while True:
        lines.begin()
        values: dict[str, Any] | UnusableJson
        try:
            cells = next(reader, None)
            if cells is None:
                return
            if not cells:
                continue
            values = _cells(cells, header.names)
        except csv.Error as error:
            values = UnusableJson(f"its row is no CSV: {error}")
        yield Row(next(numbers), lines.start, lines.end, values)


def _cells(cells: list[str], header: list[str]) -> dict[str, Any] | UnusableJson:
    """Empty cells are null."""
    if len(cells) != len(header):
        return UnusableJson(f"its row has {len(cells)} cells, and the header {len(header)}")
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return UnusableJson("it is not UTF-8")
    return {name: cell or None for name, cell in zip(header, cells, strict=True)}


def _limited(blocks: Iterator[bytes], size: int) -> Iterator[bytes]:
    for block in blocks:
        yield block[:size]
        size -= min(size, len(block))
        if not size:
            return
