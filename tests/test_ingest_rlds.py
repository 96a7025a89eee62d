"""TFDS directories that these tests write: all kinds of features, and every way in which a file can be wrong.

Examples are serialised by tensorflow-datasets (without TensorFlow); the framing of records is written here.
Legend: T steps.
"""

from __future__ import annotations

import io
import json
import random
import struct
import subprocess
import sys

import google_crc32c
import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation
from tensorflow_datasets.core import features as tfds
from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

import robot_foundry
from robot_foundry.ingest.engine import run
from robot_foundry.ingest.sources import Encoded, Refused, SourceFile, layout
from robot_foundry.ingest.sources.rlds_features import Example, read_features
from robot_foundry.ingest.sources.tfrecord import find_records, read_record
from robot_foundry.ingest.spec import Content, load_spec
from robot_foundry.runtime import files
from robot_foundry.runtime.errors import FoundryError, UsageError

SPEC = """
layout: rlds
mapping:
  embodiment: arm
  cameras: {image: primary}
  instruction: [{spans: steps/language_instruction}]
  success: [{attr: episode_metadata/good}]
  state:
    right.ee_position: {key: steps/observation/state}
  actions:
    command:
      right.ee_position: {key: steps/action}
"""


def masked(data):
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def framed(record):
    length = struct.pack("<Q", len(record))
    return length + struct.pack("<I", masked(length)) + record + struct.pack("<I", masked(record))


def encoded(picture, encoding):
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, encoding)
    return sink.getvalue()


def picture(seed, height=8, width=12):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


STEP = {
    "observation": {
        "state": tfds.Tensor(shape=(3,), dtype=np.float64),
        "image": tfds.Image(shape=(8, 12, 3), encoding_format="jpeg"),
    },
    "action": tfds.Tensor(shape=(3,), dtype=np.float32),
    "is_first": np.bool_,
    "reward": np.float32,
    "language_instruction": tfds.Text(),
}


def step(t, num_steps, seed=0):
    return {
        "observation": {
            "state": np.array([t, seed, 0.5]),
            "image": encoded(picture(100 * seed + t), "jpeg"),
        },
        "action": np.array([t + 1, seed, 0.5], np.float32),
        "is_first": t == 0,
        "reward": float(t == num_steps - 1),
        "language_instruction": "reach" if t < num_steps // 2 else "lift it",
    }


def example_of(lists):
    """A tf.train.Example of lists of floats, integers or byte strings by name."""
    features = {}
    for name, values in lists.items():
        if isinstance(values[0], bytes):
            kind = {"bytes_list": tf_feature_pb2.BytesList(value=values)}
        elif isinstance(values[0], float):
            kind = {"float_list": tf_feature_pb2.FloatList(value=values)}
        else:
            kind = {"int64_list": tf_feature_pb2.Int64List(value=values)}
        features[name] = tf_feature_pb2.Feature(**kind)
    return tf_example_pb2.Example(features=tf_feature_pb2.Features(feature=features)).SerializeToString()


class Directory:
    """A TFDS directory: `features` of a step and of the episode, and records by split and file."""

    def __init__(self, root, steps=STEP, metadata=None):
        self.root = root
        self.folder = root / "toy" / "1.0.0"
        self.folder.mkdir(parents=True)
        metadata = metadata or {"good": np.bool_}
        self.features = tfds.FeaturesDict(
            {"steps": tfds.Dataset(steps), "episode_metadata": tfds.FeaturesDict(metadata)}
        )
        self.splits = {}
        described = json_format.MessageToDict(self.features.to_proto())
        (self.folder / "features.json").write_text(json.dumps(described))

    def record(self, steps, metadata=None):
        serializer = ExampleSerializer(self.features.get_serialized_info())
        episode = {"steps": steps, "episode_metadata": metadata or {"good": True}}
        return serializer.serialize_example(self.features.encode_example(episode))

    def write(self, split, *shards, lengths=None):
        """Files of records, and dataset_info.json; `lengths` overrides what that says."""
        for index, records in enumerate(shards):
            name = f"toy-{split}.tfrecord-{index:05d}-of-{len(shards):05d}"
            (self.folder / name).write_bytes(b"".join(map(framed, records)))
        self.splits[split] = lengths or [len(records) for records in shards]
        splits = [
            {"name": name, "numBytes": "1", "shardLengths": [str(length) for length in lengths]}
            for name, lengths in self.splits.items()
        ]
        info = {"name": "toy", "version": "1.0.0", "fileFormat": "tfrecord", "splits": splits}
        (self.folder / "dataset_info.json").write_text(json.dumps(info))
        return self

    def file(self, name="toy-train.tfrecord-00000-of-00001"):
        return source_file(self.folder, name)

    def episode(self, number=0, content=None):
        """The open episode, with its frames as a list."""
        return opened(self.file(), number, content or Content())


def source_file(folder, name, companions=("features.json", "dataset_info.json")):
    def known(name, beside=()):
        status = files.status(str(folder), name)
        return SourceFile(str(folder), name, status.size, status.stamp, "0" * 64, beside)

    beside = tuple(known(other) for other in companions if (folder / other).exists())
    return known(name, beside)


def opened(file, number, content):
    reader = layout("rlds")
    units, _ = reader.list_units(file, content)
    with reader.open(units[number], content) as episode:
        return episode, list(episode.frames)


def simple(root, *lengths):
    """A directory with one file of episodes of these lengths."""
    made = Directory(root)
    return made.write(
        "train", [made.record([step(t, n, i) for t in range(n)]) for i, n in enumerate(lengths)]
    )


def ingested(made, store, **overrides):
    path = made.root.with_suffix(".yaml")
    path.write_text(SPEC)
    return run(
        load_spec(path, [f"{key}={value}" for key, value in overrides.items()]),
        made.root,
        store=store,
        name="toy",
    )


def test_every_split_and_file_is_ingested_with_what_its_episodes_say(tmp_path):
    made = simple(tmp_path / "source", 4, 1, 3)
    made.write("val", [made.record([step(0, 1)], {"good": False})], [])
    report = ingested(made, tmp_path / "store")
    assert (report.discovered, report.written, report.quarantined) == (4, 4, ())
    assert report.counts["frames"] == 4 + 1 + 3 + 1
    assert not any("passed over" in warning for warning in report.warnings)
    episode, frames = made.episode(0)
    assert episode.num_frames == len(frames) == 4
    assert episode.attributes == {"episode_metadata/good": True, "split": "train"}
    assert episode.environment == {"dataset": "toy", "version": "1.0.0", "config": ""}
    assert (episode.fps, episode.fps_source) == (20.0, "default")
    assert episode.steps_text == [
        (0, 2, "steps/language_instruction", "reach"),
        (2, 4, "steps/language_instruction", "lift it"),
    ]
    assert [(camera.name, camera.height, camera.width) for camera in episode.cameras] == [("image", 8, 12)]
    assert frames == [[Encoded(encoded(picture(t), "jpeg"), "jpeg")] for t in range(4)]


def test_spans_of_steps_become_instructions_and_a_path_tells_success(tmp_path):
    words = {"first": tfds.Text(), "second": tfds.Text(), "note": tfds.Text()}
    made = Directory(tmp_path / "source", {**STEP, "words": words}, {"path": tfds.Text()})
    paths = ["/lab/success/1.h5", "/lab/failure/2.h5", "/lab/3.h5", "/success/or/failure/4.h5"]
    said = [{"first": "  lift it ", "second": " ", "note": "slow" if t else ""} for t in range(3)]
    rows = [{**step(t, 3), "words": said[t]} for t in range(3)]
    made.write("train", [made.record(rows, {"path": path}) for path in paths])
    overrides = {
        "mapping.success": "[{attr: episode_metadata/path, success: /success/, failure: /failure/}]",
        "mapping.instruction": "[{attr: nothing}, {spans: steps/words/*d}, {spans: steps/words/f*}]",
    }
    version = ingested(made, tmp_path / "store", **overrides).version
    dataset = robot_foundry.open("toy", store=tmp_path / "store")
    success = {row["id"]: row["success"] for row in dataset.episodes().to_pylist()}
    assert success == {"record_0": True, "record_1": False, "record_2": None, "record_3": None}
    path = tmp_path / "store" / "datasets" / "toy" / version.version_id / "annotations.arrow"
    told = pa.ipc.open_file(path).read_all().to_pylist()
    key = told[0]["key"]
    assert [tuple(row.values())[1:] for row in told if row["key"] == key] == [
        (0, 3, "instruction", "lift it", "steps/words/first"),
        (0, 1, "steps/language_instruction", "reach", "steps"),
        (1, 3, "steps/language_instruction", "lift it", "steps"),
        (1, 3, "steps/words/note", "slow", "steps"),
    ]


def test_a_displacement_may_turn_by_euler_angles(tmp_path):
    rng = np.random.default_rng(3)
    turns = {
        "pose": tfds.Tensor(shape=(6,), dtype=np.float32),
        "turn": tfds.Tensor(shape=(3,), dtype=np.float32),
    }
    made = Directory(tmp_path / "source", {**STEP, **turns})
    poses_T6, turns_T3 = (
        rng.normal(size=(2, 5, 6)).astype(np.float32)[0],
        rng.normal(size=(5, 3)).astype(np.float32),
    )
    rows = [{**step(t, 5), "pose": poses_T6[t], "turn": turns_T3[t]} for t in range(5)]
    made.write("train", [made.record(rows)])
    start = Rotation.from_euler("XYZ", poses_T6[:, 3:].astype(float))
    asked = {
        "axis_angle": Rotation.from_rotvec(turns_T3.astype(float)),
        "xyz": Rotation.from_euler("xyz", turns_T3.astype(float)),
    }
    state = "{key: steps/pose, columns: [3, 6], from: euler, sequence: XYZ}"
    command = "mapping.actions.command.right.ee_rotation"
    for form, turn in asked.items():
        overrides = {
            "mapping.state.right.ee_rotation": state,
            command: f"{{key: steps/turn, from: delta, rotation: {form}}}",
        }
        ingested(made, tmp_path / form, **overrides)
        dataset = robot_foundry.open("toy", store=tmp_path / form)
        action_TD = np.array(dataset.frames()["action.command"].to_pylist())
        names = [dim.name for dim in dataset.space("command").dims]
        six = [names.index(f"right.ee_rot6d.{i}") for i in range(6)]
        expected_T33 = (turn * start).as_matrix()
        np.testing.assert_allclose(action_TD[:, six[:3]], expected_T33[:, :, 0], atol=1e-5)
        np.testing.assert_allclose(action_TD[:, six[3:]], expected_T33[:, :, 1], atol=1e-5)
    with pytest.raises(UsageError, match="rotation: expected axis_angle, or three axes"):
        ingested(made, tmp_path / "x", **{**overrides, command: "{key: a, from: delta, rotation: rpy}"})


def test_features_of_every_kind_keep_their_numbers_and_names(tmp_path):
    rng = np.random.default_rng(0)
    steps = {
        "a/b": tfds.Tensor(shape=(2, 3), dtype=np.float32),
        "nested": {"deep": {"scalar": np.int32, "flag": np.bool_}},
        "ragged": tfds.Sequence(tfds.Tensor(shape=(2,), dtype=np.float32)),
        "twice": tfds.Sequence({"q": tfds.Sequence(np.int64)}),
        "fixed": tfds.Sequence(np.float32, length=4),
        "packed": tfds.Tensor(shape=(2, 2), dtype=np.float64, encoding="zlib"),
        "dynamic": tfds.Tensor(shape=(None, None), dtype=np.uint8, encoding="bytes"),
        "unsigned": np.uint64,
        "label": tfds.ClassLabel(num_classes=5),
        "optional": tfds.Tensor(shape=(), dtype=np.int64, optional=True),
        "words": tfds.Sequence(tfds.Text()),
        "cloud": tfds.Tensor(shape=(5000,), dtype=np.float32),
        "box": tfds.BBoxFeature(),
        "rgb": tfds.Image(shape=(None, None, 3), encoding_format="png"),
        "mask": tfds.Image(shape=(8, 12, 1), encoding_format="png"),
    }
    metadata = {
        "extrinsics": tfds.Tensor(shape=(6,), dtype=np.float64),
        "path": tfds.Text(),
        "names": tfds.Sequence(tfds.Text()),
        "gains": tfds.Sequence(np.float32),
        "id": np.int32,
    }
    made = Directory(tmp_path, steps, metadata)
    rows = [
        {
            "a/b": rng.normal(size=(2, 3)).astype(np.float32),
            "nested": {"deep": {"scalar": t - 1, "flag": t == 1}},
            "packed": rng.normal(size=(2, 2)),
            "dynamic": np.full((2, 3), t, np.uint8),
            "unsigned": 2**64 - 1 - t,
            "label": t,
            "cloud": np.zeros(5000, np.float32),
            "box": tfds.BBox(0.0, 0.25, 0.5, 1.0),
            "rgb": encoded(picture(t, 5, 7), "png"),
            "mask": encoded(picture(t)[..., 0], "png"),
        }
        for t in range(3)
    ]
    about = {
        "extrinsics": np.arange(6.0),
        "path": "/x/é.h5",
        "names": ["left", "right"],
        "gains": [0.5, 2.0],
        "id": 7,
    }
    # Sequences in sequences are serialised by TensorFlow alone, and an optional feature may be in no record.
    apart = ("ragged", "twice", "fixed", "words", "optional")
    flat = Directory(tmp_path / "flat", {name: steps[name] for name in steps if name not in apart}, metadata)
    ragged = {
        "steps/ragged/ragged_flat_values": [1.0, 0.0, 2.0, 0.0, 2.0, 1.0],
        "steps/ragged/ragged_row_lengths_0": [0, 1, 2],
        "steps/twice/q/ragged_flat_values": [0, 0, 0, 1],
        "steps/twice/q/ragged_row_lengths_0": [1, 2, 3],
        "steps/twice/q/ragged_row_lengths_1": [0, 0, 1, 0, 1, 2],
        "steps/fixed/ragged_flat_values": [1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0, 1.0, 1.0, 2.0, 3.0, 2.0],
        "steps/fixed/ragged_row_lengths_0": [4, 4, 4],
        "steps/words/ragged_flat_values": [b"one", b"two"],
        "steps/words/ragged_row_lengths_0": [1, 1, 0],
    }
    # Messages that are joined are merged, so the lists are added to the record.
    made.write("train", [flat.record(rows, about) + example_of(ragged)])
    episode, frames = made.episode()
    arrays = episode.arrays
    expected = {
        "steps/a/b": np.stack([row["a/b"] for row in rows]),
        "steps/nested/deep/scalar": np.array([-1, 0, 1], np.int32),
        "steps/nested/deep/flag": np.array([False, True, False]),
        "steps/ragged/ragged_flat_values": np.array([[1, 0], [2, 0], [2, 1]], np.float32),
        "steps/ragged/ragged_row_lengths_0": np.array([0, 1, 2]),
        "steps/twice/q/ragged_flat_values": np.array([0, 0, 0, 1]),
        "steps/twice/q/ragged_row_lengths_0": np.array([1, 2, 3]),
        "steps/twice/q/ragged_row_lengths_1": np.array([0, 0, 1, 0, 1, 2]),
        "steps/fixed": np.array([[1, 2, 3, t] for t in range(3)], np.float32),
        "steps/packed": np.stack([row["packed"] for row in rows]),
        "steps/dynamic": np.stack([row["dynamic"] for row in rows]),
        "steps/unsigned": np.array([2**64 - 1 - t for t in range(3)], np.uint64),
        "steps/label": np.arange(3),
        "steps/box": np.tile(np.array([0.0, 0.25, 0.5, 1.0], np.float32), (3, 1)),
        "episode_metadata/extrinsics": np.arange(6, dtype=np.float32),
        "episode_metadata/gains": np.array([0.5, 2.0], np.float32),
        "episode_metadata/id": np.array(7, np.int32),
        "steps/mask/ragged_flat_values": np.frombuffer(b"".join(row["mask"] for row in rows), np.uint8),
        "steps/mask/ragged_row_lengths_0": np.array([len(row["mask"]) for row in rows]),
        "timestamp": np.arange(3) / 20,
    }
    assert set(arrays) == set(expected)
    for name, values in expected.items():
        assert arrays[name].dtype == values.dtype, name
        np.testing.assert_array_equal(arrays[name], values, err_msg=name)
    assert episode.attributes == {
        "episode_metadata/path": "/x/é.h5",
        "episode_metadata/names": ["left", "right"],
        "episode_metadata/id": 7,
        "split": "train",
    }
    assert episode.left_out == {
        "steps/optional": "the record has none",
        "steps/words": "it is a list of texts at each step",
        "steps/cloud": "a row has 5000 numbers",
    }
    assert [(camera.array, camera.height, camera.width) for camera in episode.cameras] == [
        ("steps/rgb", 5, 7)
    ]
    assert frames == [[Encoded(row["rgb"], "png")] for row in rows]


def test_float_depth_maps_are_stored_as_they_are_encoded(tmp_path):
    """tensorflow-datasets writes the bytes of a float32 as the four channels of a PNG."""
    depth_THW = np.random.default_rng(0).normal(2, 1, (2, 8, 12)).astype(np.float32)
    written = Directory(tmp_path / "written", {**STEP, "depth": tfds.Image(shape=(8, 12, 4))})
    rows = [
        {**step(t, 2), "depth": encoded(depth_THW[t].view(np.uint8).reshape(8, 12, 4), "png")}
        for t in range(2)
    ]
    made = Directory(tmp_path / "made", {**STEP, "depth": tfds.Image(shape=(8, 12, 1), dtype=np.float32)})
    made.write("train", [written.record(rows)])
    episode, frames = made.episode()
    assert [camera.name for camera in episode.cameras] == ["image"] and episode.left_out == {}
    lengths = episode.arrays["steps/depth/ragged_row_lengths_0"]
    stored = np.split(episode.arrays["steps/depth/ragged_flat_values"], np.cumsum(lengths)[:-1])
    for t in range(2):
        channels_HW4 = np.asarray(Image.open(io.BytesIO(stored[t].tobytes())))
        np.testing.assert_array_equal(channels_HW4.view(np.float32)[..., 0], depth_THW[t])
    rows[1]["depth"] = b"no image"
    made.write("train", [written.record(rows)])
    with pytest.raises(Refused, match="image 1 of steps/depth"):
        made.episode()


def test_classes_of_others_and_what_features_json_does_not_tell_are_named(tmp_path):
    made = Directory(tmp_path)
    described = json.loads((made.folder / "features.json").read_text())
    inner = described["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]
    inner["other"] = {"pythonClassName": "os.path.Evil", "jsonFeature": {"json": "{}"}}
    inner["clip"] = {"sequence": {"feature": {"image": {"dtype": "uint8"}}, "length": "-1"}}
    (made.folder / "features.json").write_text(json.dumps(described))
    written = Directory(tmp_path / "written", {**STEP, "extra": np.float32})
    clips = example_of({"steps/clip/ragged_flat_values": [b"x"], "steps/clip/ragged_row_lengths_0": [1, 0]})
    made.write("train", [written.record([{**step(t, 2), "extra": 1.0} for t in range(2)]) + clips])
    episode, _ = made.episode()
    assert episode.left_out == {
        "steps/clip": "it is not one image a step",
        "steps/other": "features of class Evil are not read",
        "steps/extra": "features.json does not describe it",
    }


def test_cameras_are_chosen_named_apart_and_may_lack_images(tmp_path):
    views = {
        "front": {"image": tfds.Image(shape=(8, 12, 3))},
        "wrist": {"image": tfds.Image(shape=(8, 12, 3)), "Left-Eye": tfds.Image(shape=(8, 12, 3))},
        "blind": tfds.Image(shape=(8, 12, 3)),
    }
    made = Directory(tmp_path, {**STEP, "views": views})
    rows = [
        {
            **step(t, 3),
            "views": {
                "front": {"image": encoded(picture(t), "png")},
                "wrist": {
                    "image": encoded(picture(t + 9), "png"),
                    "Left-Eye": b"" if t == 1 else encoded(picture(t), "jpeg"),
                },
                "blind": b"",
            },
        }
        for t in range(3)
    ]
    made.write("train", [made.record(rows)])
    episode, frames = made.episode()
    names = [camera.name for camera in episode.cameras]
    assert names == [
        "left_eye",
        "steps_observation_image",
        "steps_views_front_image",
        "steps_views_wrist_image",
    ]
    assert [frame[0] is None for frame in frames] == [False, True, False]
    assert episode.left_out["steps/views/blind"] == "no step of the episode has an image"
    episode, frames = made.episode(content=Content(cameras=("left_eye", "blind")))
    assert [camera.name for camera in episode.cameras] == ["left_eye"] and len(frames[0]) == 1
    assert episode.left_out["steps/views/front/image"] == "not among the spec's cameras"
    with pytest.raises(Refused, match="it has no camera 'left_ey', did you mean 'left_eye'"):
        made.episode(content=Content(cameras=("left_ey",)))
    episode, _ = made.episode(content=Content(skip=("steps/views/*",), fps=10.0))
    assert [camera.name for camera in episode.cameras] == ["image"]
    assert (episode.fps, episode.fps_source) == (10.0, "spec")


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
    records = [made.record([step(0, 1)])]
    made.write("val", records, records, records)
    (made.folder / "toy-val.tfrecord-00001-of-00003").unlink()
    report = ingested(made, tmp_path / "store")
    assert (report.written, report.quarantined) == (3, ())
    told = "the source has 2 of the 3 files of the split 'val' that dataset_info.json tells of"
    assert report.warnings == (told,)


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
    made = simple(tmp_path, 3)
    for data, reason in (
        (b"no image", "image 1 of steps/observation/image: 8 bytes that start with"),
        (encoded(picture(0, 4, 4), "png"), "image 1 of steps/observation/image has 4 x 4 px and not 8 x 12"),
    ):
        rows = [step(t, 3) for t in range(3)]
        rows[1]["observation"]["image"] = data
        made.write("train", [made.record(rows)])
        with pytest.raises(Refused, match=reason):
            made.episode()


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
            {"steps": tfds.Dataset({**STEP, "packed": tfds.Image()}), "episode_metadata": {"good": np.bool_}}
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


def test_reading_imports_no_tensorflow_and_listing_specs_not_even_its_datasets(tmp_path):
    made = simple(tmp_path, 2)
    script = (
        "import sys\n"
        "from robot_foundry.ingest.sources import layout\n"
        "from robot_foundry.ingest.spec import load_spec\n"
        "reader = layout(load_spec('droid').layout)\n"
        "assert not [name for name in sys.modules if name.startswith('tensorflow')]\n"
        "from robot_foundry.ingest.sources.rlds_features import read_features\n"
        f"read_features(open({str(made.folder / 'features.json')!r}, 'rb').read())\n"
        "assert 'tensorflow' not in sys.modules and 'tensorflow_datasets' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
