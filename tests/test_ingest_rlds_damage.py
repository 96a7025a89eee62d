"""Every way in which a TFDS directory can be wrong: damage, counts that disagree, random changes.

Legend: T steps.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
from foundry_testing.rlds_directories import STEP, Directory, encoded, framed, ingested, picture, simple, step
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_datasets.core import features as tfds

from robot_foundry.ingest.sources import Refused
from robot_foundry.ingest.sources.rlds.features import Example, read_features
from robot_foundry.ingest.sources.rlds.tfrecord import find_records, read_record
from robot_foundry.runtime.errors import FoundryError


def damaged(made, change):
    """Rewrite the only file of records through `change(bytes)`."""
    path = made.folder / "toy-train.tfrecord-00000-of-00001"
    path.write_bytes(change(path.read_bytes()))


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]


def test_a_damaged_record_is_quarantined_by_name_and_the_rest_goes_on(tmp_path):
    made = simple(tmp_path / "source", 2, 2, 2)
    path = made.folder / "toy-train.tfrecord-00000-of-00001"
    offset, length = find_records(path).spans[1]
    damaged(made, lambda data: flipped(data, offset + length // 2))
    report = ingested(made, tmp_path / "store")
    assert (report.discovered, report.written) == (3, 2)
    ((unit, reason),) = report.quarantined
    assert unit == "toy/1.0.0/toy-train.tfrecord-00000-of-00001#record_1"
    assert reason == f"record 1 at byte {offset - 12} fails its checksum"


def test_beyond_a_damaged_length_nothing_is_found_and_everything_is_named(tmp_path):
    made = simple(tmp_path / "source", 2, 2, 2)
    path = made.folder / "toy-train.tfrecord-00000-of-00001"
    offset, _ = find_records(path).spans[1]
    damaged(made, lambda data: flipped(data, offset - 12))
    report = ingested(made, tmp_path / "store")
    assert (report.discovered, report.written) == (3, 1)
    assert [unit[-8:] for unit, _ in report.quarantined] == ["record_1", "record_2"]
    expected = f"the length of record 1 at byte {offset - 12} fails its checksum"
    assert all(reason.startswith(expected) for _, reason in report.quarantined)


@pytest.mark.parametrize("cut", [3, 15, 100])
def test_a_file_that_is_cut_off_keeps_its_whole_records(tmp_path, cut):
    made = simple(tmp_path / "source", 2, 2, 2)
    offset, _ = find_records(made.folder / "toy-train.tfrecord-00000-of-00001").spans[2]
    damaged(made, lambda data: data[: offset - 12 + cut])
    report = ingested(made, tmp_path / "store")
    assert (report.discovered, report.written) == (3, 2)
    ((unit, reason),) = report.quarantined
    assert unit.endswith("#record_2")
    assert reason.startswith(f"the file is cut off in record 2 at byte {offset - 12}")


@pytest.mark.parametrize(
    ("stated", "written", "reason"),
    [
        ([4], 3, "the file holds 3 records, and dataset_info.json says 4"),
        ([2], 0, "the file holds 3 records, and dataset_info.json says 2"),
        ([1, 2], 0, "tells of 2 files of the split 'train', the file's name of 1"),
        ([10**15], 0, "dataset_info.json says 1000000000000000 records"),
        ([-1], 0, "dataset_info.json has a shard of fewer than 0 records"),
    ],
)
def test_counts_that_disagree_with_dataset_info_are_named(tmp_path, stated, written, reason):
    made = simple(tmp_path / "source", 2, 2, 2)
    made.write("train", [made.record([step(t, 2)]) for t in range(3)], lengths=stated)
    if not written:
        with pytest.raises(FoundryError, match="nothing was written") as caught:
            ingested(made, tmp_path / "store")
        assert reason in str(caught.value)
        return
    report = ingested(made, tmp_path / "store")
    assert report.written == written and [why for _, why in report.quarantined] == [reason]


def test_files_that_are_not_there_are_counted(tmp_path):
    made = simple(tmp_path / "source", 2)
    made.write("val", *([made.record([step(0, 1, seed)])] for seed in range(3)))
    (made.folder / "toy-val.tfrecord-00001-of-00003").unlink()
    report = ingested(made, tmp_path / "store")
    assert (report.written, report.quarantined) == (3, ())
    told = "the source has 2 of the 3 files of the split 'val' that dataset_info.json tells of"
    no_rate = "3 of 3 episodes tell no rate, so 20 Hz is taken: --set content.fps=… says it"
    assert report.warnings == (no_rate, told)


def test_records_in_a_file_that_should_have_none_are_not_passed_over(tmp_path):
    made = simple(tmp_path / "source", 2)
    made.write("val", [made.record([step(0, 1)])], lengths=[0])
    ((unit, reason),) = ingested(made, tmp_path / "store").quarantined
    assert unit.endswith("toy-val.tfrecord-00000-of-00001")
    assert reason.startswith("dataset_info.json says 0 records, and it has")


def test_without_dataset_info_the_records_of_a_file_are_counted(tmp_path):
    made = simple(tmp_path / "source", 2, 2, 2)
    (made.folder / "dataset_info.json").unlink()
    damaged(made, lambda data: data[:-1])
    report = ingested(made, tmp_path / "store")
    assert (report.discovered, report.written) == (3, 2)
    ((unit, reason),) = report.quarantined
    assert unit.endswith("#record_2") and "its last 1 bytes are missing" in reason


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("features.json", None, "there is no features.json beside it"),
        ("features.json", "{", "features.json is damaged"),
        ("features.json", '{"featuresDict": 3}', "features.json is damaged"),
        ("features.json", '{"featuresDict": {"features": {}}}', "has no sequence 'steps'"),
        ("features.json", '{"type": "x", "content": {}}', "before version 4.3"),
        ("dataset_info.json", "[]", "dataset_info.json is damaged"),
        ("dataset_info.json", '{"splits": [{"name": "val", "shardLengths": [1]}]}', "has no split 'train'"),
        ("dataset_info.json", '{"fileFormat": "array_record"}', "says that the files are array_record"),
        (
            "toy-train.tfrecord-00000-of-00001",
            "version https://git-lfs.github.com/spec/v1",
            "Git LFS pointer",
        ),
        ("toy-train.tfrecord-00000-of-00001", "\x1f\x08" * 40, "fails its checksum"),
    ],
)
def test_directories_that_cannot_be_read_say_why(tmp_path, name, content, reason):
    made = simple(tmp_path / "source", 2)
    (made.folder / name).unlink()
    if content is not None:
        (made.folder / name).write_text(content)
    with pytest.raises(FoundryError, match="nothing was written") as caught:
        ingested(made, tmp_path / "store")
    assert reason in str(caught.value)


def test_a_file_packed_as_a_whole_is_named(tmp_path):
    made = simple(tmp_path / "source", 2)
    damaged(made, lambda data: b"\x1f\x8b\x08" + data)
    with pytest.raises(FoundryError, match="compressed with gzip as a whole"):
        ingested(made, tmp_path / "store")


def test_records_that_contradict_features_json_are_refused_with_the_feature(tmp_path):
    made = simple(tmp_path, 3)
    record = made.record([step(t, 3) for t in range(3)])
    other = Directory(
        tmp_path / "other",
        {**STEP, "reward": tfds.Text(), "action": tfds.Tensor(shape=(2,), dtype=np.float32)},
    )
    rows = [{**step(t, 3), "reward": "high", "action": np.zeros(2, np.float32)} for t in range(3)]
    for data, reason in (
        (other.record(rows), "'steps/reward' holds a bytes_list, and features.json says float_list"),
        (other.record([{**row, "reward": ""} for row in rows[:1]]), "'steps/action' has 2 numbers"),
        (made.record([]), "it has no steps"),
        (b"\xff" + record, "it is no tf.train.Example"),
        (record.replace(b"steps/reward", b"steps/rewarD"), "its lengths disagree: .* steps/reward has 0"),
    ):
        made.write("train", [data])
        with pytest.raises(Refused, match=reason):
            made.episode()


def test_images_that_are_none_or_change_size_are_refused_with_step_and_camera(tmp_path):
    made = simple(tmp_path / "source", 3)
    for number, (data, reason) in enumerate(
        (
            (b"no image", "image 1 of steps/observation/image: 8 bytes that start with"),
            (
                encoded(picture(0, 4, 4), "png"),
                "its image of camera 'image' at frame 1 is 4 x 4, and those before are 8 x 12",
            ),
        )
    ):
        rows = [step(t, 3) for t in range(3)]
        rows[1]["observation"]["image"] = data
        made.write("train", [made.record(rows)])
        with pytest.raises(FoundryError, match=reason):
            ingested(made, tmp_path / f"store_{number}")


def test_names_that_lead_out_of_the_tar_are_left_out(tmp_path):
    made = Directory(tmp_path, {**STEP, "../../x": np.float32, "a//b": np.float32})
    made.write("train", [made.record([{**step(0, 1), "../../x": 1.0, "a//b": 2.0}])])
    episode, _ = made.episode()
    assert episode.left_out == {
        "steps/../../x": "its name is not allowed",
        "steps/a//b": "its name is not allowed",
    }


def test_a_packed_tensor_cannot_unpack_to_more_than_it_should(tmp_path):
    import zlib

    features = {**STEP, "packed": tfds.Tensor(shape=(2,), dtype=np.float32, encoding="zlib")}
    made = Directory(tmp_path, features)
    written = Directory(tmp_path / "written", {**STEP, "packed": tfds.Text()})
    for data in (
        zlib.compress(b"\0" * 10**7),
        zlib.compress(b"\0" * 9),
        zlib.compress(b"\0" * 8)[:-3],
        b"no",
    ):
        written.features = tfds.FeaturesDict(
            {
                "steps": tfds.Dataset({**STEP, "packed": tfds.Image()}),
                "episode_metadata": {"good": np.bool_},
            }
        )
        made.write("train", [written.record([{**step(0, 1), "packed": data}])])
        with pytest.raises(Refused, match="a tensor of 'steps/packed'"):
            made.episode()


@settings(max_examples=60, deadline=None)
@given(
    records=st.lists(st.binary(max_size=40), max_size=6), cut=st.integers(0, 300), at=st.integers(0, 2**20)
)
def test_every_record_comes_back_or_is_named_whatever_the_damage(tmp_path_factory, records, cut, at):
    path = tmp_path_factory.mktemp("records") / "x"
    data = b"".join(map(framed, records))
    path.write_bytes(data)
    assert [read_record(path, number) for number in range(len(records))] == records
    assert find_records(path).damage is None
    if not data:
        return
    path.write_bytes(flipped(data[: len(data) - cut % len(data)], at % (len(data) - cut % len(data))))
    num_wrong = 0
    for number, record in enumerate(records):
        try:
            assert read_record(path, number) == record
        except Refused as error:
            num_wrong += 1
            assert any(f"record {wrong}" in error.message for wrong in range(number + 1)) or (
                f"ends after {len(find_records(path).spans)} records" in error.message
            )
    assert num_wrong >= 1


def test_random_changes_of_a_record_are_refused_or_read_but_never_crash(tmp_path):
    """Checksums are made good again, so that the parsers see the damage."""
    made = simple(tmp_path, 3)
    record = made.record([step(t, 3) for t in range(3)])
    draw = random.Random(0)
    refused = 0
    for _ in range(300):
        data = bytearray(record)
        for _ in range(draw.choice([1, 1, 4])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        made.write("train", [bytes(data[: draw.choice([len(data), draw.randrange(len(data))])])])
        try:
            episode, frames = made.episode()
            assert len(frames) == episode.num_frames == len(episode.arrays["steps/action"])
        except Refused as error:
            refused += 1
            assert error.message
    assert refused > 100


def test_random_changes_of_features_json_are_refused_or_read_but_never_crash(tmp_path):
    made = simple(tmp_path, 2)
    text = (made.folder / "features.json").read_bytes()
    record = read_record(made.folder / "toy-train.tfrecord-00000-of-00001", 0)
    draw = random.Random(0)
    for _ in range(300):
        data = bytearray(text)
        for _ in range(draw.choice([1, 3])):
            data[draw.randrange(len(data))] = draw.choice(b'"{}[]:,0123456789-ae')
        try:
            leaves = read_features(bytes(data))
            example = Example(record)
            for leaf in leaves:
                if leaf.kind in ("number", "packed"):
                    example.arrays(leaf, 2)
        except Refused as error:
            assert error.message
    with pytest.raises(Refused, match="damaged|deep"):
        read_features(b'{"sequence": {"feature": ' * 2000 + b"{}" + b"}}" * 2000)
