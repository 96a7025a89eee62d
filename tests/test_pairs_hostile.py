"""Sources of pairs that mean harm: what is harmful costs itself alone, not the run, others or the machine."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from foundry_testing.pair_ingests import DATASET, Sample, ingest, picture, some_samples, stored, write_tar
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pyarrow import parquet as pq

import robot_foundry
from robot_foundry.ingest.engine import run
from robot_foundry.ingest.pairs.spec import PairsContent
from robot_foundry.ingest.report import Report
from robot_foundry.ingest.sources.base import SourceFile
from robot_foundry.ingest.sources.pairs.raw import RawPair
from robot_foundry.ingest.sources.pairs.readers.parquet import pairs_of_groups
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.errors import CorruptImage
from robot_foundry.shards.pictures.decode import decode, verify

GOOD = {"image": "p.jpg", "caption": "a"}


def of_table(folder: Path, text: str, *overrides: str, name: str = "t.json") -> Report:
    """An ingest of a table of this text, and a picture p.jpg beside it."""
    source = folder / "source"
    source.mkdir()
    (source / "p.jpg").write_bytes(picture(1))
    (source / name).write_text(text)
    return ingest(source, folder / "store", *overrides)


def reasons(report: Report) -> list[tuple[str, str, int]]:
    return [(entry.unit, entry.reason, entry.count) for entry in report.refused]


def test_an_element_that_is_nested_too_deep_loses_itself_alone(tmp_path: Path) -> None:
    deep = '{"image": "p.jpg", "a": "] } \\" [", "deep": ' + "[" * 20_000 + '"]"' + "]" * 20_000 + "}"
    report = of_table(tmp_path, f'[{json.dumps(GOOD)}, {deep}, {{"image": "p.jpg", "caption": "c"}}]')
    assert reasons(report) == [("t.json#1", "it is nested deeper than 64 levels", 1)]
    assert [pair.id for pair in stored(tmp_path / "store", report)] == ["0", "2"]


def test_a_deep_element_without_an_end_is_told_with_what_follows(tmp_path: Path) -> None:
    report = of_table(tmp_path, f'[{json.dumps(GOOD)}, {{"a": {"[" * 20_000}"]]]')
    [(place, reason, count)] = reasons(report)
    assert (place, count) == ("t.json#1", 1)
    assert reason.startswith("its element 1, at byte") and reason.endswith("what follows is lost")


def test_a_key_twice_among_many_is_found_at_once(tmp_path: Path) -> None:
    """With a count of each key it would take an hour."""
    keys = ", ".join(f'"k{number}": 1' for number in range(60_000))
    line = f'{{"image": "p.jpg", "caption": "b", {keys}, "k59999": 2}}'
    report = of_table(tmp_path, f"{json.dumps(GOOD)}\n{line}\n", name="t.jsonl")
    assert reasons(report) == [("t.jsonl#2", "it has the key 'k59999' twice", 1)]


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"caption": "b", "\ud800_caption": "c"}, "its '\\ud800_caption' holds a lone surrogate"),
        ({"\ud800_caption": ""}, "its '\\ud800_caption' holds a lone surrogate"),
        ({"images": ["p.jpg"] * 100_000, "caption": "b"}, "it has more than 16 pictures"),
    ],
)
def test_one_object_is_quarantined_alone(told: dict[str, object], reason: str, tmp_path: Path) -> None:
    report = of_table(
        tmp_path, json.dumps([GOOD, {"image": "p.jpg", **told}] if "images" not in told else [GOOD, told])
    )
    assert reasons(report) == [("t.json#1", reason, 1)]
    assert report.written == 1


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("q" * 1_000_000, "t.json#1 (" + "q" * 197 + "…"),
        ("\x1b[2J\n\ud800.jpg", "t.json#1 (\\x1b[2J\\n\\ud800.jpg)"),
    ],
)
def test_names_of_a_source_are_told_short_and_printable(name: str, place: str, tmp_path: Path) -> None:
    report = of_table(tmp_path, json.dumps([GOOD, {"image": name, "caption": "b"}]))
    assert [entry.unit for entry in report.refused] == [place]


def test_where_no_captions_are_asked_for_the_reason_says_so(tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    text = json.dumps([GOOD, {"image": "p.jpg", "conversations": talk}])
    report = of_table(tmp_path, text, "content.captions=none")
    reason = "it has no conversation, and captions are not asked for (keys: caption)"
    assert reasons(report) == [("t.json#0", reason, 1)]


def compressed(samples: list[Sample], path: Path) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in ((name, data) for sample in samples for name, data in sample.members.items()):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("write", [compressed, lambda samples, path: write_tar(path, [*samples, samples[0]])])
def test_pairs_of_a_tar_that_cannot_be_adopted_leave_no_others_out(
    write: Callable[[list[Sample], Path], object], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    write_tar(source / "b.tar", some_samples(3))
    write(some_samples(3), source / "a.tar.gz" if write is compressed else source / "a.tar")
    report = ingest(source, tmp_path / "store", "content.adopt=true")
    assert (report.written, report.counts["duplicates"], report.num_refused) == (3, 0, 1)
    assert {pair.file for pair in stored(tmp_path / "store", report)} == {"b.tar"}


def test_members_that_no_pair_takes_are_counted_and_told(tmp_path: Path) -> None:
    for number, folder in enumerate(("a", "b")):
        samples = [
            Sample(f"{10 * number + n}", {"jpg": picture(n)}, "said" if n else None, {"caption": f"{number}"})
            for n in range(3)
        ]
        others = {"0.cls": b"7", "1.cls": b"8", "2.seg.NPY": b"9"} if folder == "a" else {"10.cls": b"0"}
        write_with(tmp_path / "source" / f"{folder}.tar", samples, others)
    lines = ["passed over members beside pictures and texts that no pair takes: 3 .cls, 1 .seg.npy"]
    made = ingest(tmp_path / "source", tmp_path / "store")
    assert (list(made.warnings), made.written, made.num_refused) == (lines, 6, 0)
    again = ingest(tmp_path / "source", tmp_path / "store")
    assert (again.noop, list(again.warnings)) == (True, lines)
    source, other = str(tmp_path / "source"), str(tmp_path / "other")
    dry = run(load_spec("pairs"), source, store=other, name=DATASET, dry_run=True)
    assert (
        "passed over members beside pictures and texts that no pair takes: 2 .cls, 1 .seg.npy" in dry.warnings
    )


def test_endings_that_all_differ_are_told_together(tmp_path: Path) -> None:
    samples = [Sample(f"{n}", {"jpg": picture(n)}, "said") for n in range(30)]
    write_with(tmp_path / "a.tar", samples, {f"{n}.e{n}": b"" for n in range(30)})
    report = ingest(tmp_path / "a.tar", tmp_path / "store")
    [line] = report.warnings
    assert "10 .(others), 1 .e0" in line and line.endswith(", …")


def write_with(path: Path, samples: list[Sample], others: dict[str, bytes]) -> None:
    """The samples with other members, by name, each behind those of its sample."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for sample in samples:
            theirs = {name: data for name, data in others.items() if name.split(".")[0] == sample.name}
            for name, data in {**sample.members, **theirs}.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes, pixels: bytes | None = None) -> bytes:
    """Black, with more chunks behind the header, and these compressed pixels or the right ones."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = zlib.compress(bytes((3 * width + 1) * height)) if pixels is None else pixels
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def compressed_zeros(size: int) -> bytes:
    return b"a\0\0" + zlib.compress(bytes(size))


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_texts_and_profiles_of_any_size_harm_no_picture(kind: bytes) -> None:
    data = png(8, 9, chunk(kind, compressed_zeros(80_000_000)))
    assert (verify(data).height, decode(data).shape) == (9, (9, 8, 3))


def test_a_second_header_is_damage_and_allocates_nothing() -> None:
    second = png(9000, 9000, pixels=b"")[8:33]
    tracemalloc.start()
    try:
        with pytest.raises(CorruptImage, match="2 headers"):
            verify(png(8, 8, second))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_pixels_of_a_png_with_all_sorts_of_chunks_are_those_of_pillow() -> None:
    """Gray of 16 bits with a clear level, a palette with alpha, gamma, texts, and frames behind the first."""
    for mode, options in (
        ("P", {"transparency": 3}),
        ("RGB", {"transparency": (1, 2, 3)}),
        ("L", {"transparency": 7}),
    ):
        with Image.open(io.BytesIO(picture(3, name="PNG"))) as image:
            made, told, sink = image.convert(mode), PngInfo(), io.BytesIO()
        told.add_text("made", "x" * 5000, zip=True)
        told.add(b"gAMA", struct.pack(">I", 45455))
        made.save(sink, "PNG", pnginfo=told, **options)
        with Image.open(io.BytesIO(sink.getvalue())) as image:
            layer = image.convert("RGBA")
            white = Image.new("RGBA", layer.size, "white")
            expected_HWC = np.asarray(Image.alpha_composite(white, layer).convert("RGB"))
        np.testing.assert_array_equal(decode(sink.getvalue()), expected_HWC)


def test_keys_of_a_file_that_is_no_source_are_told_printable(tmp_path: Path) -> None:
    write_tar(tmp_path / "source" / "a.tar", some_samples(2))
    (tmp_path / "source" / "c.json").write_text('{"\\ud800\\u001b[2J": 1}')
    report = ingest(tmp_path / "source", tmp_path / "store")
    [(place, reason, _)] = reasons(report)
    assert (place, report.written) == ("c.json", 2) and "(keys: \\ud800\\x1b[2J)" in reason


@pytest.mark.parametrize("form", ["bytes", "struct", "list"])
def test_a_picture_that_a_table_has_once_for_all_rows_is_held_once(form: str, tmp_path: Path) -> None:
    """A file of 100 kB has 400 rows with a picture of a megabyte each."""
    data = picture(1) + bytes(1 << 20)
    picture_n = pa.DictionaryArray.from_arrays(pa.array([0] * 400, pa.int32()), pa.array([data]))
    if form != "bytes":
        picture_n = pa.StructArray.from_arrays([picture_n, pa.nulls(400, pa.string())], ["bytes", "path"])
    if form == "list":
        picture_n = pa.ListArray.from_arrays(pa.array(range(401), pa.int32()), picture_n)
    table = pa.table({"image": picture_n, "caption": [f"c{number}" for number in range(400)]})
    pq.write_table(table, tmp_path / "a.parquet", dictionary_pagesize_limit=1 << 30, compression="zstd")
    file = SourceFile(str(tmp_path), "a.parquet", 0, "", "")
    before, most, found = pa.total_allocated_bytes(), 0, 0
    for pair in pairs_of_groups(file, "row_groups_0_to_1", PairsContent()):
        assert isinstance(pair, RawPair) and len(pair.pictures[0].data or b"") == len(data)
        most, found = max(most, pa.total_allocated_bytes() - before), found + 1
    assert found == 400 and most < 32 << 20


def segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


def scanned_again(side: int, scans: int) -> bytes:
    """A gray JPEG of zeros in which so many scans follow the first, of one bit in all blocks each."""
    num_blocks = (side // 8) ** 2
    runs, left = divmod(num_blocks, 32767)  # of blocks that hold nothing, the longest that there is
    bits = ("0" + "1" * 14) * runs + "10" * left
    bits += "1" * (-len(bits) % 8)
    coded = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0")
    sizes, tables = struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0", [b"\0", b"\x10"]
    parts = [b"\xff\xd8", segment(0xDB, b"\0" + b"\1" * 64), segment(0xC2, sizes)]
    parts.append(segment(0xC4, tables[0] + bytes([1] + [0] * 15) + b"\0"))
    parts.append(segment(0xC4, tables[1] + bytes([1, 1] + [0] * 14) + b"\xe0\0"))
    parts.append(segment(0xDA, b"\1\1\0\0\0\0") + bytes(num_blocks // 8))
    for number in range(scans):
        at, low = 1 + number % 63, 13 - number // 63
        high = low + 1 if low < 13 else 0
        parts.append(segment(0xDA, bytes((1, 1, 0, at, at, high << 4 | low))) + coded)
    return b"".join([*parts, b"\xff\xd9"])


def test_a_jpeg_that_would_take_minutes_is_quarantined_at_once(tmp_path: Path) -> None:
    """Of 882 scans over 64 Mi pixels: without the check this decodes for minutes."""
    bomb, small = scanned_again(8192, 882), scanned_again(64, 882)
    assert len(bomb) < 300_000 and decode(small).shape == (64, 64, 3)
    samples = [Sample("a", {"jpg": bomb}, "said"), Sample("b", {"jpg": small}, "said")]
    for verified in ("decode", "header"):
        source = write_tar(tmp_path / "a.tar", samples)
        report = ingest(source, tmp_path / verified, f"content.verify={verified}")
        reason = "its picture is a JPEG of so many scans that decoding it takes minutes"
        assert reasons(report) == [("a.tar#a", reason, 1)]
        assert report.written == 1


@pytest.mark.parametrize(
    "told", ['{"bytes": 1, "url": "a\\u0000/b.tar"}', "[]", '{"bytes": 1, "url": 5}', "[" * 9999]
)
def test_a_place_that_is_none_is_told(told: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", some_samples(2))
    ingest(tmp_path / "a.tar", tmp_path / "store", "content.adopt=true")
    [place] = (tmp_path / "store" / "shards" / DATASET).glob("*.place.json")
    place.write_text(told)
    with pytest.raises(FoundryError, match="does not say where a tar lies") as error:
        robot_foundry.open(DATASET, store=str(tmp_path / "store"))[0]
    assert "ingest that adopted it again" in (error.value.hint or "")
