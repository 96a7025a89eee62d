"""Versions of pairs: tables, what SQL and selections see, statistics, and how they are shown.

What is expected is told by Pillow, json and NumPy from what was written.
"""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from foundry_testing.pairs import (
    TestPair,
    WrittenPairs,
    encoded,
    random_picture,
    some_pairs,
    write_adopted,
    write_pairs,
)
from foundry_testing.shells import Shell
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import robot_foundry
from robot_foundry.catalog.mixture import commit_mixture, make_mixture
from robot_foundry.catalog.opened import OpenVersion, OpenVersions
from robot_foundry.catalog.pairs.derived import pair_of
from robot_foundry.catalog.pairs.described import MEASURED, describe
from robot_foundry.catalog.pairs.measured import MOST_NAMES, OTHERS, Measured
from robot_foundry.catalog.pairs.measures import measures_of
from robot_foundry.catalog.pairs.tables import PAIRS, PAIRS_SCHEMA
from robot_foundry.catalog.query.snapshot import Catalog
from robot_foundry.catalog.selection import SelectionSpec
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import table_digest
from robot_foundry.loader.pairs.dataset import PairDataset
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError, NothingSelected, UsageError

COUNT = 150


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, WrittenPairs]:
    store = Store(tmp_path_factory.mktemp("pairs"))
    return store, write_pairs(store, "photos", some_pairs(COUNT))


@pytest.fixture
def written(made: tuple[Store, WrittenPairs]) -> WrittenPairs:
    return made[1]


@pytest.fixture
def opened(made: tuple[Store, WrittenPairs]) -> OpenVersion:
    return OpenVersions(made[0]).open("photos")


def sizes(pair: TestPair) -> list[tuple[int, int]]:
    """Width and height of each picture, as Pillow reads them."""
    return [Image.open(BytesIO(picture.data)).size for picture in pair.encoded]


def texts(pair: TestPair) -> list[str]:
    return [*pair.captions.values(), *(text for _, text in pair.turns)]


def test_rows_are_the_pairs(opened: OpenVersion, written: WrittenPairs) -> None:
    rows = [row for table in opened.group_tables(PAIRS) for row in table.to_pylist()]
    assert len(rows) == COUNT == opened.manifest.num_samples == opened.manifest.num_groups
    for number, (row, pair) in enumerate(zip(rows, written.pairs, strict=True)):
        stored = pair_of(row)
        assert stored.id == str(number)
        assert dict(stored.captions) == dict(pair.captions) and dict(stored.metadata) == dict(pair.metadata)
        assert [(turn.role, turn.text) for turn in stored.turns] == list(pair.turns)
        assert [(picture.width, picture.height) for picture in stored.pictures] == sizes(pair)
        assert [picture.num_bytes for picture in stored.pictures] == [len(p.data) for p in pair.encoded]
        assert row["num_characters"] == sum(map(len, texts(pair)))


def test_sql_sees_what_was_written(opened: OpenVersion, written: WrittenPairs) -> None:
    rows = Catalog(opened.store).sql("SELECT * FROM pairs_photos ORDER BY _row").to_pylist()
    for number, (row, pair) in enumerate(zip(rows, written.pairs, strict=True)):
        found = sizes(pair)
        expected: dict[str, Any] = {
            "id": str(number),
            "num_images": len(found),
            "width": found[0][0] if found else None,
            "height": found[0][1] if found else None,
            "min_side": min(map(min, found), default=None),
            "max_aspect": max((max(size) / min(size) for size in found), default=None),
            "encoding": pair.encoded[0].encoding if found else None,
            "num_turns": len(pair.turns),
            "num_characters": sum(map(len, texts(pair))),
            "language": pair.metadata.get("language"),
            "score": pair.metadata.get("score"),
        }
        assert {name: row[name] for name in expected} == expected
        assert json.loads(row["captions"] or "{}") == dict(pair.captions)
        assert json.loads(row["turns"] or "[]") == [list(turn) for turn in pair.turns]
    names = Catalog(opened.store).sql("SELECT name, type FROM metadata_columns WHERE dataset = 'photos'")
    assert names.to_pylist() == [{"name": "language", "type": "string"}, {"name": "score", "type": "number"}]


def test_metadata_that_is_called_as_a_column_has_another_name(tmp_path: Path) -> None:
    pair = TestPair([random_picture(1)], {"caption": "x"}, metadata={"width": 9, "Height": 8, "shard": "s"})
    store = Store(tmp_path)
    write_pairs(store, "photos", [pair])
    [row] = Catalog(store).sql("FROM pairs_photos").to_pylist()
    assert (row["width"], row["metadata_width"]) == (32, 9)
    assert (row["height"], row["metadata_Height"], row["metadata_shard"], row["shard"]) == (24, 8, "s", 0)


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ("num_images > 1", lambda p: len(p.pictures) > 1),
        ("language = 'de' AND num_turns = 0", lambda p: p.metadata.get("language") == "de" and not p.turns),
        (
            "captions ->> 're_caption' LIKE '%thing 1%'",
            lambda p: "thing 1" in p.captions.get("re_caption", ""),
        ),
        (
            "encoding = 'webp' OR min_side IS NULL",
            lambda p: not p.pictures or p.encoded[0].encoding == "webp",
        ),
        ("max_aspect <= 1.2", lambda p: bool(p.pictures) and all(max(s) / min(s) <= 1.2 for s in sizes(p))),
    ],
)
def test_a_condition_selects_pairs(
    opened: OpenVersion, written: WrittenPairs, where: str, holds: Any
) -> None:
    selection = opened.select(SelectionSpec(split="all", where=where))
    expected = [bool(holds(pair)) for pair in written.pairs]
    assert selection.holds(opened.geometry).tolist() == expected and 0 < sum(expected) < COUNT
    assert selection.num_samples == sum(expected)
    dataset = PairDataset(OpenVersions(opened.store), opened.version, SelectionSpec(split="all", where=where))
    assert [int(item["id"]) for item in dataset] == [i for i, kept in enumerate(expected) if kept]


def test_conditions_that_cannot_be_are_said(opened: OpenVersion) -> None:
    with pytest.raises(UsageError, match="num_imags"):
        opened.select(SelectionSpec(split="all", where="num_imags > 1"))
    with pytest.raises(NothingSelected, match="no pairs of photos@v1 are selected"):
        opened.select(SelectionSpec(split="all", where="num_images > 16"))


def test_what_is_said_of_one_picture_is_on_one_side_of_a_split(tmp_path: Path) -> None:
    pictures = [encoded(random_picture(seed)) for seed in range(40)]
    pairs = [
        TestPair([picture], {"caption": f"{name} {i}"})
        for i, picture in enumerate(pictures)
        for name in "abc"
    ]
    store = Store(tmp_path)
    for name, order in (("one", pairs), ("other", pairs[::-1])):
        write_pairs(store, name, order, per_shard=50)
    versions, half = OpenVersions(store), SelectionSpec(split="val", val_fraction=Fraction(1, 2))
    first = versions.open("one").select(half).holds(versions.open("one").geometry)
    assert (first.reshape(40, 3).sum(axis=1) % 3 == 0).all() and 20 < first.sum() < 100
    second = versions.open("other").select(half).holds(versions.open("other").geometry)
    assert second.tolist() == first[::-1].tolist()


def test_rows_lie_where_the_geometry_says(opened: OpenVersion) -> None:
    groups = opened.geometry
    assert groups.shard_E.tolist() == [0] * 64 + [1] * 64 + [2] * 22
    assert groups.start_E.tolist() == [*range(64), *range(64), *range(22)]
    assert (groups.length_E == 1).all() and groups.num_groups == COUNT
    shard_n, row_n = opened.select(SelectionSpec(split="all")).locate(np.arange(COUNT))
    assert shard_n.tolist() == groups.shard_E.tolist() and row_n.tolist() == groups.start_E.tolist()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(1, 9999), st.integers(1, 9999)), max_size=3), max_size=8),
    st.integers(1, 4),
)
def test_measures_of_pictures(pairs: list[list[tuple[int, int]]], chunks: int) -> None:
    rows = [
        {"width": [w for w, _ in pair], "height": [h for _, h in pair], "encoding": ["jpg"] * len(pair)}
        for pair in pairs
    ]
    columns = pa.schema([PAIRS_SCHEMA.field(name) for name in ("width", "height", "encoding")])
    bounds = np.linspace(0, len(rows), chunks + 1).astype(int)
    parts = [rows[begin:end] for begin, end in zip(bounds, bounds[1:], strict=False)]
    measures = measures_of(pa.concat_tables(pa.Table.from_pylist(part, schema=columns) for part in parts))
    assert measures.num_images_E.tolist() == [len(pair) for pair in pairs]
    assert measures.width_E.to_pylist() == [pair[0][0] if pair else None for pair in pairs]
    assert measures.height_E.to_pylist() == [pair[0][1] if pair else None for pair in pairs]
    assert measures.min_side_E.to_pylist() == [min(map(min, pair), default=None) for pair in pairs]
    aspects = [max((max(size) / min(size) for size in pair), default=None) for pair in pairs]
    assert measures.max_aspect_E.to_pylist() == aspects
    assert measures.encoding_E.to_pylist() == ["jpg" if pair else None for pair in pairs]


def test_lists_enter_a_digest_as_documented() -> None:
    """Written out by hand from docs/format.md."""
    parts = ([[1, None]], [None, []])
    column = pa.chunked_array([pa.array(part, pa.list_(pa.int32())) for part in parts])
    lengths = b"".join(number.to_bytes(8, "little") for number in (2, 0, 0))
    children = b"\x01\x00" + (1).to_bytes(4, "little") + bytes(4)
    by_hand = sha256(b"\x01\x00\x01" + lengths + children).hexdigest()
    expected = digest_of({"columns": [{"name": "x", "type": "list<int32>", "sha256": by_hand}], "rows": 3})
    table = pa.table({"x": column})
    assert table_digest(table) == table_digest(table.combine_chunks()) == expected
    sliced = pa.table({"x": pa.array([[7], [1, None], None, []], pa.list_(pa.int32()))}).slice(1)
    assert table_digest(sliced) == expected
    kinds = (pa.list_(pa.string()), pa.large_list(pa.large_string()))
    small, large = (table_digest(pa.table({"x": pa.array([["a", ""], [], ["bc"]], kind)})) for kind in kinds)
    assert small == large != table_digest(pa.table({"x": [["a"], ["", "bc"], []]}))


def test_statistics_are_those_of_the_values(opened: OpenVersion, written: WrittenPairs) -> None:
    shown = opened.kind.distributions(opened, None)
    found = {(number.of, number.name): number.digest for number in shown.numbers}
    pictures = [size for pair in written.pairs for size in sizes(pair)]
    lengths: dict[str, list[int]] = {}
    for pair in written.pairs:
        for name, text in pair.captions.items():
            lengths.setdefault(name, []).append(len(text))
    talks = [pair.turns for pair in written.pairs if pair.turns]
    expected: dict[tuple[str, str], list[float]] = {
        ("pair", "pictures"): [len(pair.pictures) for pair in written.pairs],
        ("pair", "characters"): [sum(map(len, texts(pair))) for pair in written.pairs],
        ("picture", "width"): [w for w, _ in pictures],
        ("picture", "height"): [h for _, h in pictures],
        ("picture", "aspect"): [w / h for w, h in pictures],
        ("picture", "bytes"): [len(p.data) for pair in written.pairs for p in pair.encoded],
        ("conversation", "turns"): [len(turns) for turns in talks],
        ("conversation", "answer"): [len(t) for turns in talks for role, t in turns if role == "assistant"],
        **{("caption", name): values for name, values in lengths.items()},
    }
    assert set(found) == set(expected)
    for key, values in expected.items():
        digest = found[key]
        assert (digest.count, digest.min, digest.max) == (len(values), min(values), max(values)), key
        np.testing.assert_allclose([digest.mean, digest.std], [np.mean(values), np.std(values)])
        # Fewer values than a digest keeps exactly: shares are those of the values.
        at = np.percentile(values, [10, 50, 90])
        shares = [np.mean(np.array(values) <= x) for x in at]
        np.testing.assert_allclose(digest.cdf(at), shares, err_msg=str(key))
    assert shown.counts["encoding"] == Counter(p.encoding for pair in written.pairs for p in pair.encoded)
    assert shown.counts["caption"] == {name: len(values) for name, values in lengths.items()}
    assert shown.counts["language"] == Counter(p.metadata["language"] for p in written.pairs if p.metadata)


def test_parts_merge_in_any_order_and_survive_json(opened: OpenVersion) -> None:
    parts = [Measured.of(table) for table in opened.group_tables(PAIRS)]
    again = [Measured.from_json(json.loads(json.dumps(part.to_json()))) for part in reversed(parts)]
    assert Measured.merge_all(parts).summary() == Measured.merge_all(again).summary()
    assert Measured.merge_all([]).summary()["numbers"] == []


def test_names_beyond_the_most_frequent_are_counted_together(tmp_path: Path) -> None:
    numbers = [*range(MOST_NAMES + 5), 0, 1, 2]
    pairs = [TestPair(captions={f"caption_{n:03d}": "x" * n}) for n in numbers]
    store = Store(tmp_path)
    write_pairs(store, "names", pairs, per_shard=100)
    [table] = OpenVersions(store).open("names").group_tables(PAIRS)
    measured = Measured.of(table)
    assert len(measured.counts["caption"]) == MOST_NAMES + 1
    assert (measured.counts["caption"]["caption_001"], measured.counts["caption"][OTHERS]) == (2, 5)
    assert measured.digests["caption", OTHERS].max == MOST_NAMES + 4


def test_show_tells_what_ingest_measured(opened: OpenVersion) -> None:
    """As a manifest that has it says it; `write_pairs` writes none."""
    summary = Measured.merge_all(map(Measured.of, opened.group_tables(PAIRS))).summary()
    told = summary | {"filtered": {"min_side": 7, "language": 1200}}
    object.__setattr__(opened.manifest, "provenance", {MEASURED: told})
    head = describe(opened).head
    pictures = sum(summary["encoding"].values())
    assert head[0][0] == "pictures" and head[0][1].startswith(f"{pictures:,}, ") and "webp" in head[0][1]
    assert ("caption", "caption: 60 of 9 to 11 (median 10) characters") in head
    assert ("languages", "60 de, 60 en") in head
    assert ("filtered", "1,200 language, 7 min_side") in head


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def test_commands_tell_of_pairs(tmp_path: Path, shell: Shell) -> None:
    store = Store(tmp_path)
    write_pairs(store, "photos", some_pairs(COUNT))
    write_pairs(store, "more", some_pairs(20, seed=7))
    rows = {row["dataset"]: row for row in shell.json(tmp_path, "ls")["datasets"]}
    assert (rows["photos"]["kind"], rows["photos"]["pairs"], rows["photos"]["samples"]) == (
        "pairs",
        COUNT,
        COUNT,
    )
    shown = shell.json(tmp_path, "show", "photos")
    assert shown["counts"]["pairs"] == COUNT == shown["pairs"]["count"]
    assert shown["shards"][0]["num_pairs"] == 64
    code, out, _ = shell(tmp_path, "show", "photos")
    assert code == 0 and "150 in 3 shards" in out and "0 duplicates, 0 filtered" in out and "score" in out
    stats = shell.json(tmp_path, "stats", "photos")
    assert [row for row in stats["counts"] if row["counted"] == "caption"] == [
        {"counted": "caption", "name": "caption", "count": 60},
        {"counted": "caption", "name": "re_caption", "count": 30},
    ]
    code, out, _ = shell(tmp_path, "stats", "photos", "--stream", "caption")
    assert code == 0 and "re_caption" in out and "picture" not in out and "encoding" not in out
    code, _, err = shell(tmp_path, "stats", "photos", "--stream", "captoin")
    assert code == 2 and "no numbers of 'captoin', did you mean 'caption'?" in err
    code, _, err = shell(tmp_path, "stats", "photos", "-r", "relative_tool")
    assert code == 1 and "'photos' holds pairs, not robot data" in err
    code, _, err = shell(tmp_path, "stats", "photos", "--horizon", "3")
    assert code == 2 and "is of training chunks" in err


def test_mixtures_of_pairs(tmp_path: Path, shell: Shell) -> None:
    store = Store(tmp_path)
    write_pairs(store, "photos", some_pairs(COUNT))
    write_pairs(store, "more", some_pairs(50, seed=7))
    mixture = make_mixture(store, {"photos": "2/3", "more": "1/3"}, split="all")
    commit_mixture(mixture, "blend")
    code, out, err = shell(tmp_path, "mix", "--weights", "photos=0.5,more=0.5", "--dry-run")
    assert code == 0, err
    stats = shell.json(tmp_path, "stats", "blend")
    counted = {row["dataset"]: row["count"] for row in stats["numbers"] if row["number"] == "width"}
    named = {(row["dataset"], row["name"]): row["count"] for row in stats["counts"]}
    for name, pairs in (("photos", some_pairs(COUNT)), ("more", some_pairs(50, seed=7))):
        opened = OpenVersions(store).open(name)
        trained = np.flatnonzero(opened.select().holds(opened.geometry))  # of a mixture, what trains
        assert counted[name] == sum(len(pairs[i].pictures) for i in trained)
        captions = Counter(caption for i in trained for caption in pairs[i].captions)
        assert {caption: named[name, caption] for caption in captions} == captions
    [validated, *parts] = shell.json(tmp_path, "validate", "blend")["versions"]
    assert validated["checked"] == {"components": 2} and len(parts) == 2


def test_a_dataset_gives_pixels_and_texts(opened: OpenVersion, written: WrittenPairs) -> None:
    dataset = robot_foundry.open("photos", opened.store.url)
    assert isinstance(dataset, PairDataset)
    assert len(dataset) == COUNT and repr(dataset) == "PairDataset(photos@v1, 150 pairs)"
    for i in (0, 1, 2, 3, 4, 63, 64, 149, -1):
        item, pair = dataset[i], written.pairs[i]
        assert item["id"] == str(i % COUNT) and item["file"] == "pairs"
        assert item["captions"] == dict(pair.captions) and item["metadata"] == dict(pair.metadata)
        assert [(turn.role, turn.text) for turn in item["turns"]] == list(pair.turns)
        for pixels, alone, picture in zip(item["pictures"], dataset.pictures(i), pair.encoded, strict=True):
            by_pillow = np.asarray(Image.open(BytesIO(picture.data)).convert("RGB"))
            assert np.abs(pixels.astype(int) - by_pillow).max() <= (2 if picture.encoding == "jpg" else 0)
            assert np.array_equal(pixels, alone)
        assert dict(dataset.pair(i).captions) == item["captions"]
    for wrong in (COUNT, -COUNT - 1):
        with pytest.raises(IndexError, match=f"there is no pair {wrong}"):
            dataset[wrong]
    for odd in (True, "1", 1.0):
        with pytest.raises(UsageError, match="asked for by a whole number"):
            dataset[odd]  # type: ignore[index]


def test_an_adopted_tar_has_no_rows_and_gives_its_pictures(tmp_path: Path) -> None:
    store, pairs, tar = write_adopted(tmp_path)
    versions = OpenVersions(store)
    opened = versions.open("foreign")
    assert [(entry.key, entry.num_groups) for entry in opened.manifest.shards][-1] == ("far", 0)
    assert opened.geometry.num_groups == len(pairs) and set(opened.geometry.shard_E.tolist()) == {0, 1}
    dataset = PairDataset(versions, opened.version)
    for item, pair in zip(dataset, pairs, strict=True):
        for pixels, picture in zip(item["pictures"], pair.encoded, strict=True):
            assert np.array_equal(pixels, np.asarray(Image.open(BytesIO(picture.data))))
    tar.rename(tar.with_name("moved.tar"))
    with pytest.raises(FoundryError, match="the adopted tar .* is missing"):
        PairDataset(OpenVersions(store), opened.version)[1]
    assert PairDataset(OpenVersions(store), opened.version).pair(1).captions == {"caption": "1"}
