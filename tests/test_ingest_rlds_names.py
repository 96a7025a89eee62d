"""Files of TFDS directories under unusual names, without the empty ones, and what looks like gzip."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from foundry_testing import rlds_directories
from foundry_testing.rlds_directories import SPEC, STEP, Directory, framed, ingested
from tensorflow_datasets.core import features as tfds

from robot_foundry.ingest.engine import run
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime import files
from robot_foundry.runtime.errors import FoundryError, UsageError


def directory(root, *names, records=1, lengths=None, **info):
    """A file of `records` episodes under each name, and dataset_info.json of the split `train`."""
    made = Directory(root)
    made.write("train", lengths=lengths or [records] * len(names))
    told = json.loads((made.folder / "dataset_info.json").read_text())
    told["splits"][0] |= info
    (made.folder / "dataset_info.json").write_text(json.dumps(told))
    for number, name in enumerate(names):
        episodes = [
            made.record([rlds_directories.step(t, 2, 10 * number + seed) for t in range(2)])
            for seed in range(records)
        ]
        (made.folder / name).write_bytes(b"".join(map(framed, episodes)))
    return made


@pytest.mark.parametrize(
    "names",
    [
        ["toy-train.tfrecord"],
        ["train.tfrecord"],
        ["my-toy-train.tfrecord"],
        ["train.tfrecord-00000-of-00001"],
        ["train.tfrecord-00000-of-00002", "train.tfrecord-00001-of-00002"],
        ["toy-train-00000-of-00002.tfrecord", "toy-train-00001-of-00002.tfrecord"],
    ],
)
def test_names_that_dataset_info_explains_are_read(tmp_path, names):
    report = ingested(directory(tmp_path / "source", *names), tmp_path / "store")
    assert (report.written, report.quarantined) == (len(names), ())
    assert not any("the source" in told for told in report.warnings)


def test_a_template_of_names_is_followed(tmp_path):
    names = [f"part_{number:05d}.train.tfrecord" for number in range(2)]
    made = directory(tmp_path / "source", *names, filepathTemplate="part_{SHARD_INDEX}.{SPLIT}.{FILEFORMAT}")
    assert ingested(made, tmp_path / "store").written == 2


def test_split_names_with_hyphens_are_known_from_dataset_info(tmp_path):
    made = directory(tmp_path / "source")
    record = [made.record([rlds_directories.step(0, 1)])]
    made.splits.clear()
    made.write("pick-place", record)
    report = ingested(made, tmp_path / "store")
    no_rate = "1 of 1 episodes tells no rate, so 20 Hz is taken: --set content.fps=… says it"
    assert (report.written, report.warnings) == (1, (no_rate,))


def test_without_features_or_split_the_reason_is_told(tmp_path):
    made = directory(tmp_path / "source", "toy-train.tfrecord", "toy-test.tfrecord", lengths=[1])
    report = ingested(made, tmp_path / "store")
    ((unit, reason),) = report.quarantined
    assert unit.endswith("toy-test.tfrecord") and reason.endswith("has no split 'test' (splits: train)")
    (made.folder / "features.json").unlink()
    with pytest.raises(FoundryError, match=r"no features\.json beside it"):
        ingested(made, tmp_path / "other")


def test_two_names_of_one_file_of_a_split_contradict(tmp_path):
    made = directory(
        tmp_path / "source", "toy-train.tfrecord", "toy-train.tfrecord-00000-of-00001", lengths=[1]
    )
    report = ingested(made, tmp_path / "store")
    ((unit, reason),) = report.quarantined
    assert unit.endswith("toy-train.tfrecord") and report.written == 1
    assert reason == "'toy-train.tfrecord-00000-of-00001' is file 0 of the split 'train' too: move one away"


def test_a_folder_is_listed_once_until_a_name_in_it_changes(tmp_path, monkeypatch):
    names = [f"toy-train-{number:05d}-of-00004.tfrecord" for number in range(4)]
    made = directory(tmp_path / "source", *names)
    matching, listed = files.matching, []
    monkeypatch.setattr(files, "matching", lambda *asked: listed.append(asked[0]) or matching(*asked))
    assert ingested(made, tmp_path / "store").written == 4
    assert listed.count(str(made.folder)) == 1
    usual = "toy-train.tfrecord-00000-of-00004"
    (made.folder / usual).write_bytes((made.folder / names[0]).read_bytes())
    ((unit, reason),) = ingested(made, tmp_path / "other").quarantined
    assert unit.endswith(names[0]) and reason.startswith(f"'{usual}' is file 0 of the split 'train' too")


def of_five(*numbers):
    return [f"toy-train.tfrecord-{number:05d}-of-00005" for number in numbers]


@pytest.mark.parametrize("only", ["**/*", "**/*-00002-of-*"])
def test_empty_files_that_were_left_out_are_not_missed(tmp_path, only):
    made = directory(tmp_path / "source", *of_five(0, 2, 4), records=2)
    path = tmp_path / "own.yaml"
    path.write_text(SPEC)
    report = run(load_spec(path), str(made.root / only), store=tmp_path / "store", name="toy")
    assert report.written == (6 if only == "**/*" else 2)
    missing = [told for told in report.warnings if "files of the split" in told]
    assert len(missing) == (only != "**/*") and not report.quarantined


@pytest.mark.parametrize(
    ("numbers", "lengths", "reason"),
    [
        (
            (0, 2),
            [1, 1, 1],
            "tells of 3 files of the split 'train', the file's name of 5, and 2 are here: fetch",
        ),
        ((0, 1, 2, 3), [1, 1, 1], "the file's name of 5, and 4 are here"),
        ((0, 2, 4), [1, 2, 1], "says 2 records if the files that are not here are empty, and it has 1"),
    ],
)
def test_what_contradicts_dataset_info_is_refused_with_the_way_out(tmp_path, numbers, lengths, reason):
    made = directory(tmp_path / "source", *of_five(*numbers), lengths=lengths)
    try:
        told = [why for _, why in ingested(made, tmp_path / "store").quarantined]
    except FoundryError as error:
        told = [error.message]
    assert any(reason in why for why in told)
    (made.folder / "dataset_info.json").unlink()
    assert ingested(made, tmp_path / "counted").written == len(numbers)


def test_a_length_with_its_checksum_is_before_what_looks_like_gzip(tmp_path):
    steps = {**STEP, "blob": tfds.Tensor(shape=(4096,), dtype=np.uint8)}
    made = Directory(tmp_path / "source", steps)
    # A record of 0x…8b1f bytes: the text of one step is as long as it takes.
    wanted = 0x28B1F

    def record(length):
        step = {
            **rlds_directories.step(0, 1),
            "blob": np.zeros(4096, np.uint8),
            "language_instruction": "x" * length,
        }
        return made.record([step])

    length = wanted - len(record(0))
    while (size := len(record(length))) != wanted:
        length += wanted - size
    made.write("train", [record(length), record(3)])
    path = made.folder / "toy-train.tfrecord-00000-of-00001"
    assert path.read_bytes()[:2] == b"\x1f\x8b"
    assert ingested(made, tmp_path / "store").written == 2
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(FoundryError, match="compressed with gzip as a whole"):
        ingested(made, tmp_path / "other")


def test_files_of_records_of_other_kinds_are_no_rlds(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "notes.txt").write_text("none")
    path = tmp_path / "own.yaml"
    path.write_text(SPEC)
    with pytest.raises(UsageError, match="holds no file of the layout rlds"):
        run(load_spec(path), source, store=tmp_path / "store", name="toy")
