"""What the layout `text` reads of tars: folders of files, samples of WebDataset, archives that are wrong."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import webdataset as wds
import zstandard
from foundry_testing.text_sources import CONTENT, found_in, reasons_of, tar_of, texts_of
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.ingest.sources import Refused
from robot_foundry.ingest.sources.unusable import Unusable
from robot_foundry.shards.text.blocks import Document

LINES = b'{"text": "one"}\n{"text": "two"}\n'


def found_of(folder: Path, members, content=CONTENT, form=tarfile.PAX_FORMAT):
    path = folder / "a.tar"
    path.write_bytes(tar_of(members, form))
    return found_in(path, content)


def told(found):
    """Id and text, or id and reason, of each."""
    return [(each.id, each.text if isinstance(each, Document) else each.reason) for each in found]


def test_a_folder_of_files(tmp_path):
    found = found_of(
        tmp_path,
        [
            ("docs/a.txt", b"first"),
            ("docs/b.rst.txt", b"second"),
            ("docs/c.MD", b"third"),
            ("lines.jsonl", LINES),
            ("lines.jsonl.gz", gzip.compress(LINES)),
            ("more/1.zst", zstandard.compress(LINES)),
            ("more/2.zst", zstandard.compress(b"words")),
            ("one.json", b'{\n "text": "three",\n "n": 1\n}\n'),
            ("several.json", LINES),
            ("d.txt.gz", gzip.compress(b"fourth")),
        ],
    )
    expected = [
        ("docs/a.txt", "first"),
        ("docs/b.rst.txt", "second"),
        ("docs/c.MD", "third"),
        ("lines.jsonl:1", "one"),
        ("lines.jsonl:2", "two"),
        ("lines.jsonl.gz:1", "one"),
        ("lines.jsonl.gz:2", "two"),
        ("more/1.zst:1", "one"),
        ("more/1.zst:2", "two"),
        ("more/2.zst", "words"),
        ("one.json", "three"),
        ("several.json:1", "one"),
        ("several.json:2", "two"),
        ("d.txt.gz", "fourth"),
    ]
    assert told(found) == expected
    assert found[10].metadata == {"n": 1}


def test_samples_are_those_of_webdataset(tmp_path):
    names = [f"{number:06d}" for number in range(20)]
    members = []
    for number, name in enumerate(names):
        sample = [
            (f"x/{name}.txt", f"words {number}".encode()),
            (f"x/{name}.json", json.dumps({"number": number, "text": "of the json"}).encode()),
        ]
        members += sample[:: random.Random(number).choice((1, -1))]
    found = found_of(tmp_path, members)
    expected = list(wds.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False, empty_check=False).decode())
    assert [each.text for each in found] == [sample["txt"] for sample in expected]
    assert [each.metadata for each in found] == [sample["json"] for sample in expected]
    assert [each.id for each in found] == [f"{sample['__key__']}.txt" for sample in expected]


def test_metadata_of_a_sample_is_what_the_spec_names(tmp_path):
    members = [("a.json", b'{"x": 1, "y": 2}'), ("a.txt", b"words")]
    for metadata, kept in ((("y",), {"y": 2}), ((), {}), (None, {"x": 1, "y": 2})):
        assert found_of(tmp_path, members, replace(CONTENT, metadata=metadata)) == [
            Document("a.txt", "words", kept)
        ]


@pytest.mark.parametrize(
    ("sidecar", "reason"),
    [
        (b'{"x": ', "it is not JSON"),
        (b"[1]", "it is a list, expected an object"),
        (b'{"x": 1, "x": 2}', "it has the key 'x' twice"),
        (b'{"x": "\\ud800"}', "its 'x' holds a lone surrogate"),
        (b"", "it is not JSON"),
    ],
)
def test_a_text_outlives_json_beside_it_that_is_wrong(tmp_path, sidecar, reason):
    found = found_of(tmp_path, [("a.txt", b"words"), ("a.json", sidecar), ("b.txt", b"more")])
    assert [each for each in found if isinstance(each, Document)] == [
        Document("a.txt", "words", {}),
        Document("b.txt", "more", {}),
    ]
    ((place, given_reason),) = reasons_of(found)
    assert place == "a.json" and given_reason.startswith(reason)


def test_texts_of_one_name_are_documents_each(tmp_path):
    members = [("a.txt", b"1"), ("a.md", b"2"), ("a.json", b'{"n": 1}'), ("a.txt", b"3"), ("a.txt", b"4")]
    found = found_of(tmp_path, members)
    assert [(each.id, each.text, dict(each.metadata)) for each in found] == [
        ("a.txt", "1", {"n": 1}),
        ("a.md", "2", {"n": 1}),
        ("a.txt", "3", {}),
        ("a.txt", "4", {}),
    ]


def test_what_is_no_text_is_told_and_nothing_else_is_lost(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:

        def add(name, data=b"", **values):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in values.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))

        add("folder", type=tarfile.DIRTYPE)
        add("/etc/a.txt", b"absolute")
        add("../a.txt", b"above")
        add("b/../../a.txt", b"above")
        add("line\nbreak.txt", b"broken")
        add("link.txt", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add("hard.txt", type=tarfile.LNKTYPE, linkname="a.txt")
        add("pipe.txt", type=tarfile.FIFOTYPE)
        add("._a.txt", b"of a Mac")
        add("./.git/a.txt", b"of git")
        add("a.jpg", b"picture")
        add("inner.tar", tar_of([("x.txt", b"words")]))
        add("README", b"words")
        add("bad.txt", b"\xff")
        add("big.txt", b"a" * 2000)
        add("large.json", b'{"text": "' + b"a" * 2000 + b'"}')
        add("cut.txt.gz", gzip.compress(b"words")[:-4])
        add("damaged.txt.gz", gzip.compress(b"words")[:-8] + bytes(8))
        add("last.txt", b"words")
    path = tmp_path / "a.tar"
    path.write_bytes(buffer.getvalue())
    found = found_in(path, replace(CONTENT, max_document_bytes=1000))
    assert texts_of(found) == ["words"] and found[-1].id == "last.txt"
    plain, large = "its name is no plain path within the tar", "it has more than 1000 bytes"
    expected = [
        ("/etc/a.txt", plain),
        ("../a.txt", plain),
        ("b/../../a.txt", plain),
        ("line\nbreak.txt", plain),
        ("link.txt", "it is a symbolic link"),
        ("hard.txt", "it is a hard link"),
        ("pipe.txt", "it is a FIFO"),
        ("._a.txt", "its name, or that of a folder"),
        ("./.git/a.txt", "its name, or that of a folder"),
        ("a.jpg", "no text is read of a .jpg"),
        ("inner.tar", "no text is read of a .tar"),
        ("README", "its name has no ending"),
        ("bad.txt", "it is no UTF-8"),
        ("big.txt", large),
        ("large.json:1", large),
        ("cut.txt.gz", "the file is cut off"),
        ("damaged.txt.gz", "its gzip compression is damaged"),
    ]
    for (place, reason), (expected_place, start) in zip(reasons_of(found), expected, strict=True):
        assert place == expected_place and reason.startswith(start)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_of_all_formats(tmp_path, form):
    name = "/".join(["a folder with a long name"] * 5) + "/\u00e9t\u00e9 and so on.txt"
    assert told(found_of(tmp_path, [(name, b"words"), ("b.txt", b"more")], form=form)) == [
        (name, "words"),
        ("b.txt", "more"),
    ]


def test_tars_joined_end_to_end_are_read_to_the_end(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(tar_of([("a.txt", b"1")]) + tar_of([("b.txt", b"2")])))
    assert texts_of(found_in(path)) == ["1", "2"]


MEMBERS = [("a.txt", b"first"), ("b.jsonl", LINES), ("c.json", b'{"n": 1}'), ("c.txt", b"third" * 200)]
WHOLE = ["first", "one", "two", "third" * 200]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_tar_that_is_cut_off_keeps_what_came_before(tmp_path, pack):
    tar, path = tar_of(MEMBERS, tarfile.USTAR_FORMAT), tmp_path / "a.tar"
    end_mark = len(tar.rstrip(b"\0")) // 512 * 512 + 512
    whole = pack(tar)
    for size in range(1, len(whole), 1 if pack is gzip.compress else 61):
        path.write_bytes(whole[:size])
        found = found_in(path)
        texts = texts_of(found)
        assert texts == WHOLE[: len(texts)]
        if pack is bytes and size >= end_mark + 512:
            assert texts == WHOLE and not reasons_of(found)
        else:
            *others, (_, last) = reasons_of(found)
            assert isinstance(found[-1], Unusable) and last.endswith("and what follows is lost")
            assert others in ([], [("c.json", "it has no 'text'")])  # that it tells of a text is lost, too


@settings(deadline=None, max_examples=200)
@given(changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=4))
def test_no_change_of_a_tar_ends_in_another_way(tmp_path_factory, changes):
    """What is read is documents and reasons; a tar that is nothing else is refused by name."""
    data = bytearray(tar_of(MEMBERS))
    for place, value in changes:
        data[place % len(data)] = value
    path = tmp_path_factory.mktemp("tars") / "a.tar"
    path.write_bytes(data)
    try:
        for found in found_in(path):
            assert found.id and isinstance(found, Document | Unusable)
    except Refused as error:
        assert error.message


def test_damage_of_a_header_ends_the_tar_and_is_told(tmp_path):
    data = bytearray(tar_of(MEMBERS, tarfile.USTAR_FORMAT))
    data[1024 + 10] ^= 1  # in the header of the second member
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    reason = "the tar has a damaged header at byte 1024, and what follows is lost"
    assert told(found_in(path)) == [("a.txt", "first"), ("a.txt", reason)]


def test_damage_within_compressed_lines_refuses_the_tar_and_names_the_member(tmp_path):
    with pytest.raises(Refused, match=r"b\.jsonl\.gz in it: its gzip compression is damaged"):
        found_of(tmp_path, [("a.txt", b"x"), ("b.jsonl.gz", gzip.compress(LINES)[:-8] + bytes(8))])


def test_a_tar_of_no_bytes_is_refused(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"")
    with pytest.raises(Refused, match="it is empty, and a tar without members has an end mark"):
        found_in(tmp_path / "x.tar")
