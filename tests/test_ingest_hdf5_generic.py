"""HDF5 of any layout by a spec alone: groups or files, images in every form, times, texts.

Legend: N frames, H W pixels.
"""

from __future__ import annotations

import shlex

import h5py
import numpy as np
import pytest
from foundry_testing import ingested
from foundry_testing.ingested import Ingested, jpeg, smooth
from scipy.spatial.transform import Rotation

from robot_foundry.ingest.engine import run
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.errors import FoundryError

SMOOTH_ERROR = 8
START_NS = 1_700_000_000_123_456_789
SPEC = """
layout: hdf5
content:
  hdf5:
    episodes: runs/*/take_*
    length: control/target
    images: {front: vision/a/rgb, side: vision/b/rgb, hand: vision/hand}
    time: {key: clock, unit: ns, epoch: true}
mapping:
  embodiment: arm
  cameras: {front: primary, side: secondary, hand: wrist_right}
  instruction: {attr: language}
  success: {attr: done}
  state:
    right.ee_position: {key: pose, columns: [0, 3], scale: 0.001}
    right.ee_rotation: {key: pose, columns: [3, 6], from: euler, sequence: XYZ, degrees: true}
  actions:
    command:
      right.ee_position: {key: control/target, columns: [0, 3], scale: 0.001}
      right.ee_rotation: {key: control/target, columns: [3, 7], from: quaternion, order: wxyz}
"""
FILES = """
layout: hdf5
content: {default_fps: 5, hdf5: {length: actions, images: ['img/*']}}
mapping: {embodiment: arm, state: {right.joint_position: {key: q}}}
"""


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "lab.yaml").write_text(SPEC)
    return tmp_path / "lab.yaml"


def make(path, takes, frames=5):
    """Groups two deep; images as channels first, as JPEG of any length, and as JPEG in byte strings."""
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs["lab"] = "basement"
        for take in takes:
            group = file.create_group(take)
            group["pose"] = np.c_[random.normal(0, 300, (frames, 3)), random.uniform(-180, 180, (frames, 3))]
            turned = Rotation.random(frames, rng=random).as_quat()[:, [3, 0, 1, 2]]
            group["control/target"] = np.c_[random.normal(0, 300, (frames, 3)), turned]
            group["clock"] = START_NS + np.arange(frames, dtype=np.int64) * 40_000_000
            group["language"] = f"do {take}"
            group.attrs["done"] = take.endswith("1")
            pictures = np.stack([smooth(n) for n in range(frames)])
            group["vision/a/rgb"] = np.moveaxis(pictures, -1, 1)
            files = [jpeg(picture) for picture in pictures]
            bytes_of_any_length = group.create_dataset("vision/b/rgb", frames, h5py.vlen_dtype(np.uint8))
            for n, data in enumerate(files):
                bytes_of_any_length[n] = np.frombuffer(data, np.uint8)
            group["vision/hand"] = np.array(files, dtype=f"S{max(map(len, files))}")


def test_groups_images_times_and_texts(tmp_path, spec):
    takes = ["runs/mon/take_2", "runs/mon/take_10", "runs/tue/take_1"]
    make(tmp_path / "lab.h5", [*takes, "runs/tue/broken"])
    made = Ingested(spec, tmp_path / "lab.h5", tmp_path / "store")
    assert list(made.rows) and set(made.rows) == set(takes)
    assert made.instructions() == {take: f"do {take}" for take in takes}
    assert {take: row["success"] for take, row in made.rows.items()} == {
        take: take.endswith("1") for take in takes
    }
    with h5py.File(tmp_path / "lab.h5") as file:
        group = file[takes[1]]
        pose_N6, target_N7 = group["pose"][()], group["control/target"][()]
        pictures = np.moveaxis(group["vision/a/rgb"][()], 1, -1)
        files = [row.tobytes() for row in group["vision/b/rgb"][()]]
        assert made.images(takes[1], "side") == files == made.images(takes[1], "hand")
        kept = [ingested.pixels(data) for data in made.images(takes[1], "front")]
        assert np.abs(np.stack(kept).astype(int) - pictures).max() <= SMOOTH_ERROR
        np.testing.assert_array_equal(made.source(takes[1])["clock"], group["clock"])
    for column, turned, values in (
        ("state", Rotation.from_euler("XYZ", pose_N6[:, 3:], degrees=True), pose_N6),
        ("action.command", Rotation.from_quat(target_N7[:, [4, 5, 6, 3]]), target_N7),
    ):
        matrix_N33 = turned.as_matrix()
        expected = np.c_[values[:, :3] / 1000, matrix_N33[:, :, 0], matrix_N33[:, :, 1]]
        np.testing.assert_allclose(made.column(takes[1], column), expected, atol=1e-5)
    told = made.episode(takes[1])
    assert (told["fps"], told["fps_source"], told["start_ns"]) == (25.0, "clock", START_NS)
    np.testing.assert_array_equal(made.column(takes[1], "timestamp"), np.arange(5) * 0.04)
    assert told["environment"] == {"lab": "basement"}
    assert told["cameras"]["side"]["array"] == "vision/b/rgb"


def test_episodes_keep_the_numeric_order_of_their_groups(tmp_path, spec):
    make(tmp_path / "lab.h5", [f"runs/mon/take_{n}" for n in (10, 9, 1)], frames=2)
    made = Ingested(spec, tmp_path / "lab.h5", tmp_path / "store")
    assert sorted(made.rows, key=lambda name: made.rows[name]["key"]) == [
        f"runs/mon/take_{n}" for n in (1, 9, 10)
    ]


def test_a_file_an_episode_with_images_by_pattern(tmp_path):
    (tmp_path / "s.yaml").write_text(FILES)
    (tmp_path / "raw").mkdir()
    for n, frames in enumerate((4, 1)):
        with h5py.File(tmp_path / "raw" / f"run_{n}.h5", "w") as file:
            file["actions"], file["q"] = np.zeros((frames, 2)), np.full((frames, 2), n + 0.5)
            file["img/left_image"] = np.stack([smooth(k) for k in range(frames)])
            file["img/note"] = "not an image"
            file["timestamp"] = np.zeros(frames)
    made = Ingested(tmp_path / "s.yaml", tmp_path / "raw", tmp_path / "store")
    assert {name: row["num_frames"] for name, row in made.rows.items()} == {"run_0": 4, "run_1": 1}
    assert len(made.images("run_0", "left")) == 4
    np.testing.assert_array_equal(made.column("run_1", "state"), [[1.5, 1.5]])
    np.testing.assert_allclose(made.column("run_0", "timestamp"), np.arange(4) / 5)
    told = made.episode("run_0")
    assert told["attributes"]["img/note"] == "not an image"
    assert set(told["left_out"]) == {"timestamp"}


def test_a_renamed_and_flipped_camera_of_any_layout(tmp_path, spec):
    make(tmp_path / "lab.h5", ["runs/a/take_0"], frames=2)
    options = ["content.rename={front: zoom}", "content.flip={front: both}", "mapping.cameras.zoom=primary"]
    made = Ingested(spec, tmp_path / "lab.h5", tmp_path / "store", options)
    (name,) = made.rows
    assert set(made.episode(name)["cameras"]) == {"hand", "side", "zoom"}
    kept = ingested.pixels(made.images(name, "zoom")[1])
    assert np.abs(kept.astype(int) - smooth(1)[::-1, ::-1]).max() <= SMOOTH_ERROR


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "content.hdf5.episodes=run/*",
            r"no group 'run/\*', as content.hdf5.episodes says \(at the top: runs\)",
        ),
        ("content.hdf5.length=control/targt", "no array 'control/targt', did you mean 'control/target'?"),
        ("content.hdf5.images={front: vision/a/rgbb}", "which content.hdf5.images.front names, did you mean"),
        ("content.hdf5.images={front: pose}", "'pose' of float64 and shape .* holds no images"),
        ("content.hdf5.images=['vision/*/rgb']", "two of its image arrays give one camera name"),
        ("content.hdf5.images=['seen/*']", r"no image array 'seen/\*'"),
        (
            "content.hdf5.time={key: clok}",
            "no array 'clok', which content.hdf5.time names, did you mean 'clock'",
        ),
        ("content.hdf5.time={key: pose}", "'pose' does not hold rising times"),
        ("content.cameras=[frnt]", "no camera 'frnt', did you mean 'front'?"),
    ],
)
def test_a_spec_that_does_not_fit_is_told_where(tmp_path, spec, override, message):
    make(tmp_path / "lab.h5", ["runs/a/take_0"], frames=2)
    with pytest.raises(FoundryError, match=message):
        run(load_spec(spec, [override]), tmp_path / "lab.h5", store=tmp_path / "store", name="x")


def test_one_bad_episode_does_not_hold_up_the_others(tmp_path, spec):
    make(tmp_path / "lab.h5", [f"runs/a/take_{n}" for n in range(4)], frames=6)
    with h5py.File(tmp_path / "lab.h5", "r+") as file:
        del file["runs/a/take_1/control/target"]
        group = file["runs/a/take_2"]
        kept = group["vision/a/rgb"][:2]
        del group["vision/a/rgb"]
        group["vision/a/rgb"] = kept
        group["control/target"][:] = np.nan
        file["runs/a/take_3/control/target"][2] = np.nan
    made = Ingested(spec, tmp_path / "lab.h5", tmp_path / "store")
    assert set(made.rows) == {"runs/a/take_0", "runs/a/take_3"}
    assert "no array 'control/target'" in made.reasons["lab.h5#runs/a/take_1"]
    assert "has 2 images for 6 frames" in made.reasons["lab.h5#runs/a/take_2"]
    assert [flag & 8 for flag in made.column("runs/a/take_3", "flags")] == [0, 0, 8, 0, 0, 0]


def test_a_file_that_claims_giant_images_takes_no_memory(tmp_path, spec):
    make(tmp_path / "lab.h5", ["runs/a/take_0", "runs/a/take_1", "runs/a/take_2"], frames=2)
    with h5py.File(tmp_path / "lab.h5", "r+") as file:
        for take, shape in (("take_1", (2, 3, 1 << 16, 1 << 16)), ("take_2", (2, 1 << 36))):
            del file[f"runs/a/{take}/vision/a/rgb"]
            chunks = tuple(min(side, 1 << 10) for side in shape)
            file.create_dataset(f"runs/a/{take}/vision/a/rgb", shape, np.uint8, chunks=chunks)
    made = Ingested(spec, tmp_path / "lab.h5", tmp_path / "store")
    assert set(made.rows) == {"runs/a/take_0"}
    assert all("holds no images" in reason for reason in made.reasons.values())


def test_data_in_other_files_is_not_followed(tmp_path, spec):
    make(tmp_path / "lab.h5", ["runs/a/take_0"], frames=2)
    make(tmp_path / "other.h5", ["runs/a/take_0"], frames=2)
    with h5py.File(tmp_path / "lab.h5", "r+") as file:
        file["runs/a/take_1"] = h5py.ExternalLink("other.h5", "/runs/a/take_0")
    made = Ingested(spec, tmp_path / "lab.h5", tmp_path / "store")
    assert made.reasons == {"lab.h5#runs/a/take_1": "'take_1' lies in another file: ingest that file itself"}


def advised(warning):
    """The values of each --set that reads the images."""
    words = shlex.split(warning.partition("`")[2].partition("`")[0])
    return [words[n + 1] for n, word in enumerate(words) if word == "--set"]


def test_images_that_are_doubtful_beside_named_ones_are_read_as_advised(tmp_path, spec):
    make(tmp_path / "in.hdf5", ["runs/a/take_1"])
    shown = np.stack([smooth(n) for n in range(5)])
    with h5py.File(tmp_path / "in.hdf5", "r+") as file:
        file["runs/a/take_1/vision/depth"] = shown
        file["runs/a/take_1/vision/thin image"] = np.full((5, 3, 20, 3), 7, np.uint8)
    made = Ingested(spec, tmp_path / "in.hdf5", tmp_path / "a")
    told = [warning for warning in made.report.warnings if "may hold images" in warning]
    assert len(told) == 2
    settings = [setting for warning in told for setting in advised(warning)]
    settings = [own.replace("HWC, CHW or HW", "CHW").replace("BLACK, WHITE", "0, 255") for own in settings]
    pixels = [own.removeprefix("content.pixels={").removesuffix("}") for own in settings if "pixels" in own]
    settings = [own for own in settings if "pixels" not in own]
    settings.append(f"content.pixels={{{', '.join(pixels)}}}")
    read = Ingested(spec, tmp_path / "in.hdf5", tmp_path / "b", settings)
    assert not any("may hold images" in warning for warning in read.report.warnings)
    (name,) = read.rows
    assert np.abs(ingested.pixels(read.images(name, "depth")[2]).astype(int) - shown[2]).max() <= SMOOTH_ERROR
    assert ingested.pixels(read.images(name, "thin_image")[0]).shape == (20, 3, 3)


def test_a_layout_without_images_is_advised_to_skip_them_alone(tmp_path):
    with h5py.File(tmp_path / "in.hdf5", "w") as file:
        demo = file.create_group("data/demo_0")
        demo["actions"], demo["states"] = np.zeros((5, 7)), np.random.default_rng(0).normal(size=(5, 20))
        demo["depth"] = np.stack([smooth(n) for n in range(5)])
    spec = tmp_path / "lab.yaml"
    spec.write_text(
        "layout: robosuite\nmapping: {embodiment: arm, state: {right.joint_position: {key: states}}}"
    )
    made = Ingested(spec, tmp_path / "in.hdf5", tmp_path / "a")
    (told,) = [warning for warning in made.report.warnings if "may hold images" in warning]
    assert "content.pixels" not in told
    (skip,) = advised(told)
    read = Ingested(spec, tmp_path / "in.hdf5", tmp_path / "b", [skip])
    assert not any("may hold images" in warning for warning in read.report.warnings)
