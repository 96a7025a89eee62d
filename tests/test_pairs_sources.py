"""Readers of pairs: one set of pairs in every layout, and what each layout has of its own."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from foundry_testing.pair_ingests import ingest
from foundry_testing.pair_sources import (
    OF_ALL,
    OF_CAPTIONS,
    found_in,
    listed_in,
    meant,
    reasons_of,
    said,
    taken_from,
    tar_members,
    units_of,
    write_img2dataset,
    write_json,
    write_json_lines,
    write_tar,
)
from foundry_testing.pairs import TestPair, encoded, random_picture, some_pairs
from foundry_testing.text_sources import tar_of
from pyarrow import parquet

from robot_foundry.ingest.pairs.spec import PairsContent
from robot_foundry.ingest.sources.pairs.pairs import Pairs, pairs_of
from robot_foundry.ingest.sources.pairs.raw import RawPair

JPG = encoded(random_picture(1), "jpg")
# What a layout must say of a picture beside its pair.
ADDED = {"coco": ("id",)}


def captioned(count: int) -> list[TestPair]:
    """Pairs of one picture with captions and metadata of text, which every layout can hold."""
    return [
        TestPair(
            [encoded(random_picture(number), ("jpg", "png", "webp")[number % 3])],
            {"caption": f'a "thing", no. {number}\nof ünusual size'},
            metadata={"license": f"cc{number}", "language": "en"},
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("layout", OF_ALL)
def test_every_layout_gives_the_pairs_that_were_written(layout: str, tmp_path: Path) -> None:
    pairs = [pair for pair in some_pairs(15) if pair.pictures]
    OF_ALL[layout](tmp_path, pairs)
    written = [said(pair) for pair in taken_from(tmp_path)]
    for found, pair in zip(written, pairs, strict=True):
        # A row of parquet has every column.
        found["metadata"] = {name: value for name, value in found["metadata"].items() if value is not None}
        assert found == meant(pair)


@pytest.mark.parametrize("layout", OF_CAPTIONS)
def test_every_layout_gives_pictures_with_captions(layout: str, tmp_path: Path) -> None:
    pairs = captioned(7)
    OF_CAPTIONS[layout](tmp_path, pairs)
    found = taken_from(tmp_path)
    assert [said(pair, without=ADDED.get(layout, ())) for pair in found] == list(map(meant, pairs))
    assert len({pair.id for pair in found}) == len(pairs)


@pytest.mark.parametrize("layout", ["json", "jsonl", "csv", "tsv", "coco", "parquet"])
def test_parts_of_a_table_give_what_the_whole_gives(layout: str, tmp_path: Path) -> None:
    pairs = captioned(9)
    OF_CAPTIONS[layout](tmp_path, pairs)
    whole = found_in(tmp_path)
    for unit_bytes in (1, 2000, 5000):
        content = PairsContent(unit_bytes=unit_bytes)
        units = units_of(tmp_path, content)
        assert len(units) > 1 and len({unit.key for unit in units}) == len(units)
        assert [found for unit in units for found in pairs_of(unit, content)] == whole


def test_a_unit_has_the_pictures_that_it_names_as_companions_and_no_other(tmp_path: Path) -> None:
    pairs = captioned(6)
    write_json(tmp_path, pairs)
    (tmp_path / "pictures" / "unnamed.jpg").write_bytes(JPG.data)
    units = units_of(tmp_path, PairsContent(unit_bytes=1))
    assert [[file.path for file in unit.file.companions] for unit in units] == [
        [f"pictures/{number:04d}_0.{pair.encoded[0].encoding}"] for number, pair in enumerate(pairs)
    ]
    # So a picture that changes changes what is known of one unit.
    changed = [unit.fingerprinted(lambda path: path.replace("0003_0", "else")) for unit in units]
    assert [
        before.file.fingerprint != after.file.fingerprint
        for before, after in zip(units, changed, strict=True)
    ] == [number == 3 for number in range(6)]


@pytest.mark.parametrize("compress", [False, True])
def test_json_is_read_compressed_and_with_a_byte_order_mark(compress: bool, tmp_path: Path) -> None:
    pairs = captioned(4)
    write_json(tmp_path, pairs)
    data = b"\xef\xbb\xbf" + (tmp_path / "llava.json").read_bytes()
    (tmp_path / "llava.json").unlink()
    name = "llava.json.gz" if compress else "llava.json"
    (tmp_path / name).write_bytes(gzip.compress(data) if compress else data)
    assert [said(pair) for pair in taken_from(tmp_path, PairsContent(unit_bytes=1))] == list(
        map(meant, pairs)
    )


def test_a_compressed_tar_is_read_as_a_plain_one(tmp_path: Path) -> None:
    pairs = some_pairs(3)[:3]
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(tar_of(tar_members(pairs))))
    assert [said(pair) for pair in taken_from(tmp_path)] == list(map(meant, pairs))


def test_pictures_of_a_plain_tar_name_their_members(tmp_path: Path) -> None:
    write_tar(tmp_path, some_pairs(4))
    members = {name for name, _ in tar_members(some_pairs(4))}
    for pair in taken_from(tmp_path):
        assert all(picture.member in members for picture in pair.pictures)


@pytest.mark.parametrize("place", ["", "images/", "data/train/"])
def test_the_folder_of_pictures_is_found(place: str, tmp_path: Path) -> None:
    """Beside the JSON, beneath it, or in a folder that some names tell."""
    folder = tmp_path / place / "coco"
    folder.mkdir(parents=True)
    (folder / "1.jpg").write_bytes(JPG.data)
    record = {"image": "coco/1.jpg", "caption": "one"}
    (tmp_path / "pairs.json").write_text(json.dumps([record]))
    (pair,) = taken_from(tmp_path)
    assert pair.pictures[0].name == f"{place}coco/1.jpg" and pair.pictures[0].data == JPG.data


def test_the_folder_of_pictures_is_that_of_the_spec(tmp_path: Path) -> None:
    for folder, data in (("train", b"first"), ("val", b"other")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").write_bytes(data)
    (tmp_path / "pairs.json").write_text(json.dumps([{"image": "1.jpg", "caption": "one"}]))
    _, refused = listed_in(tmp_path)
    assert refused == [
        ("pairs.json", "its pictures may be those of train and val: name the folder in content.images")
    ]
    (pair,) = taken_from(tmp_path, PairsContent(images="val"))
    assert pair.pictures[0].data == b"other"


def test_pictures_lie_beside_the_folder_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_bytes(JPG.data)
    (tmp_path / "annotations" / "all.jsonl").write_text('{"image": "photos/1.jpg", "text": "one"}\n')
    (pair,) = taken_from(tmp_path)
    assert pair.captions == {"text": "one"} and pair.pictures[0].data == JPG.data


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/secret.jpg", "a/../../secret.jpg", "C:\\secret.jpg"])
def test_no_path_leads_out_of_the_source(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(JPG.data)
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.jsonl").write_text(json.dumps({"image": name, "caption": "no"}) + "\n")
    assert reasons_of(found_in(source)) == [("1", "the path of its picture leads out of the source")]


def test_img2dataset_tells_what_it_did_not_fetch(tmp_path: Path) -> None:
    pairs = captioned(3)
    write_img2dataset(tmp_path, pairs)
    keys = ["000000000", "000000001", "000000002", "000000003", "000000004", "000000005"]
    statuses = ["success", "success", "success", "failed_to_download", "failed_to_resize", "success"]
    table = pa.table({"key": keys, "status": statuses, "url": ["http://x"] * 6})
    parquet.write_table(table, tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text('{"count": 6, "successes": 4}')
    (unit,) = units_of(tmp_path)
    assert [file.path for file in unit.file.companions] == ["00000.parquet"]
    found = found_in(tmp_path)
    assert [said(pair) for pair in found if isinstance(pair, RawPair)] == list(map(meant, pairs))
    assert reasons_of(found) == [
        ("000000003", "img2dataset has not fetched it (failed_to_download)"),
        ("000000004", "img2dataset has not fetched it (failed_to_resize)"),
        ("000000005", "img2dataset has fetched it, and its tar lacks it"),
    ]


def test_a_text_beside_json_that_says_the_same_is_one_caption(tmp_path: Path) -> None:
    members = [
        ("a.jpg", JPG.data),
        ("a.txt", b"a cat\r\n"),
        ("a.json", b'{"caption": "a cat", "re_caption": "a small cat", "caption_score": 0.5}'),
        ("b.json", b'{"caption": "other words"}'),
        ("b.webp", JPG.data),
        ("b.txt", b"a dog"),
        ("c.dense.txt", b"every hair"),
        ("c.jpg", JPG.data),
    ]
    (tmp_path / "a.tar").write_bytes(tar_of(members))
    first, second, third = taken_from(tmp_path)
    assert first.captions == {"caption": "a cat", "re_caption": "a small cat"}
    assert first.metadata == {"caption_score": 0.5}
    assert second.captions == {"caption": "other words", "txt": "a dog"}
    assert third.captions == {"dense": "every hair"}


def test_a_spec_chooses_captions_and_metadata(tmp_path: Path) -> None:
    record = {"image": "1.jpg", "caption": "one", "re_caption": "two", "title": "three", "n": 1, "m": 2}
    (tmp_path / "1.jpg").write_bytes(JPG.data)
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n")
    (pair,) = taken_from(tmp_path, PairsContent(captions=("title",), metadata=("n",)))
    assert (pair.captions, pair.metadata) == ({"title": "three"}, {"n": 1})
    (reason,) = reasons_of(found_in(tmp_path, PairsContent(captions=("tittle",))))
    assert "none of the captions tittle, did you mean 'title'?" in reason[1]


def test_several_captions_of_a_picture_are_captions_of_one_pair(tmp_path: Path) -> None:
    pairs = [TestPair([JPG], {"caption": "one", "caption_2": "two", "caption_3": "three"})]
    OF_CAPTIONS["coco"](tmp_path, pairs)
    (pair,) = taken_from(tmp_path)
    assert pair.captions == pairs[0].captions


def test_coco_tells_images_without_captions_and_captions_without_images(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(JPG.data)
    images = [{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "1.jpg"}]
    annotations = [{"image_id": 1, "caption": "a"}, {"image_id": 9, "caption": "b"}]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    assert reasons_of(found_in(tmp_path)) == [
        ("annotation 1", "its 'image_id' is that of no image"),
        (
            "1",
            "it has neither a caption nor a conversation (keys: id); content.captions names captions that "
            "are called otherwise",
        ),
    ]


def test_boxes_of_coco_are_no_captions(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"images": [{"id": 1}], "annotations": [{"image_id": 1, "bbox": []}]}')
    ((_, reason),) = listed_in(tmp_path)[1]
    assert reason.startswith("its annotations have no 'caption'")


def test_an_object_that_is_no_table_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model": "x"}')
    ((path, reason),) = listed_in(tmp_path)[1]
    assert path == "config.json" and "not COCO's" in reason and "keys: model" in reason


def test_pictures_have_texts_of_their_own_name_beside_them(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    for name, text in (("a.v2", "first"), ("b", "second"), ("c", None)):
        (tmp_path / "cats" / f"{name}.JPG").write_bytes(JPG.data)
        if text is not None:
            ending = "TXT" if name == "b" else "txt"
            (tmp_path / "cats" / f"{name}.{ending}").write_text(text)
    found = found_in(tmp_path)
    assert [(pair.id, pair.captions) for pair in found if isinstance(pair, RawPair)] == [
        ("cats/a.v2.JPG", {"caption": "first"}),
        ("cats/b.JPG", {"caption": "second"}),
    ]
    assert reasons_of(found) == [("cats/c.JPG", "it has no .txt or .json beside it, and no table names it")]


def test_another_picture_changes_one_unit_of_a_folder() -> None:
    def units(pictures: list[str]) -> set[tuple[str, tuple[str, ...]]]:
        listed = {*pictures, *(path.replace("jpg", "txt") for path in pictures)}
        found = Pairs().together(sorted(pictures), listed, PairsContent())
        assert sorted(path for first, others in found for path in (first, *others)) == sorted(listed)
        return {(first, tuple(others)) for first, others in found}

    pictures = [f"{number:05d}.jpg" for number in range(5000)]
    before, after = units(pictures), units([*pictures, "02500b.jpg"])
    assert len(before) > 2 and len(after - before) == 1


def test_pictures_are_held_once_for_all_tables_that_may_name_them() -> None:
    tables = [f"{number}.jsonl" for number in range(100)]
    pictures = [f"p/{number}.jpg" for number in range(1000)]
    found = Pairs().together(tables, [*tables, *pictures], PairsContent())
    assert len({id(named) for _, named in found}) == 1


def test_json_lines_with_an_odd_line_lose_that_line_alone(tmp_path: Path) -> None:
    write_json_lines(tmp_path, captioned(2))
    path = tmp_path / "records.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(
        b"\r\n".join([lines[0], b"", b"[1]", b'{"caption": "a", "caption": "b"}', b"{", lines[1]])
    )
    found = found_in(tmp_path, PairsContent(unit_bytes=1))
    assert [pair.id for pair in found if isinstance(pair, RawPair)] == ["1", "6"]
    assert reasons_of(found) == [
        ("3", "it is a list, expected an object"),
        ("4", "it has the key 'caption' twice"),
        ("5", "it is not JSON: Expecting property name enclosed in double quotes"),
    ]


def test_pictures_that_no_table_names_are_told(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    write_json(tmp_path / "source", captioned(3))
    for number in range(5):
        (tmp_path / "source" / "pictures" / f"unnamed{number}.jpg").write_bytes(JPG.data)
    report = ingest(tmp_path / "source", tmp_path / "store")
    assert report.written == 3
    assert any(
        warning == "passed over 5 files that nothing names: "
        "pictures/unnamed0.jpg, pictures/unnamed1.jpg, pictures/unnamed2.jpg, …"
        for warning in report.warnings
    )
