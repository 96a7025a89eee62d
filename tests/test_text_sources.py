"""What the layout `text` reads of JSON lines and of plain files, and what becomes of every oddity in them."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from foundry_testing.text_sources import CONTENT, found_in, reasons_of, texts_of, units_of
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.ingest.sources import Refused
from robot_foundry.ingest.sources.formats.byte_ranges import ranges
from robot_foundry.ingest.sources.formats.streams import GZIP, ZSTD, decompressed, lines
from robot_foundry.ingest.sources.text.text import Text
from robot_foundry.ingest.sources.unusable import Broken, Unusable
from robot_foundry.shards.text.blocks import Document

BOM = b"\xef\xbb\xbf"
SKIPPED = 11  # bytes of a frame of zstd that holds nothing
THREE = b'{"text": "one"}\n{"text": "two"}\n{"text": "three"}\n'


def file_of(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def framed(*parts: bytes) -> bytes:
    """Frames of zstd with checksums, and one to skip before each."""
    skipped = b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    compress = zstandard.ZstdCompressor(write_checksum=True).compress
    return b"".join(skipped + compress(part) for part in parts)


def zipped(*parts: bytes) -> bytes:
    """Members of gzip."""
    return b"".join(gzip.compress(part, mtime=0) for part in parts)


PACKED = {"jsonl": lambda *parts: b"".join(parts), "jsonl.gz": zipped, "jsonl.zst": framed}


@settings(deadline=None)
@given(
    data=st.lists(st.sampled_from([b"\n", b"a", b"bcd", b"\r\n", b"x" * 30]), max_size=60).map(b"".join),
    target=st.integers(1, 50),
)
def test_ranges_are_whole_lines_and_the_whole_file(tmp_path_factory, data, target):
    path = file_of(tmp_path_factory.mktemp("ranges"), "a.jsonl", data)
    found = ranges(path, target)
    assert b"".join(data[part.start : part.end] for part in found) == data
    for part in found:
        assert part.line == data.count(b"\n", 0, part.start) + 1
        assert data[part.end - 1 : part.end] == b"\n" or part.end == len(data)
        assert b"\n" not in data[part.start + target - 1 : part.end - 1]
        assert type(part).of_id(part.id) == part


@given(
    data=st.lists(st.sampled_from([b"\n", b"a", b"bc" * 4, b"\r\n"]), max_size=40).map(b"".join),
    block=st.integers(1, 12),
    limit=st.integers(0, 20),
)
def test_lines_are_those_of_split_whatever_the_blocks(data, block, limit):
    expected = data.split(b"\n")
    expected = expected if expected[-1] else expected[:-1]
    blocks = [data[start : start + block] for start in range(0, len(data), block)]
    assert list(lines(blocks, limit)) == [line if len(line) <= limit else None for line in expected]


@pytest.mark.parametrize("name", PACKED)
def test_members_and_frames_are_one_stream(tmp_path, name):
    path = file_of(tmp_path, f"a.{name}", PACKED[name](THREE[:5], b"", THREE[5:40], THREE[40:]))
    assert texts_of(found_in(path)) == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": null}', "its 'text' is null"),
        (b'{"text": 5}', "its 'text' is a number, expected text"),
        (b'{"text": true}', "its 'text' is true or false, expected text"),
        (b'{"text": NaN}', "its 'text' is a number, expected text"),
        (b'{"text": ["a"]}', "its 'text' is a list, expected text"),
        (b'{"text": {}}', "its 'text' is an object, expected text"),
        (b'{"text": ""}', "its 'text' is empty"),
        (b'{"texts": "a"}', "it has no 'text', did you mean 'texts'?"),
        (b"{}", "it has no 'text'"),
        (b'["a"]', "it is a list, expected an object"),
        (b"null", "it is null, expected an object"),
        (b'"a"', "it is a text, expected an object"),
        (b'{"text": "a"', "it is not JSON: Expecting ',' delimiter"),
        (b'{"text": "a"} {}', "it is not JSON: Extra data"),
        (b'{"text": "a\x00"}', "it is not JSON: Invalid control character at"),
        (b'{"text": "\xff"}', "it is not UTF-8"),
        (b'{"text": "\xed\xa0\x80"}', "it is not UTF-8"),
        (b'{"text": "\\ud800"}', "its 'text' holds a lone surrogate"),
        (b'{"text": "a", "m": {"\\ud800": 1}}', "its 'm' holds a lone surrogate"),
        (b'{"text": "a", "\\udfff": 1}', "its '\\udfff' holds a lone surrogate"),
        (b'{"text": "a", "text": "b"}', "it has the key 'text' twice"),
        (b'{"text": "a", "m": [{"n": 1, "n": 1}]}', "it has the key 'n' twice"),
        (b'{"text": "a", "m": ' + b"[" * 64 + b"]" * 64 + b"}", "it is nested deeper than 64 levels"),
        (b"[" * 200_000, "it is nested deeper than 64 levels"),
        (b'{"text": "a", "m": ' + b"9" * 5000 + b"}", "it holds a number of too many digits"),
        (b'{"text": "' + b"a" * 200 + b'"}', "it has more than 150 bytes"),
    ],
)
def test_a_line_that_is_no_document_is_told_and_costs_no_other(tmp_path, line, reason):
    """Each alone: between two that are documents."""
    content = replace(CONTENT, max_document_bytes=150 if b"a" * 200 in line else 1 << 20)
    data = b'{"text": "before"}\n\n' + line + b'\n{"text": "after"}'
    for name, pack in PACKED.items():
        found = found_in(file_of(tmp_path, f"a.{name}", pack(data)), content)
        assert texts_of(found) == ["before", "after"]
        ((place, told),) = reasons_of(found)
        assert place == "3" and told.startswith(reason)


def test_what_is_a_document_all_the_same(tmp_path):
    deep: object = 1
    for _ in range(62):
        deep = [deep]
    odd = [
        (b'{"text": "\\u0000"}', "\0", {}),
        (b'{"text": "\\ud83d\\ude00"}\r', "\U0001f600", {}),
        (b'  {"text": " \\n "}  ', " \n ", {}),
        (BOM + b'{"text": "\\ufeffa"}', "\ufeffa", {}),
        (b'{"text": "a\xe2\x80\xa8b"}', "a\u2028b", {}),
        (b'{"text": "a", "n": NaN, "i": [Infinity, -Infinity, 1e999]}', "a", {"n": "NaN"}),
        (b'{"text": "a", "n": 123456789012345678901234567890}', "a", {"n": 123456789012345678901234567890}),
        (b'{"text": "a", "m": ' + json.dumps(deep).encode() + b"}", "a", {"m": deep}),
        (b'{"text": "a", "url": null, "id": "x"}', "a", {"url": None, "id": "x"}),
    ]
    data = BOM + b"\n".join(line for line, _, _ in odd)
    found = found_in(file_of(tmp_path, "a.jsonl", data))
    assert not reasons_of(found)
    for document, (_, text, metadata) in zip(found, odd, strict=True):
        assert document.text == text and metadata.items() <= document.metadata.items()
    assert found[5].metadata["i"] == ["Infinity", "-Infinity", "Infinity"]


def test_blank_lines_are_none_and_keep_their_numbers(tmp_path):
    found = found_in(file_of(tmp_path, "a.ndjson", b'\n \t\r\n{"text": "x"}\n\n\n{"text": "y"}\n\n'))
    assert [(document.id, document.text) for document in found] == [("3", "x"), ("6", "y")]


@pytest.mark.parametrize(
    ("metadata", "kept"), [(None, {"a": 1, "b": 2}), ((), {}), (("b", "absent"), {"b": 2})]
)
def test_metadata_is_what_the_spec_names(tmp_path, metadata, kept):
    path = file_of(tmp_path, "a.json", b'{"a": 1, "content": "x", "b": 2}')
    (found,) = found_in(path, replace(CONTENT, key="content", metadata=metadata))
    assert found == Document("1", "x", kept)


def test_a_line_of_50_mb_is_a_document(tmp_path):
    text = "words " * (50_000_000 // 6)
    data = json.dumps({"text": text}).encode() + b"\n" + THREE
    assert texts_of(found_in(file_of(tmp_path, "a.jsonl", data))) == [text, "one", "two", "three"]


def test_a_line_that_is_too_long_takes_no_memory(tmp_path):
    compressor = zstandard.ZstdCompressor().compressobj()
    parts = (b'{"text": "', *[bytes(10_000_000).replace(b"\0", b"a")] * 20, b'"}\n', THREE)
    data = b"".join(map(compressor.compress, parts)) + compressor.flush()
    path, content = file_of(tmp_path, "a.jsonl.zst", data), replace(CONTENT, max_document_bytes=1 << 20)
    tracemalloc.start()
    found = found_in(path, content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert texts_of(found) == ["one", "two", "three"]
    assert [place for place, _ in reasons_of(found)] == ["1"]
    assert peak < 60_000_000 < 200_000_000 < sum(map(len, parts))


@pytest.mark.parametrize("pack", [zipped, framed])
def test_of_a_file_that_is_cut_off_the_whole_lines_stay(tmp_path, pack):
    first = len(pack(THREE[:16]))
    whole, nothing_lacks = pack(THREE[:16], THREE[16:]), {first}
    if pack is framed:
        nothing_lacks |= {SKIPPED, first + SKIPPED}
    numbers, name = set(), "a.jsonl.gz" if pack is zipped else "a.jsonl.zst"
    for size in range(4, len(whole)):  # less does not tell that it is compressed
        found = found_in(file_of(tmp_path, name, whole[:size]))
        texts = texts_of(found)
        numbers.add(len(texts))
        assert texts == ["one", "two", "three"][: len(texts)]
        if size in nothing_lacks:
            assert not reasons_of(found)
        else:
            (lost,) = (each for each in found if isinstance(each, Unusable))
            assert found[-1] == lost and lost.id == str(len(texts) + 1)
            assert lost.reason.startswith("the file is cut off")
    assert numbers >= {0, 1}


@settings(deadline=None, max_examples=300)
@given(place=st.integers(0, 10_000), bit=st.integers(0, 7), is_gzip=st.booleans())
def test_damage_is_told(place, bit, is_gzip):
    """Whatever bit is turned: nothing but what was compressed is given, or the stream ends with an error."""
    parts = (THREE * 3, THREE * 2)
    data = bytearray((zipped if is_gzip else framed)(*parts))
    data[place % len(data)] ^= 1 << bit
    expected, given = b"".join(parts), b""
    try:
        for block in decompressed([bytes(data)], GZIP if is_gzip else ZSTD):
            given += block
    except Broken as error:
        # A mark that is turned may hide the end of a part, or have it end before its checksum.
        assert "cut off" in str(error) or expected.startswith(given)
    except Refused as error:
        assert "compression is damaged" in error.message
    else:
        assert given in (expected, *parts)  # a frame that is marked to be skipped is skipped


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (zipped(THREE) + b"\0" * 100, None),
        (zipped(THREE) + b"more", "behind its gzip compression are other bytes"),
        (framed(THREE) + b"more", "behind its zstd compression are other bytes"),
    ],
)
def test_bytes_behind_a_compression_are_told(tmp_path, data, reason):
    found = found_in(file_of(tmp_path, "a.jsonl.gz", data))
    assert texts_of(found) == ["one", "two", "three"]
    assert [told.startswith(str(reason)) for _, told in reasons_of(found)] == [True] * bool(reason)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a\r\nb\0\xc3\xa9 \n", "a\r\nb\0\u00e9 \n"),
        (BOM + b"a", "a"),
        (b" \n", " \n"),
        (b"{}", "{}"),
        (b"", "it is empty"),
        (BOM, "it is empty"),
        (b"ab\xffc", "it is no UTF-8, and text is read as UTF-8"),
        ("a".encode("utf-16"), "it is UTF-16, and text is read as UTF-8"),
        (b"a" * 101, "it has more than 100 bytes, which content.max_document_bytes allows"),
    ],
)
@pytest.mark.parametrize("ending", ["txt", "md", "rst", "rst.txt", "txt.gz", "md.zst", "TXT"])
def test_a_text_file_is_a_document(tmp_path, data, expected, ending):
    packed = {"gz": zipped, "zst": framed}.get(ending[-3:].strip("."), bytes)(data)
    (found,) = found_in(file_of(tmp_path, f"a.{ending}", packed), replace(CONTENT, max_document_bytes=100))
    assert found.id == f"a.{ending}"
    assert (found.text if isinstance(found, Document) else found.reason) == expected


def test_a_text_file_that_is_cut_off_is_none(tmp_path):
    (found,) = found_in(file_of(tmp_path, "a.txt.gz", zipped(b"some words")[:-9]))
    assert reasons_of([found]) == [("a.txt.gz", "the file is cut off: its gzip compression has no end")]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "the file is a Git LFS pointer"),
        ("a.json", b'[\n {"text": "a"}\n]\n', "it is one JSON value over many lines"),
        ("a.json", BOM + b'\n{\n "text": "a"\n}\n', "it is one JSON value over many lines"),
        ("a.jsonl", THREE.decode().encode("utf-16"), "it is UTF-16"),
        ("a.parquet", THREE, "it is no whole parquet file"),
    ],
)
def test_a_file_that_is_another_thing_is_refused_as_a_whole(tmp_path, name, data, reason):
    with pytest.raises(Refused, match=reason):
        units_of(file_of(tmp_path, name, data))


@pytest.mark.parametrize("name", ["a", "a.dat", "a.gz", "a.jsonl.gz", "a.jsonl"])
@pytest.mark.parametrize("pack", [bytes, zipped, framed])
def test_content_tells_what_a_name_does_not(tmp_path, name, pack):
    assert texts_of(found_in(file_of(tmp_path, name, pack(THREE)))) == ["one", "two", "three"]
    if "json" not in name:
        assert texts_of(found_in(file_of(tmp_path, name, pack(b"words")))) == ["words"]


def test_the_spec_may_say_what_a_file_is(tmp_path):
    path = file_of(tmp_path, "a.jsonl", THREE)
    assert texts_of(found_in(path, replace(CONTENT, format="text"))) == [THREE.decode()]
    path = file_of(tmp_path, "a.txt", THREE)
    assert texts_of(found_in(path, replace(CONTENT, format="jsonl"))) == ["one", "two", "three"]


def test_an_empty_file_of_lines_holds_nothing(tmp_path):
    assert units_of(file_of(tmp_path, "a.jsonl", b"")) == []
    assert found_in(file_of(tmp_path, "a.jsonl.gz", zipped(b""))) == []


def test_which_files_of_a_folder_are_taken():
    taken = "a.jsonl b/a.NDJSON a.json.gz x_processed.jsonl.zstd a.txt a.md a.rst.txt a.tar a.tgz a.tar.gz"
    others = "a.zip a.gz a.zst a.html a.py README a.jsonl.xz a.parquet.crc"
    hidden = ".a.txt b/._a.jsonl .git/a.txt b/.venv/c/a.md"
    claims = Text().claims
    assert all(claims(name) for name in [*taken.split(), "a.parquet", "./b/a.txt"])
    assert not any(claims(name) for name in f"{others} {hidden}".split())


def test_keys_are_short_unlike_and_made_of_the_name(tmp_path):
    (tmp_path / "x").mkdir()
    paths = [file_of(tmp_path, name, THREE) for name in (f"{'Long ' * 30}.jsonl", "\u00e9.jsonl", "b.jsonl")]
    units = [unit for path in paths for unit in units_of(path, replace(CONTENT, unit_bytes=1))]
    assert len({unit.key for unit in units}) == len(units) == 9
    assert all(len(unit.key) <= 45 and unit.key.replace("-", "").replace("_", "").isalnum() for unit in units)
    assert units[-1].key.startswith("b-") and not any(unit.alone for unit in units)
