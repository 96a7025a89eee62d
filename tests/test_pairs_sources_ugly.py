"""Sources of pairs as nobody should write them: each oddity has a name, and nothing beside it is lost."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from foundry_testing.pair_sources import OF_CAPTIONS, found_in, listed_in, reasons_of, taken_from
from foundry_testing.pairs import TestPair, encoded, random_picture
from foundry_testing.text_sources import tar_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from robot_foundry.ingest.pairs.spec import PairsContent
from robot_foundry.ingest.sources.base import Refused, Unit
from robot_foundry.ingest.sources.formats.json_array import elements, elements_within
from robot_foundry.ingest.sources.pairs.pairs import pairs_of
from robot_foundry.ingest.sources.pairs.raw import RawPair
from robot_foundry.ingest.sources.pairs.record import MOST_PICTURES
from robot_foundry.ingest.sources.unusable import Broken, Unusable
from robot_foundry.shards.pairs.pair import Turn

JPG = encoded(random_picture(1), "jpg").data
SAMPLES = Path(os.environ.get("FOUNDRY_SAMPLES", "")) / "webdataset"
needs_samples = pytest.mark.skipif(
    not os.environ.get("FOUNDRY_SAMPLES"), reason="FOUNDRY_SAMPLES names no folder of samples"
)


def tar(folder: Path, members: list[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> Path:
    path = folder / "a.tar"
    path.write_bytes(tar_of(members, form))
    return path


def lines(folder: Path, *records: object) -> Path:
    """JSON lines that may name 1.jpg."""
    (folder / "1.jpg").write_bytes(JPG)
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def ids_of(found: list) -> list[str]:
    return [each.id for each in found if isinstance(each, RawPair)]


@needs_samples
@pytest.mark.parametrize(
    ("name", "count", "reason"),
    [
        ("wds_sample.tgz", 90, "it has a picture and nothing said of it (members: cls, png)"),
        ("wds_mpdata.tar", 100, "it has no picture (members: mp)"),
        ("wds_compressed.tar", 3, "it has no picture (members: txt.gz)"),
    ],
)
def test_tars_of_other_things_say_what_they_lack(name: str, count: int, reason: str) -> None:
    assert [why for _, why in reasons_of(found_in(SAMPLES / name))] == [reason] * count


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_with_folders_dots_and_capitals(form: int, tmp_path: Path) -> None:
    members = [
        ("./train/IMG_1.JPG", JPG), ("./train/IMG_1.TXT", b"one"),
        ("a.b/c/2.jpeg", JPG), ("a.b/c/2.txt", b"two"),
        ("3.left.png", JPG), ("3.right.png", JPG), ("3.txt", b"three"),
    ]  # fmt: skip
    if form != tarfile.USTAR_FORMAT:
        long = "very/" * 30 + "long" * 30
        members += [(f"{long}.webp", JPG), (f"{long}.txt", b"four")]
    found = taken_from(tar(tmp_path, members, form))
    assert [pair.captions["caption"] for pair in found] == ["one", "two", "three", "four"][: len(found)]
    assert [pair.id for pair in found][:3] == ["train/IMG_1", "a.b/c/2", "3"]
    assert len(found) == (3 if form == tarfile.USTAR_FORMAT else 4)
    assert [picture.member for picture in found[2].pictures] == ["3.left.png", "3.right.png"]


def test_several_pictures_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = [f"1.{number}.jpg" for number in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9)]
    (pair,) = taken_from(tar(tmp_path, [*((name, JPG) for name in names), ("1.txt", b"many")]))
    assert [picture.name for picture in pair.pictures] == [f"1.{number}.jpg" for number in range(11)]


def test_a_sample_that_comes_twice_is_taken_once(tmp_path: Path) -> None:
    members = [
        ("1.jpg", JPG), ("1.txt", b"a"), ("2.jpg", JPG), ("2.jpg", JPG), ("2.txt", b"b"),
        ("1.jpg", JPG), ("1.txt", b"c"),
    ]  # fmt: skip
    found = found_in(tar(tmp_path, members))
    assert ids_of(found) == ["1"]
    assert reasons_of(found) == [
        ("2", "it has two members .jpg"),
        ("1", "its name is that of an earlier sample, which others stand between"),
    ]


def test_what_is_no_pair_in_a_tar_is_told(tmp_path: Path) -> None:
    members = [
        ("1.jpg", JPG), ("1.json", b"[1, 2]"), ("2.gif", JPG), ("2.txt", b"x"),
        ("3.jpg", JPG), ("3.txt", b" \n"), ("4.jpg", JPG), ("4.txt", "é".encode("latin-1")),
        ("._5.jpg", b"mac"), ("5.jpg", JPG), ("5.txt", b"fine"), ("../6.jpg", JPG),
        ("7.jpg", JPG), ("7.json", b'{"caption": null}'),
    ]  # fmt: skip
    found = found_in(tar(tmp_path, members))
    assert ids_of(found) == ["5"]
    assert reasons_of(found) == [
        ("1", "it is a list, expected an object"),
        ("2", "its picture is .gif, and .jpg, .png and .webp are taken"),
        ("3", "its .txt is empty"),
        ("._5.jpg", "its name, or that of a folder around it, begins with a dot"),
        ("4", "its text is not UTF-8"),
        ("../6.jpg", "its name is no plain path within the tar"),
        ("7", "its 'caption' is null"),
    ]


def test_a_link_in_a_tar_is_not_followed(tmp_path: Path) -> None:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as opened:
        link = tarfile.TarInfo("1.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        opened.addfile(link)
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    assert reasons_of(found_in(tmp_path)) == [("1.jpg", "it is a symbolic link")]


@pytest.mark.parametrize("kept", [0.3, 0.7])
def test_a_tar_that_is_cut_off_loses_what_follows_alone(kept: float, tmp_path: Path) -> None:
    members = [(f"{n}.{end}", JPG if end == "jpg" else b"x") for n in range(20) for end in ("jpg", "txt")]
    data = tar_of(members)
    whole = found_in(tar(tmp_path, members))
    (tmp_path / "a.tar").write_bytes(data[: int(len(data) * kept)])
    *found, last = found_in(tmp_path)
    assert found == whole[: len(found)] and 3 < len(found) < 20
    ((_, reason),) = reasons_of([last])
    assert "cut off" in reason and "those after it are lost" in reason


def test_a_picture_that_is_too_large_costs_its_pair(tmp_path: Path) -> None:
    source = tar(tmp_path, [("1.jpg", JPG * 100), ("1.txt", b"x"), ("2.jpg", JPG), ("2.txt", b"x")])
    found = found_in(source, PairsContent(max_picture_bytes=len(JPG)))
    assert ids_of(found) == ["2"]
    assert reasons_of(found) == [
        ("1 (1.jpg)", f"its picture has more than {len(JPG)} bytes (content.max_picture_bytes)")
    ]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"caption": None}, "its 'caption' is null"),
        ({"caption": "  "}, "its 'caption' is empty"),
        ({"caption": 5}, "its 'caption' is a number, expected text"),
        ({"caption": ["a", 5]}, "its 'caption' is a number, expected text"),
        (
            {"caption": "a <image> b"},
            "its 'caption' holds <image>, which stands for a picture",
        ),
        ({"caption": "a\ud800"}, "its 'caption' holds a lone surrogate"),
        ({"caption": ["a", "b"], "caption_2": "c"}, "it has two captions that are called 'caption_2'"),
        (
            {"texts": [{"user": "a", "assistant": "b"}], "messages": [{"role": "user", "content": "a"}]},
            "it has a second conversation, 'messages'",
        ),
        ({"title": "x"}, "it has neither a caption nor a conversation (keys: title); content.captions names"),
        ({"image": None, "caption": "x"}, "it has a caption and no picture"),
        ({"image": "", "caption": "x"}, "its 'image' is empty"),
        ({"image": 7, "caption": "x"}, "its 'image' is a number, expected the name of a picture"),
        ({"image": "http://a.de/1.jpg", "caption": "x"}, "its picture is named by a URL"),
        ({"image": "data:image/png;base64,AA", "caption": "x"}, "its picture stands in the table as base64"),
        ({"conversations": "hi"}, "its 'conversations' is a text, expected a list of turns"),
        ({"conversations": []}, "its 'conversations' is empty"),
        ({"conversations": ["hi"]}, "a turn of its 'conversations' is a text, expected an object"),
        ({"conversations": [{"who": "me"}]}, "has neither 'from' and 'value' nor 'role' and 'content'"),
        ({"messages": [{"role": "usr", "content": "a"}]}, "unknown role 'usr', did you mean 'user'?"),
        ({"messages": [{"role": "user", "content": None}]}, "is null, expected text"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "neither text nor image"),
        (
            {"messages": [{"role": "user", "content": "<image><image>"}]},
            "it has 1 picture and 2 times <image> in its turns",
        ),
        ({"messages": [{"role": "system", "content": "a"}]}, "it has no turn of a user"),
    ],
)
def test_a_record_that_is_no_pair_says_why(record: dict, reason: str, tmp_path: Path) -> None:
    good = {"image": "1.jpg", "caption": "fine"}
    found = found_in(lines(tmp_path, good, {"image": "1.jpg", **record}, good))
    assert ids_of(found) == ["1", "3"]
    ((place, why),) = reasons_of(found)
    assert place == "2" and reason in why


def test_seventeen_pictures_are_too_many(tmp_path: Path) -> None:
    record = {"caption": "x", "image": ["1.jpg"] * MOST_PICTURES}
    found = found_in(lines(tmp_path, record, {**record, "image": ["1.jpg"] * (MOST_PICTURES + 1)}))
    assert ids_of(found) == ["1"] and len(found[0].pictures) == MOST_PICTURES
    assert reasons_of(found) == [("2", "it has more than 16 pictures")]


def test_pictures_without_a_place_stand_before_the_first_user(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "what?"},
        {"role": "assistant", "content": "a"},
    ]
    parts = [{"type": "text", "text": "first "}, {"type": "image"}, {"type": "text", "text": "?"}]
    source = lines(
        tmp_path,
        {"image": ["1.jpg", "1.jpg"], "messages": turns},
        {"image": "1.jpg", "messages": [{"role": "user", "content": parts}, turns[2]]},
        {"image": "1.jpg", "texts": [{"user": "u", "assistant": "a", "source": "s"}]},
        {"conversations": [{"from": "human", "value": "no picture"}, {"from": "gpt", "value": "a"}]},
    )
    first, second, third, fourth = taken_from(source)
    assert first.turns[:2] == (Turn("system", "be brief"), Turn("user", "<image>\n<image>\nwhat?"))
    assert second.turns[0] == Turn("user", "first <image>?")
    assert third.turns == (Turn("user", "<image>\nu"), Turn("assistant", "a"))
    assert fourth.turns[0] == Turn("user", "no picture") and fourth.pictures == ()


def test_cells_of_csv_hold_quotes_commas_and_ends_of_lines(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(JPG)
    rows = [
        b'file_name,text,n', b'1.jpg,"a ""q"", b\r\nsecond line",1', b"1.jpg,too few", b"",
        b'1.jpg,5" pipe,', b"1.jpg,caf\xe9,2", "1.jpg,café,3".encode(), b'1.jpg,"never closed,4',
    ]  # fmt: skip
    (tmp_path / "m.csv").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(rows))
    for unit_bytes in (1, 1 << 20):
        found = found_in(tmp_path / "m.csv", PairsContent(unit_bytes=unit_bytes))
        assert [(pair.id, pair.captions["text"]) for pair in found if isinstance(pair, RawPair)] == [
            ("1", 'a "q", b\r\nsecond line'), ("3", '5" pipe'), ("5", "café"),
        ]  # fmt: skip
        assert reasons_of(found) == [
            ("2", "its row has 2 cells, and the header 3"),
            ("4", "it is not UTF-8"),
            ("6", "its row has 2 cells, and the header 3"),
        ]
    assert found[0].metadata == {"n": "1"} and found[2].metadata == {"n": None}


@pytest.mark.parametrize(("delimiter", "name"), [(",", "Text; kurz"), (";", "Text"), ("\t", "Text")])
def test_the_header_of_csv_tells_what_divides_its_cells(tmp_path: Path, delimiter: str, name: str) -> None:
    (tmp_path / "1.jpg").write_bytes(JPG)
    rows = [["Bild", name, "Preis"], ["1.jpg", '"one; two, three\tfour"', '"12,50"'], ["1.jpg", "b", "3"]]
    (tmp_path / "m.csv").write_text("\r\n".join(map(delimiter.join, rows)), "utf-8-sig", newline="")
    for unit_bytes in (1, 1 << 20):
        content = PairsContent(captions=(name,), image_keys=("Bild",), unit_bytes=unit_bytes)
        found = found_in(tmp_path / "m.csv", content)
        pairs = [pair for pair in found if isinstance(pair, RawPair)]
        assert [pair.captions[name] for pair in pairs] == ["one; two, three\tfour", "b"]
        assert [pair.metadata for pair in pairs] == [{"Preis": "12,50"}, {"Preis": "3"}]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.json", "[{}]".encode("utf-16"), "it is UTF-16"),
        ("a.csv", b"a,a\n1,2\n", "its header names a column twice or not at all (a, a)"),
        ("a.csv", b"\xff\xfea", "it is UTF-16"),
        ("a.parquet", b"PAR1 and so on", "it is no whole parquet file"),
        ("a.tar", b"version https://git-lfs.github.com/spec/v1\n", "the file is a Git LFS pointer"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_as_a_whole(
    name: str, data: bytes, reason: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    ((path, why),) = listed_in(tmp_path)[1]
    assert path == name and reason in why


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        (', {"image"]', "its element 2, at byte {at}, is no whole JSON value"),
        (" {}]", "its JSON is damaged behind element 1, at byte {at}"),
        ("", "its JSON is damaged behind element 1, at byte {at}"),
        ("] x", "behind its JSON array are other bytes, from byte {at} on"),
    ],
)
def test_an_array_that_is_damaged_loses_what_follows_alone(rest: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(JPG)
    whole = json.dumps([{"image": "1.jpg", "caption": "fine"}] * 2)[:-1]
    data = (whole + rest).encode()
    at = len(data) if not rest else len(whole) + len(rest) - len(rest.lstrip(",] "))
    told = f"{reason.format(at=at)}, and this and what follows is lost"
    (tmp_path / "a.json").write_bytes(data)
    units, refused = listed_in(tmp_path)
    assert refused == [("a.json#2", told)]
    assert [ids_of(list(pairs_of(unit, PairsContent()))) for unit in units] == [["0", "1"]]
    (tmp_path / "a.json").write_bytes(gzip.compress(data))
    found = found_in(tmp_path)
    assert ids_of(found) == ["0", "1"] and reasons_of(found) == [("2", told)]


def test_columns_that_json_cannot_hold_are_refused_until_the_spec_chooses(tmp_path: Path) -> None:
    picture = {"bytes": JPG, "path": None}
    table = pa.table({"image": [picture], "mask": [picture], "caption": ["x"], "n": [1]})
    parquet.write_table(table, tmp_path / "a.parquet")
    ((_, reason),) = listed_in(tmp_path)[1]
    assert "column 'mask'" in reason and "content.metadata" in reason
    (pair,) = taken_from(tmp_path, PairsContent(metadata=("n",)))
    assert pair.metadata == {"n": 1} and pair.captions == {"caption": "x"}
    (pair,) = taken_from(tmp_path, PairsContent(image_keys=("image", "mask")))
    assert [each.data for each in pair.pictures] == [JPG, JPG]


def test_a_row_group_that_is_damaged_loses_its_rows_alone(tmp_path: Path) -> None:
    pictures = [{"bytes": os.urandom(3000), "path": None} for _ in range(30)]
    table = pa.table({"image": pictures, "caption": [f"no. {n}" for n in range(30)]})
    path = tmp_path / "a.parquet"
    parquet.write_table(table, path, row_group_size=10, write_page_checksum=True, compression="none")
    data = bytearray(path.read_bytes())
    at = data.index(pictures[15]["bytes"])
    data[at] ^= 1
    path.write_bytes(data)
    found = found_in(path)
    assert ids_of(found) == [str(n) for n in (*range(10), *range(20, 30))]
    assert [each.count for each in found if not isinstance(each, RawPair)] == [10]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@example(values=[0.5, 1e300, -1], size=1, indent=None)
@settings(max_examples=50, deadline=None)
@given(values=st.lists(_VALUES, max_size=8), size=st.integers(1, 40), indent=st.sampled_from([None, 1]))
def test_elements_of_an_array_are_found_in_any_blocks(values: list, size: int, indent: int | None) -> None:
    data = json.dumps(values, ensure_ascii=False, indent=indent).encode("utf-8", "surrogatepass")
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    found = list(elements(blocks, 1 << 20))
    assert [json.loads(element.decode("utf-8", "surrogatepass")) for _, element in found] == values
    assert all(data[at : at + len(element)] == element for at, element in found)
    for first in range(len(found)):
        start, end = found[first][0], found[-1][0] + len(found[-1][1])
        assert list(elements_within([data[start:end]], 1 << 20)) == [element for _, element in found[first:]]


def test_an_element_without_an_end_is_refused_within_the_limit() -> None:
    blocks = iter([b"[", b'"', *[b"x" * 100] * 100])
    with pytest.raises(Broken, match="element 0, at byte 1, has no end within 1000 bytes"):
        list(elements(blocks, 1000))
    assert sum(1 for _ in blocks) > 50


@pytest.mark.parametrize("layout", OF_CAPTIONS)
def test_damage_anywhere_is_refused_or_told(layout: str, tmp_path: Path) -> None:
    """Bytes that are changed, added or cut off never stop the reading of other files."""
    picture = encoded(random_picture(1, 8, 8), "jpg")
    pairs = [
        TestPair([picture], {"caption": f'a "thing",\nno. {n}'}, metadata={"n": f"{n}"}) for n in range(5)
    ]
    OF_CAPTIONS[layout](tmp_path, pairs)
    table = min(path for path in tmp_path.rglob("*.*") if path.suffix != ".jpg")
    whole, num_intact = table.read_bytes(), 0
    rng = np.random.default_rng(len(whole))
    for _ in range(25):
        data = bytearray(whole)
        start, size = (int(number) for number in rng.integers(0, (len(data), 12)))
        data[start : start + size * int(rng.integers(2))] = rng.bytes(size)
        table.write_bytes(data[:start] if rng.integers(3) == 0 else data)
        units, refused = listed_in(tmp_path)
        found = [each for unit in units for each in _until_refused(unit)]
        num_intact += len(ids_of(found))
        assert all(reason for _, reason in [*refused, *reasons_of(found)])
    assert num_intact > 0


def _until_refused(unit: Unit) -> Iterator[RawPair | Unusable]:
    with suppress(Refused):
        yield from pairs_of(unit, PairsContent())


def test_a_tar_of_no_bytes_is_refused(tmp_path: Path) -> None:
    tar(tmp_path, [("0.jpg", b"x"), ("0.txt", b"a")])
    (tmp_path / "empty.tar").write_bytes(b"")
    [told] = listed_in(tmp_path)[1]
    assert told == ("empty.tar", "it is empty, and a tar without members has an end mark")
