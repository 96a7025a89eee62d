"""ALOHA and ACT files, compressed and not: images byte for byte, numbers column for column, h5py as witness.

Legend: N frames, H W pixels.
"""

from __future__ import annotations

import os
from dataclasses import replace as replace_file
from pathlib import Path

import h5py
import numpy as np
import pytest
from foundry_testing.ingested import Ingested, jpeg, pixels, smooth

from robot_foundry.ingest.engine import run
from robot_foundry.ingest.plan import plan
from robot_foundry.ingest.sources import SourceFile, layout
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.errors import FoundryError

SAMPLES = os.environ.get("FOUNDRY_SAMPLES")
HELD_IMAGE, INVALID_ACTION = 32, 8
SMOOTH_ERROR = 8


def make(path, *, frames=6, cameras=("cam_high", "cam_left_wrist"), compress=True, seed=0, bgr=False):
    """An episode as ACT's recorder writes it; with `bgr`, JPEGs as cv2 makes them from RGB arrays."""
    random = np.random.default_rng(seed)
    pictures = {name: [smooth(seed * 100 + n) for n in range(frames)] for name in cameras}
    with h5py.File(path, "w") as file:
        file.attrs["sim"], file.attrs["compress"] = False, compress
        file["action"] = random.uniform(0, 1, (frames, 14)).astype(np.float32)
        for name in ("qpos", "qvel", "effort"):
            file[f"observations/{name}"] = random.uniform(0, 1, (frames, 14)).astype(np.float32)
        lengths = []
        for name in cameras:
            if not compress:
                file[f"observations/images/{name}"] = np.stack(pictures[name])
                continue
            encoded = [jpeg(picture[:, :, ::-1] if bgr else picture) for picture in pictures[name]]
            longest = max(map(len, encoded))
            rows = np.stack([np.frombuffer(data.ljust(longest, b"\0"), np.uint8) for data in encoded])
            file[f"observations/images/{name}"] = rows
            lengths.append([len(data) for data in encoded])
        if compress:
            file["compress_len"] = np.array(lengths, np.float32)
    return pictures


@pytest.mark.skipif(not SAMPLES, reason="FOUNDRY_SAMPLES does not name the folder of samples")
def test_the_sample_keeps_every_jpeg_byte_for_byte_and_every_joint(tmp_path):
    path = Path(str(SAMPLES)) / "hdf5_aloha" / "episode_0.hdf5"
    made = Ingested("aloha", path, tmp_path)
    counts = made.manifest["counts"]
    with h5py.File(path) as file:
        action_N14, qpos_N14 = file["action"][()], file["observations/qpos"][()]
        rows, lengths = file["observations/images/top"], file["compress_len"][0].astype(int)
        assert (counts["frames"], counts["episodes"]) == (len(action_N14), 1)
        stored = made.images("episode_0", "top")
        assert stored == [rows[n, : lengths[n]].tobytes() for n in range(len(rows))]
        (camera,) = made.manifest["schema"]["cameras"]
        assert (camera["height"], camera["width"], camera["role"]) == (480, 640, "primary")
        np.testing.assert_array_equal(
            made.source("episode_0")["observations/qvel"], file["observations/qvel"]
        )
    state, command = made.column("episode_0", "state"), made.column("episode_0", "action.command")
    for values, names, expected_N14 in (
        (state, made.dims("state"), qpos_N14),
        (command, made.dims("command"), action_N14),
    ):
        for part, first in (("left", 0), ("right", 7)):
            at = [names.index(f"{part}.joint_position.{i}") for i in range(6)]
            np.testing.assert_allclose(values[:, at], expected_N14[:, first : first + 6], atol=1e-6)
            opening_N = np.clip(expected_N14[:, first + 6], 0, 1)
            np.testing.assert_allclose(
                values[:, names.index(f"{part}.gripper_opening")], opening_N, atol=1e-6
            )
    np.testing.assert_allclose(made.column("episode_0", "timestamp"), np.arange(400) / 50)
    assert not (made.column("episode_0", "flags") & (HELD_IMAGE | INVALID_ACTION)).any()


def test_compressed_and_raw_files_of_one_dataset(tmp_path):
    (tmp_path / "raw").mkdir()
    seen = {
        "episode_0": make(tmp_path / "raw" / "episode_0.hdf5", seed=1),
        "episode_1": make(tmp_path / "raw" / "episode_1.hdf5", seed=2, compress=False),
        "episode_2": make(tmp_path / "raw" / "episode_2.hdf5", seed=3, frames=1),
    }
    made = Ingested("aloha", tmp_path / "raw", tmp_path / "store")
    assert (made.report.written, made.report.quarantined) == (3, ())
    with h5py.File(tmp_path / "raw" / "episode_0.hdf5") as file:
        for row, name in enumerate(("cam_high", "cam_left_wrist")):
            lengths = file["compress_len"][row].astype(int)
            images = file[f"observations/images/{name}"]
            assert made.images("episode_0", name) == [images[n, :k].tobytes() for n, k in enumerate(lengths)]
    for episode, cameras in seen.items():
        for name, pictures in cameras.items():
            stored = [pixels(data) for data in made.images(episode, name)]
            assert len(stored) == len(pictures)
            for picture, kept in zip(pictures, stored, strict=True):
                assert np.abs(picture.astype(int) - kept).max() <= SMOOTH_ERROR
    assert len(made.frames("episode_2")) == 1


def test_channel_order_turns_pass_through_off_for_its_camera_alone(tmp_path):
    pictures = make(tmp_path / "episode_0.hdf5", bgr=True)
    made = Ingested(
        "aloha", tmp_path / "episode_0.hdf5", tmp_path / "store", ["content.channel_order={cam_high: bgr}"]
    )
    right = pixels(made.images("episode_0", "cam_high")[0])
    assert np.abs(right.astype(int) - pictures["cam_high"][0]).max() <= 2 * SMOOTH_ERROR
    swapped = pixels(made.images("episode_0", "cam_left_wrist")[0])
    assert np.abs(swapped[:, :, ::-1].astype(int) - pictures["cam_left_wrist"][0]).max() <= SMOOTH_ERROR
    with h5py.File(tmp_path / "episode_0.hdf5") as file:
        row = file["observations/images/cam_left_wrist"][0]
        assert made.images("episode_0", "cam_left_wrist")[0] == row.tobytes().rstrip(b"\0")


def replace(path, name, values):
    with h5py.File(path, "r+") as file:
        del file[name]
        if values is not None:
            file[name] = values


def test_cameras_of_other_lengths_or_missing_and_invalid_numbers(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for n in range(5):
        make(folder / f"episode_{n}.hdf5", frames=8, compress=n % 2 == 0, seed=n)
    top = "observations/images/cam_high"
    with h5py.File(folder / "episode_0.hdf5") as file:
        images, action = file[top][()], file["action"][()]
    replace(folder / "episode_0.hdf5", top, images[:7])  # the last image is lost
    replace(folder / "episode_1.hdf5", top, np.stack([smooth(n) for n in range(10)]))  # two too many
    replace(folder / "episode_2.hdf5", top, images[:4])  # far off
    replace(folder / "episode_3.hdf5", top, None)  # no such camera
    action[3] = np.nan
    replace(folder / "episode_4.hdf5", "action", action)
    made = Ingested("aloha", folder, tmp_path / "store")

    assert made.reasons == {
        "episode_2.hdf5#episode_2": (
            f"its camera '{top}' has 4 images for 8 frames, and 2 more or fewer are allowed"
        )
    }
    stored = made.images("episode_0", "cam_high")
    assert len(stored) == 8 and stored[7] == stored[6] and stored[6] != stored[5]
    assert made.episode("episode_0")["cameras"]["cam_high"]["held"] == [7]
    assert (made.column("episode_0", "flags") & HELD_IMAGE).tolist() == [0] * 7 + [HELD_IMAGE]
    assert made.episode("episode_1")["left_out"] == {top: "the last 2 of its 10 images have no frame"}
    assert len(made.images("episode_1", "cam_high")) == 8
    assert set(made.episode("episode_3")["cameras"]) == {"cam_left_wrist"}
    assert not (made.column("episode_3", "flags") & HELD_IMAGE).any()
    invalid = (made.column("episode_4", "flags") & INVALID_ACTION) != 0
    assert invalid.tolist() == [n == 3 for n in range(8)]
    assert (made.column("episode_4", "action.command")[3] == 0).all()


def test_damaged_images_are_refused_by_camera_and_frame(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for n in range(3):
        make(folder / f"episode_{n}.hdf5", frames=4, seed=n)
    with h5py.File(folder / "episode_0.hdf5", "r+") as file:
        data = file["observations/images/cam_high"][2].tobytes().rstrip(b"\0")
        file["observations/images/cam_high"][2, len(data) - 40 :] = 0
    with h5py.File(folder / "episode_1.hdf5", "r+") as file:
        file["observations/images/cam_high"][3, :3] = 0
    made = Ingested("aloha", folder, tmp_path / "store")
    assert made.reasons["episode_0.hdf5#episode_0"] == (
        "its image 2 of 'observations/images/cam_high' is cut off"
    )
    assert made.reasons["episode_1.hdf5#episode_1"].startswith(
        "its image 3 of 'observations/images/cam_high' is damaged"
    )
    assert set(made.rows) == {"episode_2"}


def test_depth_is_left_out_and_other_files_are_named(tmp_path):
    make(tmp_path / "episode_0.hdf5", frames=3)
    with h5py.File(tmp_path / "episode_0.hdf5", "r+") as file:
        file["observations/images/cam_high_depth"] = np.zeros((3, 480, 640), np.uint16)
    made = Ingested("aloha", tmp_path / "episode_0.hdf5", tmp_path / "store")
    assert made.episode("episode_0")["left_out"] == {
        "observations/images/cam_high_depth": "a row has 307200 numbers"
    }
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["observations/state"] = np.zeros((3, 2))
    with pytest.raises(FoundryError, match=r"a spec with `layout: hdf5` can tell where"):
        run("aloha", tmp_path / "other.hdf5", store=tmp_path / "store", name="x")


def test_an_encoder_names_only_the_shards_that_it_decides(tmp_path):
    """A new version of the JPEG library leaves shards as they are where it has encoded nothing."""

    def keys(compress, overrides=()):
        make(tmp_path / "e.hdf5", frames=2, compress=compress)
        file, spec = SourceFile(str(tmp_path), "e.hdf5", 0, "0", "0"), load_spec("aloha", overrides)
        stat = (tmp_path / "e.hdf5").stat()
        file = replace_file(file, size=stat.st_size, stamp=str(stat.st_mtime_ns))
        units, _ = layout("aloha").list_units(file, spec.content)
        return [plan(units, spec, {"jpeg": v})[0].shard_key for v in ("1", "2")]

    same, other = keys(compress=True)
    assert same == other
    for compress, overrides in (
        (False, ()),
        (True, ["content.flip=both"]),
        (True, ["content.channel_order={cam_high: bgr}"]),
    ):
        first, second = keys(compress, overrides)
        assert first != second
