"""Pairs go into shards whole: pictures as they are, every pair counted once, and what the spec asks for.

What is expected is told from the source, and read back from the tars with tarfile and json.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from foundry_testing.pair_ingests import (
    DATASET,
    SMALL,
    Sample,
    ingest,
    manifest_of,
    picture,
    some_samples,
    stored,
    write_tar,
)
from foundry_testing.pair_sources import OF_CAPTIONS
from foundry_testing.pairs import some_pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from robot_foundry.cli.data.ingest import command
from robot_foundry.ingest.pairs import pictures as pairs_pictures
from robot_foundry.runtime.errors import FoundryError

# After 20 good ones: copies of two, and what cannot be taken.
COPIES = [Sample(f"copy{s.name}", s.pictures, told=s.told) for s in some_samples(2)]
BROKEN = [
    Sample("cut", {"jpg": picture(50, (200, 200))[:-400]}, "it ends early"),
    Sample("gif", {"jpg": picture(51, name="GIF")}, "it moves"),
    Sample("none", {}, "no picture"),
    Sample("silent", {"png": picture(52, name="PNG")}, told={"caption": None}),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    write_tar(folder / "00000.tar", [*some_samples(20), *COPIES, *BROKEN])
    write_tar(folder / "more" / "00001.tar", [*some_samples(5, 10), *some_samples(10, 100)])
    return folder


# Of `source`: 20 + 10 pairs that are not alike; copies are 2 in the first tar, 5 in the second.
WRITTEN, DUPLICATES, REFUSED = 30, 7, 4


def of_sizes(sizes: dict[str, tuple[int, int]]) -> list[Sample]:
    """A pair by name with a PNG of each size."""
    pictures = {name: picture(seed, size, "PNG") for seed, (name, size) in enumerate(sizes.items())}
    return [Sample(name, {"png": data}, name) for name, data in pictures.items()]


def test_every_pair_is_there_once_with_the_bytes_of_its_pictures(source, tmp_path):
    report = ingest(source, tmp_path)
    found = stored(tmp_path, report)
    expected = {
        **{("00000.tar", s.name): s for s in some_samples(20)},
        **{("more/00001.tar", s.name): s for s in some_samples(10, 100)},
    }
    assert {(pair.file, pair.id) for pair in found} == set(expected) and len(found) == len(expected)
    for pair in found:
        sample = expected[pair.file, pair.id]
        assert isinstance(sample.told, dict)
        assert list(pair.pictures) == list(sample.pictures.values())
        assert pair.said["captions"] == {"caption": sample.told["caption"]} and pair.said["turns"] == []
        assert pair.said["metadata"] == {name: sample.told[name] for name in ("language", "score")}
        entry = pair.said["pictures"][0]
        with Image.open(io.BytesIO(pair.pictures[0])) as image:
            assert (entry["width"], entry["height"]) == image.size


def test_what_went_in_is_what_came_out_was_refused_or_repeated(source, tmp_path):
    report = ingest(source, tmp_path)
    manifest = manifest_of(tmp_path, report)
    counts = {"discovered": 41, "written": WRITTEN, "quarantined": REFUSED, "duplicates": DUPLICATES}
    counts |= {"filtered": 0, "pairs": WRITTEN}
    assert {name: manifest["counts"][name] for name in counts} == counts
    assert sum(shard["num_pairs"] for shard in manifest["shards"]) == WRITTEN
    assert {entry.unit: entry.reason for entry in report.refused} == {
        "00000.tar#cut": "its picture is a JPEG that is damaged or cut off",
        "00000.tar#gif": "its picture is a GIF, and JPEG, PNG and WebP are taken",
        "00000.tar#none": "it has no picture (members: txt)",
        "00000.tar#silent": report.refused[-1].reason,
    }


def test_tables_tell_of_the_pairs_in_their_order(source, tmp_path):
    report = ingest(source, tmp_path)
    folder = tmp_path / "datasets" / DATASET / report.version.version_id
    blocks = pa.ipc.open_file(folder / "blocks.arrow").read_all().to_pylist()
    rows = []
    for ordinal, shard in enumerate(manifest_of(tmp_path, report)["shards"]):
        table = pa.ipc.open_file(folder / "pairs" / f"{shard['key']}.arrow").read_all()
        here = [block for block in blocks if block["shard"] == ordinal]
        rows += [{"file": here[row["block"]]["file"], **row} for row in table.to_pylist()]
    found = stored(tmp_path, report)
    assert [(row["file"], row["id"], row["key"]) for row in rows] == [(p.file, p.id, p.key) for p in found]
    assert [json.loads(row["captions"]) for row in rows] == [p.said["captions"] for p in found]
    assert [row["image_bytes"] for row in rows] == [[len(data) for data in p.pictures] for p in found]
    assert len({row["content_hash"] for row in rows}) == len(rows)


def test_duplicates_stay_where_that_is_asked_for(source, tmp_path):
    report = ingest(source, tmp_path, "content.deduplicate=false")
    assert (report.written, report.counts["duplicates"]) == (WRITTEN + DUPLICATES, 0)
    assert report.discovered == 41


@settings(deadline=None, max_examples=15)
@given(
    tars=st.lists(
        st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.booleans()), min_size=1, max_size=8),
        min_size=1,
        max_size=3,
    )
)
def test_of_equal_pairs_the_first_stays(tmp_path_factory, tars):
    """Equal are pairs with equal pictures, in their order, and equal texts; metadata do not matter."""
    folder = tmp_path_factory.mktemp("pairs")
    pictures = [picture(seed, (8, 8), "PNG") for seed in range(4)]
    seen: set[tuple[int, str, bool]] = set()
    expected = []
    for number, contents in enumerate(tars):
        samples = []
        for index, (seed, text, has_two) in enumerate(contents):
            own = {"0.png": pictures[seed], "1.png": pictures[3]} if has_two else {"png": pictures[seed]}
            samples.append(Sample(f"{index}", own, told={"caption": text, "n": index}))
            if (seed, text, has_two) not in seen:
                seen.add((seed, text, has_two))
                expected.append((f"{number}.tar", f"{index}"))
        write_tar(folder / "raw" / f"{number}.tar", samples)
    report = ingest(folder / "raw", folder / "store")
    assert sorted((pair.file, pair.id) for pair in stored(folder / "store", report)) == sorted(expected)
    assert report.counts["duplicates"] == sum(map(len, tars)) - len(expected)


def test_filters_leave_out_by_rule_and_keep_what_is_on_the_edge(tmp_path):
    sizes = {"edge": (20, 60), "thin": (20, 61), "short": (19, 30), "large": (40, 31), "fine": (35, 35)}
    samples = [
        Sample(name, {"png": picture(n, size, "PNG")}, name) for n, (name, size) in enumerate(sizes.items())
    ]
    write_tar(tmp_path / "source" / "a.tar", samples)
    rules = ("content.min_side=20", "content.max_aspect=3", "content.max_pixels=1230")
    report = ingest(tmp_path / "source", tmp_path / "store", *rules)
    assert {pair.id for pair in stored(tmp_path / "store", report)} == {"edge", "fine"}
    assert (report.counts["filtered"], report.discovered) == (3, 5)
    told = manifest_of(tmp_path / "store", report)["provenance"]["pairs"]
    assert told["filtered"] == {"max_aspect": 1, "min_side": 1, "max_pixels": 1}


def test_a_tar_of_which_nothing_is_left_counts_all_the_same(tmp_path):
    write_tar(tmp_path / "source" / "a.tar", some_samples(4))
    tiny = [Sample(f"{n}", {"png": picture(n, (4, 4), "PNG")}, "tiny") for n in range(3)]
    write_tar(tmp_path / "source" / "b.tar", tiny)
    report = ingest(tmp_path / "source", tmp_path / "store", "content.min_side=5")
    assert (report.written, report.counts["filtered"], report.discovered) == (4, 3, 7)
    assert manifest_of(tmp_path / "store", report)["provenance"]["pairs"]["filtered"] == {"min_side": 3}


def test_headers_alone_are_read_where_that_is_asked_for(tmp_path):
    cut = picture(50, (200, 200))[:-400]
    write_tar(tmp_path / "source" / "a.tar", [*some_samples(3), Sample("cut", {"jpg": cut}, "it ends early")])
    assert ingest(tmp_path / "source", tmp_path / "decoded").written == 3
    report = ingest(tmp_path / "source", tmp_path / "store", "content.verify=header")
    assert report.written == 4 and cut in [pair.pictures[0] for pair in stored(tmp_path / "store", report)]


def test_only_pictures_that_are_larger_are_encoded_anew(tmp_path):
    sizes = {"wide": (30, 90), "high": (101, 50), "edge": (48, 20), "small": (10, 10)}
    samples = [
        Sample(name, {"png": picture(n, size, "PNG")}, name) for n, (name, size) in enumerate(sizes.items())
    ]
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn clockwise
    samples.append(Sample("turned", {"jpg": picture(9, (40, 96), exif=turned)}, "turned"))
    write_tar(tmp_path / "source" / "a.tar", samples)
    report = ingest(tmp_path / "source", tmp_path / "store", "content.resize=48", "content.quality=100")
    found = {pair.id: pair for pair in stored(tmp_path / "store", report)}
    by_name = {sample.name: list(sample.pictures.values()) for sample in samples}
    for name in ("edge", "small"):
        assert list(found[name].pictures) == by_name[name]
    for name, size in {"wide": (48, 16), "high": (24, 48), "turned": (20, 48)}.items():
        with Image.open(io.BytesIO(found[name].pictures[0])) as image:
            assert (image.size, image.format) == (size, "JPEG")
            pixels = np.asarray(image.convert("RGB")).astype(int)
        entry = found[name].said["pictures"][0]
        assert (entry["width"], entry["height"], entry["encoding"]) == (*size, "jpg")
        with Image.open(io.BytesIO(by_name[name][0])) as image:
            upright = image.transpose(Image.Transpose.ROTATE_270) if name == "turned" else image
            expected = np.asarray(upright.convert("RGB").resize(size, Image.Resampling.BICUBIC)).astype(int)
        assert np.abs(pixels - expected).mean() < 2.5


def test_codecs_decide_the_names_of_shards_only_where_they_encode(source, tmp_path, monkeypatch):
    def keys(store: Path, *overrides: str) -> list[str]:
        return [shard["key"] for shard in manifest_of(store, ingest(source, store, *overrides))["shards"]]

    plain, small = keys(tmp_path / "a"), keys(tmp_path / "b", "content.resize=16")
    monkeypatch.setattr(pairs_pictures.images, "codec_versions", lambda: {"libjpeg": "another"})
    assert keys(tmp_path / "c") == plain
    assert not set(keys(tmp_path / "d", "content.resize=16")) & set(small)


def test_captions_that_are_asked_for_are_taken_alone_and_absent_ones_told(tmp_path):
    told = {"caption": "plain", "re_caption": "in many words"}
    write_tar(tmp_path / "source" / "a.tar", [Sample("1", {"png": picture(1, name="PNG")}, told=told)])
    report = ingest(tmp_path / "source", tmp_path / "store", "content.captions=[re_caption, re_captoin]")
    (pair,) = stored(tmp_path / "store", report)
    assert pair.said["captions"] == {"re_caption": "in many words"}
    absent = "content.captions names 're_captoin', which no pair has, did you mean 're_caption'?"
    assert absent in report.warnings
    again = ingest(tmp_path / "source", tmp_path / "store", "content.captions=[re_caption, re_captoin]")
    assert again.noop and again.warnings == report.warnings


def test_where_filters_leave_nothing_the_error_says_so(tmp_path):
    samples = [Sample("a", {"jpg": picture(1)}, "small"), Sample("b", {}, "no picture")]
    write_tar(tmp_path / "source" / "a.tar", samples)
    with pytest.raises(
        FoundryError, match="nothing was written, 1 unit was refused: .*; left out: 1 filtered"
    ):
        ingest(tmp_path / "source", tmp_path / "store", "content.min_side=100")
    write_tar(tmp_path / "source" / "a.tar", samples[:1])
    with pytest.raises(FoundryError, match="nothing was written, left out: 1 filtered"):
        ingest(tmp_path / "source", tmp_path / "store", "content.min_side=100")


def test_conversations_need_answers(tmp_path):
    def told(*turns: tuple[str, str]) -> dict[str, object]:
        return {"conversations": [{"from": role, "value": text} for role, text in turns]}

    one = {"png": picture(1, name="PNG")}
    samples = [
        Sample("good", one, told=told(("human", "<image>\nWhat?"), ("gpt", "A cup."))),
        Sample("asks", one, told=told(("human", "<image>\nWhat?"))),
        Sample("empty", one, told=told(("human", "<image>\nWhat?"), ("gpt", " "))),
    ]
    write_tar(tmp_path / "source" / "a.tar", samples)
    report = ingest(tmp_path / "source", tmp_path / "store")
    (pair,) = stored(tmp_path / "store", report)
    assert pair.said["turns"] == [["user", "<image>\nWhat?"], ["assistant", "A cup."]]
    assert {entry.unit: entry.reason for entry in report.refused} == {
        "a.tar#asks": "its conversation has no answer of an assistant",
        "a.tar#empty": "an answer in its conversation is empty",
    }


def test_adopted_tars_stay_where_they_are_and_give_the_same_pairs(source, tmp_path):
    report = ingest(source, tmp_path / "b", "content.adopt=true")
    copied, adopted = (
        sorted(stored(store, made), key=lambda pair: (pair.file, pair.id))
        for store, made in ((tmp_path / "a", ingest(source, tmp_path / "a")), (tmp_path / "b", report))
    )
    assert [(p.file, p.id, p.pictures) for p in adopted] == [(p.file, p.id, p.pictures) for p in copied]
    for mine, other in zip(adopted, copied, strict=True):
        assert {**mine.said, "pictures": 0} == {**other.said, "pictures": 0}
        assert [entry["hash"] for entry in mine.said["pictures"]] == [
            entry["hash"] for entry in other.said["pictures"]
        ]
    tars = sum(path.stat().st_size for path in (tmp_path / "b" / "shards").rglob("*.tar"))
    assert tars < sum(path.stat().st_size for path in (tmp_path / "a" / "shards").rglob("*.tar"))
    assert (report.written, report.counts["duplicates"]) == (WRITTEN, DUPLICATES)


def test_what_is_no_tar_cannot_be_adopted(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "1.png").write_bytes(picture(1, name="PNG"))
    (tmp_path / "source" / "a.jsonl").write_text('{"image": "1.png", "caption": "a"}\n')
    with pytest.raises(FoundryError, match="it cannot be adopted: it is no tar; without content.adopt it is"):
        ingest(tmp_path / "source", tmp_path / "store", "content.adopt=true")


def test_a_strict_run_commits_nothing(source, tmp_path):
    with pytest.raises(FoundryError, match="4 units were refused and 3 allowed: 00000.tar#"):
        ingest(source, tmp_path, max_errors=3)
    assert not (tmp_path / "datasets").exists()


def test_the_command_tells_of_pairs_and_dry_runs(source, tmp_path):
    options = [option for override in SMALL for option in ("--set", override)]
    given = ["pairs", str(source), "--as", DATASET, "--store", str(tmp_path), *options]
    shown = CliRunner().invoke(command, [*given, "--dry-run", "--set", "content.max_aspect=1.2"])
    assert shown.exit_code == 0, shown.output
    assert "content.max_aspect leaves out 37; nothing of the first units is left" in shown.stdout
    shown = CliRunner().invoke(command, [*given, "--dry-run"])
    assert shown.exit_code == 0, shown.output
    for line in (
        "the first says: 'thing 0'",
        "captions: caption",
        "metadata: language (string), score (number)",
        "duplicates: 7 pairs are left out",
        "pictures of the first 22: 8 jpg, 8 png, 6 webp, with sides of 24 to 32 pixels",
    ):
        assert line in shown.stdout
    assert "Warning: 00000.tar#gif: its picture is a GIF, and JPEG, PNG and WebP are taken" in shown.stderr
    assert not (tmp_path / "shards").exists() and not (tmp_path / "datasets").exists()
    shown = CliRunner().invoke(command, given)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("photos@v1: 30 pairs, ") and "30 pairs, 30 pairs" not in shown.stdout
    counts = "41 units discovered = 30 written + 4 quarantined + 7 duplicates + 0 filtered"
    assert counts in shown.stdout
    assert "  00000.tar#cut: its picture is a JPEG that is damaged or cut off" in shown.stderr


@pytest.mark.parametrize("layout", OF_CAPTIONS)
def test_every_layout_becomes_the_same_pairs(layout, tmp_path):
    pairs = [pair for pair in some_pairs(30) if list(pair.captions) == ["caption"]]
    (tmp_path / "source").mkdir()
    OF_CAPTIONS[layout](tmp_path / "source", pairs)
    report = ingest(tmp_path / "source", tmp_path / "store")
    found = [(p.pictures, p.said["captions"]) for p in stored(tmp_path / "store", report)]
    assert sorted(found, key=str) == sorted((((p.encoded[0].data,), p.captions) for p in pairs), key=str)
    assert (report.refused, report.discovered, len(pairs)) == ((), 6, 6)


def test_a_dry_run_looks_at_no_more_than_the_first_pairs_that_are_broken(tmp_path):
    (tmp_path / "pic.jpg").write_bytes(picture(1))
    names = [f"none_{number}.jpg" for number in range(1000)]
    lines = [json.dumps({"image": name, "caption": "a square"}) for name in (*names, "pic.jpg")]
    given = ["pairs", str(tmp_path / "x.jsonl"), "--store", str(tmp_path / "store"), "--as", "x", "--dry-run"]
    (tmp_path / "x.jsonl").write_text("\n".join(lines[1:]))
    assert "the first says: 'a square'" in CliRunner().invoke(command, given).stdout
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    shown = CliRunner().invoke(command, given)
    assert shown.exit_code == 0 and "none of the first pairs could be read" in shown.stdout
