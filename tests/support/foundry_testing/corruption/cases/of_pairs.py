"""Damage to pairs of pictures and texts: tars of WebDataset, and parquet as Hugging Face has it."""

from __future__ import annotations

import io
import json
import random
import shutil
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from foundry_testing.corruption.bytes_damaged import cut, flip, rewrite, within
from foundry_testing.corruption.cases.of_text import flip_footer, footer, length_of_footer, put
from foundry_testing.corruption.declared import Case, Damage, Form, Outcome, Spoil
from foundry_testing.pair_ingests import picture
from foundry_testing.text_sources import tar_of

EACH, NAMES, BLOCK = 4, ("a", "b", "c"), 512
Q, E, T, UNSEEN, FOUND = Outcome.QUARANTINED, Outcome.EQUAL, Outcome.TOLD, Outcome.UNSEEN, Outcome.FOUND
Members = list[tuple[str, bytes]]
FREE = "a text may be any, and nothing tells what it was"
JPEG_FREE = "JPEG has no checksum: what still decodes is a picture"


def key_of(number: int, pair: int) -> str:
    return f"{EACH * number + pair:05d}"


def picture_of(number: int, pair: int) -> bytes:
    """A JPEG, or of every second pair a PNG, which has checksums."""
    return picture(EACH * number + pair, name="PNG" if pair % 2 else "JPEG")


def said(number: int, pair: int) -> dict[str, Any]:
    return {"caption": f"thing {EACH * number + pair}", "score": pair / 8, "language": ("en", "de")[pair % 2]}


def members_of(number: int) -> Members:
    made: Members = []
    for pair in range(EACH):
        key = key_of(number, pair)
        made.append((f"{key}.{'png' if pair % 2 else 'jpg'}", picture_of(number, pair)))
        made.append((f"{key}.json", json.dumps(said(number, pair)).encode()))
    return made


def write_tars(folder: Path) -> None:
    for number, name in enumerate(NAMES):
        (folder / f"{name}.tar").write_bytes(tar_of(members_of(number)))


def of_file(name: str, damage: Callable[[Path, random.Random], object]) -> Spoil:
    """Damage to a file, which may cost all of it."""
    return lambda folder, rng: (damage(folder / name, rng), f"{name}#*")[1]


def unit(pair: int) -> str:
    return f"b.tar#{key_of(1, pair)}"


def of_members(change: Callable[[Members], Sequence[tuple[str, bytes]] | None], pair: int = 2) -> Spoil:
    """Other members of the second tar; one pair may change by it."""

    def spoil(folder: Path, rng: random.Random) -> str:
        members = members_of(1)
        (folder / "b.tar").write_bytes(tar_of(change(members) or members))
        return unit(pair)

    return spoil


def with_picture(data: bytes, pair: int = 2) -> Spoil:
    """Other bytes in place of the picture of a pair."""
    return of_members(lambda members: members.__setitem__(2 * pair, (members[2 * pair][0], data)), pair)


def with_record(record: bytes | Mapping[str, Any], pair: int = 2) -> Spoil:
    data = record if isinstance(record, bytes) else json.dumps(record).encode()
    return of_members(
        lambda members: members.__setitem__(2 * pair + 1, (members[2 * pair + 1][0], data)), pair
    )


def changed(**values: Any) -> Spoil:
    return with_record({**said(1, 2), **values})


def flip_picture(pair: int) -> Spoil:
    def spoil(folder: Path, rng: random.Random) -> str:
        flip(folder / "b.tar", rng, [within(folder / "b.tar", picture_of(1, pair))])
        return unit(pair)

    return spoil


def flip_text(folder: Path, rng: random.Random) -> str:
    flip(folder / "b.tar", rng, [within(folder / "b.tar", json.dumps(said(1, 2)).encode())])
    return unit(2)


def heads(path: Path) -> list[int]:
    """Where the headers of members begin."""
    data, found, place = path.read_bytes(), [], 0
    while data[place : place + BLOCK].strip(b"\0"):
        found.append(place)
        size = int(data[place + 124 : place + 135], 8)
        place += BLOCK + -(-size // BLOCK) * BLOCK
    return found


def flip_head(path: Path, rng: random.Random) -> None:
    flip(path, rng, [(head, head + 265) for head in heads(path)])


def flip_tar_checksum(path: Path, rng: random.Random) -> None:
    head = rng.choice(heads(path))
    flip(path, rng, [(head + 148, head + 154)])


def sized(value: bytes) -> Callable[[Path, random.Random], None]:
    """A size in the header of the third member, with a right checksum."""

    def damage(path: Path, rng: random.Random) -> None:
        data, head = bytearray(path.read_bytes()), heads(path)[2]
        data[head + 124 : head + 136] = value.ljust(12, b"\0")
        data[head + 148 : head + 156] = b" " * 8
        data[head + 148 : head + 156] = b"%06o\0 " % sum(data[head : head + BLOCK])
        path.write_bytes(data)

    return damage


def png(width: int, height: int) -> bytes:
    """A header that says so, with a right checksum, and few pixels behind it."""
    sink = io.BytesIO()
    Image.new("RGB", (4, 4)).save(sink, "PNG")
    data = sink.getvalue()
    head = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]


def gif() -> bytes:
    sink = io.BytesIO()
    Image.new("P", (4, 4)).save(sink, "GIF")
    return sink.getvalue()


def flip_png_checksum(folder: Path, rng: random.Random) -> str:
    """The checksum of the pixels, before the chunk of 12 bytes that ends a PNG."""
    _, end = within(folder / "b.tar", picture_of(1, 1))
    flip(folder / "b.tar", rng, [(end - 16, end - 12)])
    return unit(1)


TALK = [{"from": "human", "value": "<image> and <image>?"}, {"from": "gpt", "value": "yes"}]

TARS = (
    Case(Damage.TRUNCATION, "a tar is cut off", of_file("b.tar", cut), Q | E, 3),
    Case(Damage.TRUNCATION, "a picture is cut off", with_picture(picture_of(1, 2)[:-40]), Q),
    Case(Damage.HEADER_FLIPS, "a bit of a header of the tar", of_file("b.tar", flip_head), Q | T, 6),
    Case(
        Damage.PAYLOAD_FLIPS,
        "a bit of a PNG",
        flip_picture(1),
        Q | E | UNSEEN,
        4,
        "what decodes to the same pixels is the same picture",
    ),
    Case(Damage.PAYLOAD_FLIPS, "a bit of a JPEG", flip_picture(2), Q | E | UNSEEN, 6, JPEG_FREE),
    Case(Damage.PAYLOAD_FLIPS, "a bit of a text", flip_text, Q | UNSEEN, 4, FREE),
    Case(Damage.DTYPE, "a picture is a GIF", with_picture(gif()), Q),
    Case(Damage.DTYPE, "a picture is a web page", with_picture(b"<html>404</html>"), Q),
    Case(Damage.DTYPE, "a caption is a number", changed(caption=3), Q),
    Case(Damage.DTYPE, "a caption is no UTF-8", with_record(b'{"caption": "\xff"}'), Q),
    Case(Damage.SHAPE, "a PNG of fewer pixels than it says", with_picture(png(64, 64)), Q),
    Case(Damage.SHAPE, "two places for one picture", with_record({"conversations": TALK}), Q),
    Case(
        Damage.NOT_FINITE,
        "a number of the metadata is NaN",
        changed(score=float("nan")),
        UNSEEN,
        why="kept as the text 'NaN'",
    ),
    Case(Damage.CAMERA, "a pair without its picture", of_members(lambda members: members.pop(4) and None), Q),
    Case(Damage.STEP, "a pair without its text", of_members(lambda members: members.pop(5) and None), Q),
    Case(Damage.STEP, "a record without a caption", with_record({"score": 0.5}), Q),
    Case(Damage.EMPTY, "a tar of 0 bytes", of_file("b.tar", put(b"")), Q),
    Case(Damage.EMPTY, "a picture of 0 bytes", with_picture(b""), Q),
    Case(Damage.EMPTY, "a blank caption", with_record({"caption": "  "}), Q),
    Case(
        Damage.EMPTY,
        "a tar without members",
        of_file("b.tar", put(bytes(10240))),
        UNSEEN,
        why="a tar need not have members",
    ),
    Case(Damage.DUPLICATES, "a member twice", of_members(lambda members: [*members[:5], *members[4:]]), Q),
    Case(
        Damage.DUPLICATES,
        "a sample again behind others",
        of_members(lambda members: [*members, *members[:2]]),
        Q,
    ),
    Case(
        Damage.DUPLICATES,
        "a tar copied",
        lambda folder, rng: (shutil.copy(folder / "b.tar", folder / "d.tar"), "d.tar#*")[1],
        T,
    ),
    Case(Damage.ABSURD, "a member of 8 GB", of_file("b.tar", sized(b"77777777777")), Q),
    Case(Damage.ABSURD, "a member of 2^70 bytes", of_file("b.tar", sized(b"\x80\0\0" + b"\xff" * 9)), Q),
    Case(Damage.ABSURD, "a picture of 60,000 x 60,000", with_picture(png(60_000, 60_000)), Q),
    Case(Damage.ABSURD, "a picture of 2^31 x 2^31", with_picture(png((1 << 31) - 1, (1 << 31) - 1)), Q),
    Case(
        Damage.CHECKSUM, "the checksum of a header of the tar", of_file("b.tar", flip_tar_checksum), Q | T, 2
    ),
    Case(Damage.CHECKSUM, "the checksum of a PNG", flip_png_checksum, Q, 2),
    Case(
        Damage.MIXED, "metadata of another type", changed(score="high"), UNSEEN, why="the column is JSON then"
    ),
    Case(
        Damage.MIXED,
        "a conversation without an answer",
        with_record({"conversations": TALK[:1], "caption": "a"}),
        Q,
    ),
    Case(
        Damage.MIXED,
        "an array beside a pair",
        of_members(lambda m: [*m[:6], (f"{key_of(1, 2)}.npy", b"x"), *m[6:]]),
        T,
    ),
)


def rows_of(number: int) -> list[dict[str, Any]]:
    return [
        {"image": {"bytes": picture_of(number, pair), "path": None}, **said(number, pair)}
        for pair in range(EACH)
    ]


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], **options: Any) -> None:
    parquet.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=2, **options)


def write_tables(folder: Path) -> None:
    for number, name in enumerate(NAMES):
        write_table(folder / f"{name}.parquet", rows_of(number))


def of_rows(change: Callable[[list[dict[str, Any]]], object], touched: str = "b.parquet#*") -> Spoil:
    """Other rows in the second file."""

    def spoil(folder: Path, rng: random.Random) -> str:
        rows = rows_of(1)
        change(rows)
        write_table(folder / "b.parquet", rows)
        return touched

    return spoil


def cell(pair: int = 2, **values: Any) -> Spoil:
    """Other values in a row."""
    return of_rows(lambda rows: rows[pair].update(values), f"b.parquet#{pair}")


def column(name: str, value: Any) -> Spoil:
    return of_rows(lambda rows: [row.update({name: value}) for row in rows])


def image(data: bytes) -> dict[str, Any]:
    return {"bytes": data, "path": None}


def flip_pages(path: Path, rng: random.Random) -> None:
    flip(path, rng, [(4, footer(path)[0])])


def flip_checked_page(folder: Path, rng: random.Random) -> str:
    path = folder / "b.parquet"
    write_table(
        path,
        rows_of(1),
        write_page_checksum=True,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
    )
    flip(path, rng, [within(path, picture_of(1, 2))])
    return "b.parquet#[23]"


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
        "pages have no checksum unless their writer asks for it, JPEG has none",
    ),
    Case(Damage.DTYPE, "pictures are numbers", column("image", 3), Q),
    Case(Damage.DTYPE, "captions are numbers", column("caption", 3), Q),
    Case(Damage.DTYPE, "a picture is a GIF", cell(image=image(gif())), Q),
    Case(Damage.SHAPE, "a PNG of fewer pixels than it says", cell(image=image(png(64, 64))), Q),
    Case(
        Damage.NOT_FINITE,
        "a number of the metadata is NaN",
        cell(score=float("nan")),
        UNSEEN,
        why="kept as the text 'NaN'",
    ),
    Case(Damage.CAMERA, "a picture is null", cell(image=None), Q),
    Case(
        Damage.CAMERA, "pictures are not there", of_rows(lambda rows: [row.pop("image") for row in rows]), Q
    ),
    Case(Damage.STEP, "a caption is null", cell(caption=None), Q),
    Case(Damage.EMPTY, "a file of 0 bytes", of_file("b.parquet", put(b"")), Q),
    Case(Damage.EMPTY, "a picture of 0 bytes", cell(image=image(b"")), Q),
    Case(Damage.EMPTY, "a blank caption", cell(caption=" "), Q),
    Case(Damage.DUPLICATES, "a row twice", of_rows(lambda rows: rows.append(rows[0]), "b.parquet#4"), T),
    Case(Damage.ABSURD, "a footer of 2 GB", of_file("b.parquet", length_of_footer((1 << 31) - 1)), Q),
    Case(Damage.ABSURD, "a picture of 60,000 x 60,000", cell(image=image(png(60_000, 60_000))), Q),
    Case(Damage.CHECKSUM, "a page with a checksum", flip_checked_page, Q, 2),
    Case(
        Damage.CHECKSUM,
        "the marks at the end",
        of_file("b.parquet", lambda path, rng: rewrite(path, lambda data: data[:-4] + b"PAR2")),
        Q,
    ),
    Case(
        Damage.MIXED,
        "a file without a column of the others",
        of_rows(lambda rows: [row.pop("score") for row in rows]),
        UNSEEN,
        why="pairs may have any metadata",
    ),
    Case(
        Damage.MIXED,
        "a column of another type",
        column("score", "high"),
        UNSEEN,
        why="the column is JSON then",
    ),
)

FORMS = (Form("pairs, tar", write_tars, TARS, "pairs"), Form("pairs, parquet", write_tables, TABLES, "pairs"))
