"""Damage to sources of text: JSON lines and parquet, of three files each."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from foundry_testing.corruption.bytes_damaged import cut, flip, rewrite
from foundry_testing.corruption.declared import Case, Damage, Form, Outcome, Spoil
from foundry_testing.texts import some_documents

EACH, MOST_BYTES, NAMES = 8, 20_000, ("a", "b", "c")
Q, E, T, UNSEEN, REFUSED = (
    Outcome.QUARANTINED,
    Outcome.EQUAL,
    Outcome.TOLD,
    Outcome.UNSEEN,
    Outcome.REFUSED,
)
Rows = list[dict[str, Any]]
SETTINGS = (f"content.max_document_bytes={MOST_BYTES}",)
NO_CAMERA = {Damage.CAMERA: "documents have no pictures"}
ANYTHING = "a text may be any, and nothing tells what it was"


def rows_of(number: int) -> Rows:
    return some_documents(EACH, EACH * number)


def lines_of(rows: Sequence[Any]) -> bytes:
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()


def of_file(name: str, damage: Callable[[Path, random.Random], object]) -> Spoil:
    """Damage to a file, which may cost all of it."""
    return lambda folder, rng: (damage(folder / name, rng), f"{name}#*")[1]


def put(data: bytes) -> Callable[[Path, random.Random], object]:
    return lambda path, rng: path.write_bytes(data)


def write_lines(folder: Path) -> None:
    for number, name in enumerate(NAMES):
        (folder / f"{name}.jsonl").write_bytes(lines_of(rows_of(number)))


def of_row(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """A change of the third line of the second file."""

    def spoil(folder: Path, rng: random.Random) -> str:
        rows = rows_of(1)
        change(rows[2])
        (folder / "b.jsonl").write_bytes(lines_of(rows))
        return "b.jsonl#3"

    return spoil


def of_line(line: bytes) -> Spoil:
    """Other bytes in place of the third line."""

    def spoil(folder: Path, rng: random.Random) -> str:
        lines = lines_of(rows_of(1)).splitlines(keepends=True)
        (folder / "b.jsonl").write_bytes(b"".join([*lines[:2], line + b"\n", *lines[3:]]))
        return "b.jsonl#3"

    return spoil


def more_rows(*rows: Mapping[str, Any]) -> Spoil:
    """Rows behind those of the second file."""
    damage = of_file("b.jsonl", lambda path, rng: rewrite(path, lambda data: data + lines_of(rows)))
    return lambda folder, rng: (damage(folder, rng), "b.jsonl#9")[1]


def pack(path: Path, rng: random.Random) -> None:
    """Flip a bit of the checksum of the file, packed by gzip."""
    path.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    flip(path, rng, [(path.stat().st_size - 8, path.stat().st_size - 4)])


def set_to(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda row: row.update(values)


LINES = (
    Case(
        Damage.TRUNCATION,
        "a file is cut off",
        of_file("b.jsonl", cut),
        Q | UNSEEN,
        3,
        "behind the end of a line nothing is missing",
    ),
    Case(Damage.PAYLOAD_FLIPS, "a bit of a file", of_file("b.jsonl", flip), Q | E | T | UNSEEN, 6, ANYTHING),
    Case(Damage.DTYPE, "a text is a number", of_row(set_to(text=3)), Q),
    Case(Damage.DTYPE, "a text is a list", of_row(set_to(text=["a", "b"])), Q),
    Case(Damage.DTYPE, "a text is null", of_row(set_to(text=None)), Q),
    Case(Damage.SHAPE, "a line is a list", of_line(b'["a", "b"]'), Q),
    Case(Damage.SHAPE, "a line is no JSON", of_line(b'{"text": "a",'), Q),
    Case(
        Damage.SHAPE,
        "one array over many lines",
        of_file("b.jsonl", put(json.dumps(rows_of(1), indent=1).encode())),
        Q,
    ),
    Case(
        Damage.NOT_FINITE,
        "a number of the metadata is NaN",
        of_row(set_to(score=float("nan"))),
        UNSEEN,
        why="kept as the text 'NaN'",
    ),
    Case(
        Damage.NOT_FINITE,
        "a number of the metadata is inf",
        of_row(set_to(score=-float("inf"))),
        UNSEEN,
        why="kept as the text '-Infinity'",
    ),
    Case(Damage.STEP, "a line without a text", of_row(lambda row: row.pop("text")), Q),
    Case(
        Damage.EMPTY,
        "a file of 0 bytes",
        of_file("b.jsonl", put(b"")),
        UNSEEN,
        why="a file need not have lines",
    ),
    Case(Damage.EMPTY, "an empty text", of_row(set_to(text="")), Q),
    Case(Damage.EMPTY, "an empty object", of_line(b"{}"), Q),
    Case(Damage.EMPTY, "a blank line", of_line(b""), UNSEEN, why="a blank line is no document"),
    Case(Damage.DUPLICATES, "a document twice", more_rows(rows_of(1)[0]), T),
    Case(Damage.DUPLICATES, "a key twice", of_line(b'{"text": "a", "text": "b"}'), Q),
    Case(
        Damage.DUPLICATES,
        "a file copied",
        lambda folder, rng: (shutil.copy(folder / "b.jsonl", folder / "d.jsonl"), "d.jsonl#*")[1],
        T,
    ),
    Case(Damage.ABSURD, "a document larger than allowed", of_row(set_to(text="x" * (MOST_BYTES + 1))), Q),
    Case(
        Damage.ABSURD,
        "nesting of 10,000 levels",
        of_line(b'{"text": "a", "b": ' + b"[" * 9999 + b"]" * 9999 + b"}"),
        Q,
    ),
    Case(Damage.ABSURD, "a number of 9,000 digits", of_line(b'{"text": "a", "b": ' + b"9" * 9000 + b"}"), Q),
    Case(Damage.CHECKSUM, "the checksum of a file that is packed by gzip", of_file("b.jsonl", pack), Q, 2),
    Case(
        Damage.MIXED,
        "metadata of another type",
        of_row(set_to(n="many")),
        UNSEEN,
        why="the column is JSON then",
    ),
    Case(
        Damage.MIXED,
        "metadata of another name",
        of_row(set_to(other=1)),
        UNSEEN,
        why="documents may have any metadata",
    ),
    Case(Damage.MIXED, "a line of UTF-16", of_line('{"text": "a"}'.encode("utf-16-le")), Q),
    Case(Damage.MIXED, "a lone surrogate", of_line(b'{"text": "\\ud800"}'), Q),
)


def table_of(rows: Rows) -> pa.Table:
    return pa.Table.from_pylist(rows)


def write_table(path: Path, table: pa.Table, **options: Any) -> None:
    parquet.write_table(table, path, row_group_size=4, **options)


def write_tables(folder: Path) -> None:
    for number, name in enumerate(NAMES):
        write_table(folder / f"{name}.parquet", table_of(rows_of(number)))


def of_table(change: Callable[[pa.Table], pa.Table], *, touched: str = "b.parquet#*") -> Spoil:
    """Another table in place of the second file."""

    def spoil(folder: Path, rng: random.Random) -> str:
        write_table(folder / "b.parquet", change(table_of(rows_of(1))))
        return touched

    return spoil


def with_column(name: str, values: Sequence[Any] | pa.Array) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        return table.set_column(table.column_names.index(name), name, [values])

    return change


def with_cell(name: str, value: Any) -> Callable[[pa.Table], pa.Table]:
    """Of the third row."""
    return lambda table: with_column(
        name, [*table[name].to_pylist()[:2], value, *table[name].to_pylist()[3:]]
    )(table)


def footer(path: Path) -> tuple[int, int]:
    size = path.stat().st_size
    return size - 8 - int.from_bytes(path.read_bytes()[-8:-4], "little"), size


def flip_footer(path: Path, rng: random.Random) -> None:
    flip(path, rng, [footer(path)])


def flip_pages(path: Path, rng: random.Random) -> None:
    flip(path, rng, [(4, footer(path)[0])])


def checked_pages(folder: Path, rng: random.Random) -> str:
    """A flip behind the header of a page of texts that has a checksum."""
    path = folder / "b.parquet"
    write_table(
        path,
        table_of(rows_of(1)),
        write_page_checksum=True,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
    )
    text = rows_of(1)[rng.randrange(4)]["text"].encode()
    start = path.read_bytes().index(text)
    flip(path, rng, [(start, start + len(text))])
    return "b.parquet#[0-3]"


def length_of_footer(value: int) -> Callable[[Path, random.Random], object]:
    return lambda path, rng: rewrite(path, lambda data: data[:-8] + value.to_bytes(4, "little") + data[-4:])


TABLES = (
    Case(Damage.TRUNCATION, "a file is cut off", of_file("b.parquet", cut), Q, 3),
    Case(
        Damage.HEADER_FLIPS,
        "a bit of the footer",
        of_file("b.parquet", flip_footer),
        Q | E | T | UNSEEN,
        12,
        "the footer of parquet has no checksum",
    ),
    Case(
        Damage.PAYLOAD_FLIPS,
        "a bit of the pages",
        of_file("b.parquet", flip_pages),
        Q | E | T | UNSEEN,
        8,
        "pages have no checksum unless their writer asks for it",
    ),
    Case(Damage.DTYPE, "texts are numbers", of_table(with_column("text", range(EACH))), Q),
    Case(Damage.DTYPE, "texts are lists", of_table(with_column("text", [["a"]] * EACH)), Q),
    Case(
        Damage.DTYPE, "texts are bytes that are no UTF-8", of_table(with_column("text", [b"\xff"] * EACH)), Q
    ),
    Case(Damage.SHAPE, "a text is null", of_table(with_cell("text", None), touched="b.parquet#2"), Q),
    Case(Damage.SHAPE, "metadata of bytes", of_table(with_column("language", [b"x"] * EACH)), Q),
    Case(
        Damage.NOT_FINITE,
        "a number of the metadata is NaN",
        of_table(with_cell("score", float("nan")), touched="b.parquet#2"),
        UNSEEN,
        why="kept as the text 'NaN'",
    ),
    Case(Damage.STEP, "the column of texts is not there", of_table(lambda t: t.drop_columns(["text"])), Q),
    Case(Damage.EMPTY, "a file of 0 bytes", of_file("b.parquet", put(b"")), Q),
    Case(
        Damage.EMPTY,
        "a table without rows",
        of_table(lambda t: t.slice(0, 0)),
        UNSEEN,
        why="a table need not have rows",
    ),
    Case(Damage.EMPTY, "an empty text", of_table(with_cell("text", ""), touched="b.parquet#2"), Q),
    Case(
        Damage.DUPLICATES,
        "a row twice",
        of_table(lambda t: pa.concat_tables([t, t.slice(0, 1)]), touched="b.parquet#8"),
        T,
    ),
    Case(Damage.DUPLICATES, "a column twice", of_table(lambda t: t.append_column("text", t["text"])), Q),
    Case(
        Damage.ABSURD,
        "a document larger than allowed",
        of_table(with_cell("text", "x" * (MOST_BYTES + 1)), touched="b.parquet#2"),
        Q,
    ),
    Case(Damage.ABSURD, "a footer of 2 GB", of_file("b.parquet", length_of_footer((1 << 31) - 1)), Q),
    Case(Damage.CHECKSUM, "a page with a checksum", checked_pages, Q, 2),
    Case(
        Damage.MIXED,
        "a file without a column of the others",
        of_table(lambda t: t.drop_columns(["score"])),
        UNSEEN,
        why="documents may have any metadata",
    ),
    Case(
        Damage.MIXED,
        "a column of another type",
        of_table(with_column("n", ["x"] * EACH)),
        UNSEEN,
        why="the column is JSON then",
    ),
)

NO_HEADER = {Damage.HEADER_FLIPS: "JSON lines have no header"}
FORMS = (
    Form("text, JSON lines", write_lines, LINES, "text", SETTINGS, NO_CAMERA | NO_HEADER),
    Form("text, parquet", write_tables, TABLES, "text", SETTINGS, NO_CAMERA),
)
