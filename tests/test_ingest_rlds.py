"""What is read of TFDS directories that these tests write: features of all kinds, cameras, instructions.

Legend: T steps, H W pixels, D dimensions.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from foundry_testing.rlds_directories import (
    STEP,
    Directory,
    encoded,
    example_of,
    ingested,
    picture,
    simple,
    step,
)
from PIL import Image
from scipy.spatial.transform import Rotation
from tensorflow_datasets.core import features as tfds

import robot_foundry
from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources import Refused
from robot_foundry.ingest.sources.robot.source_episode import Encoded
from robot_foundry.runtime.errors import UsageError


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
    assert frames == [(Encoded(encoded(picture(t), "jpeg"), "jpeg"),) for t in range(4)]


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
    with pytest.raises(UsageError, match="rotation: expected axis_angle, xyzw, wxyz, or three axes"):
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
    assert frames == [(Encoded(row["rgb"], "png"),) for row in rows]


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


def test_reading_imports_no_tensorflow_and_listing_specs_not_even_its_datasets(tmp_path):
    made = simple(tmp_path, 2)
    script = (
        "import sys\n"
        "from robot_foundry.ingest.sources import layout\n"
        "from robot_foundry.ingest.spec.spec_files import load_spec\n"
        "reader = layout(load_spec('droid').layout)\n"
        "assert not [name for name in sys.modules if name.startswith('tensorflow')]\n"
        "from robot_foundry.ingest.sources.rlds.features import read_features\n"
        f"read_features(open({str(made.folder / 'features.json')!r}, 'rb').read())\n"
        "assert 'tensorflow' not in sys.modules and 'tensorflow_datasets' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
