"""Replay buffers in zarr: their numbers and pictures against what was written, and against LeRobot's."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from foundry_testing.ingested import Ingested, pixels
from foundry_testing.zarr_buffers import (
    BLOSC,
    ENDS,
    FPS,
    arrays,
    shade,
    write_array,
    write_buffer,
    zipped,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from robot_foundry.ingest.engine import run
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.errors import UsageError
from robot_foundry.shards import images
from robot_foundry.shards.images import encode_jpeg

SPEC = "diffusion_policy"
SAMPLES = os.environ.get("FOUNDRY_SAMPLES")
PUSHT = "zarr/pusht_cchi_v7_first3ep.zarr"
needs_samples = pytest.mark.skipif(not SAMPLES, reason="FOUNDRY_SAMPLES does not name the folder of samples")


def made_of(source, overrides=(FPS,), spec=SPEC):
    made = Ingested(spec, source, source.parent / f"store_{source.name}", overrides)
    report = made.report
    assert report.discovered == report.written + report.num_refused
    return made


def check(made, data, ends=ENDS):
    """Every row of every array came out, in its episode."""
    for number, (start, stop) in enumerate(zip((0, *ends), ends, strict=False)):
        name = f"episode_{number:06d}"
        np.testing.assert_array_equal(made.column(name, "state"), data["state"][start:stop])
        np.testing.assert_array_equal(made.column(name, "action.command"), data["action"][start:stop])
        np.testing.assert_array_equal(made.source(name)["action"], data["action"][start:stop])
        shown = [pixels(image)[4:, 4:].mean() for image in made.images(name, "img")]
        np.testing.assert_allclose(shown, [shade(row) for row in range(start, stop)], atol=1.5)
        assert made.episode(name)["fps"] == 10 and made.episode(name)["fps_source"] == "spec"


@pytest.mark.parametrize(
    "compressor",
    [
        BLOSC,
        {**BLOSC, "cname": "zstd", "shuffle": 1},
        {"id": "lz4", "acceleration": 1},
        {"id": "zlib", "level": 1},
        {"id": "gzip", "level": 1},
        {"id": "zstd", "level": 1},
        None,
    ],
)
def test_rows_and_pictures_are_those_that_were_written(tmp_path, compressor):
    data = write_buffer(tmp_path / "in.zarr", compressor=compressor)
    made = made_of(tmp_path / "in.zarr")
    check(made, data)
    camera = made.episode("episode_000000")["cameras"]["img"]
    assert camera["pixels"] == "float32 HWC of 3, 0 to 255" and camera["array"] == "img"
    assert made.dims("state") == [f"robot.value.{n}" for n in range(5)]
    assert {dim["unit"] for dim in made.manifest["schema"]["state"]} == {"unknown"}


def test_a_zip_and_a_folder_hold_the_same(tmp_path):
    data = write_buffer(tmp_path / "in.zarr")
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        source = zipped(tmp_path / "in.zarr", tmp_path / f"in_{compression}.zarr.zip", compression)
        check(made_of(source), data)


def test_a_zip_of_the_folder_itself_and_several_beneath_one(tmp_path):
    data = write_buffer(tmp_path / "in/one.zarr")
    write_buffer(tmp_path / "in/two.zarr")
    zipped(tmp_path / "in/one.zarr", tmp_path / "in/three.zarr.zip")
    made = made_of(tmp_path / "in")
    assert made.manifest["counts"]["frames"] == 3 * ENDS[-1] and made.manifest["counts"]["episodes"] == 9
    with zipfile.ZipFile(tmp_path / "four.zarr.zip", "w") as archive:
        for file in (tmp_path / "in/two.zarr").rglob("*"):
            archive.write(file, f"replay_buffer.zarr/{file.relative_to(tmp_path / 'in/two.zarr')}")
    check(made_of(tmp_path / "four.zarr.zip"), data)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.integers(1, 9),
    st.integers(1, 4),
    st.sampled_from("CF"),
    st.sampled_from("./"),
    st.sampled_from(["<f4", ">f4", "<f8", "<i2"]),
)
def test_any_cut_into_chunks_gives_the_same_rows(
    tmp_path_factory, lengths, rows, columns, order, separator, dtype
):
    folder, ends = tmp_path_factory.mktemp("cuts"), np.cumsum(lengths)
    state = np.random.default_rng(rows).integers(-90, 90, (ends[-1], 5)).astype(dtype)
    write_buffer(folder / "in.zarr", {}, ends)
    for name in ("state", "action"):
        write_array(
            folder / "in.zarr/data" / name, state, (rows, columns), BLOSC, order=order, separator=separator
        )
    made = made_of(folder / "in.zarr")
    for number, stop in enumerate(ends):
        rows_of_one = made.source(f"episode_{number:06d}")["state"]
        np.testing.assert_array_equal(rows_of_one, state[stop - lengths[number] : stop])


def test_pictures_of_bytes_and_times_of_their_own(tmp_path):
    data = arrays()
    data["camera_1"] = data.pop("img").astype(np.uint8)
    data["timestamp"] = 1.6e9 + np.arange(ENDS[-1]) / 8
    write_buffer(tmp_path / "in.zarr", data)
    made = made_of(tmp_path / "in.zarr", ())
    assert made.episode("episode_000001")["fps"] == 8
    np.testing.assert_allclose(made.column("episode_000001", "timestamp"), np.arange(8) / 8, atol=1e-6)
    assert "pixels" not in made.episode("episode_000001")["cameras"]["camera_1"]
    assert made.manifest["schema"]["cameras"][0]["role"] == "primary"


def test_float_pictures_are_converted_exactly_where_they_are_whole_numbers(tmp_path, monkeypatch):
    """Every level from 0 to 255 arrives at the encoder as it is; numbers in 0…1 are scaled."""
    seen = []
    monkeypatch.setattr(images, "encode_jpeg", lambda p, q: seen.append(p.copy()) or encode_jpeg(p, q))
    levels = np.arange(256, dtype=np.float32).reshape(16, 16)
    img = np.broadcast_to(levels[None, :, :, None], (4, 16, 16, 3)).copy()
    data = {"action": np.zeros((4, 2), "<f4"), "state": np.ones((4, 2), "<f4"), "img": img}
    for scale in (1, 255):
        write_buffer(tmp_path / f"{scale}.zarr", {**data, "img": img / np.float32(scale)}, [4])
        made = made_of(tmp_path / f"{scale}.zarr")
        assert not [line for line in made.report.warnings if "rounded" in line]
    assert len(seen) == 8
    assert all(np.array_equal(picture[:, :, 1], levels.astype(np.uint8)) for picture in seen)


def test_float_pictures_between_levels_are_rounded_and_told(tmp_path):
    data = arrays()
    data["img"][3, 1:] += 0.25
    write_buffer(tmp_path / "in.zarr", data)
    made = made_of(tmp_path / "in.zarr")
    told = "1 of 3 episodes: 'img' holds numbers between the levels 0 to 255, which are rounded"
    assert told in made.report.warnings


def test_texts_of_rows_are_language(tmp_path):
    data = arrays()
    data["instruction"] = np.array(["push"] * 5 + ["lift"] * 12)
    write_buffer(tmp_path / "in.zarr", data)
    made = made_of(tmp_path / "in.zarr")
    assert [made.instructions()[f"episode_{n:06d}"] for n in range(3)] == ["push", "lift", "lift"]


def test_a_robot_of_several_arrays_and_a_spec_that_gives_them_a_meaning(tmp_path):
    rng, n = np.random.default_rng(0), ENDS[-1]
    data = {
        "robot0_eef_pos": rng.normal(size=(n, 3)).astype(np.float32),
        "robot0_eef_rot_axis_angle": np.zeros((n, 3), np.float32),
        "robot0_gripper_width": np.full((n, 1), 0.04, np.float32),
        "robot0_demo_start_pose": np.zeros((n, 6)),
    }
    write_buffer(tmp_path / "in.zarr", data)
    state = ["robot0_eef_pos.0", "robot0_eef_pos.1", "robot0_eef_pos.2"]
    made = made_of(tmp_path / "in.zarr")
    assert made.dims("state")[:3] == [f"robot.{name}" for name in state] and len(made.dims("state")) == 7
    given_meaning = [
        FPS,
        "mapping.state.right.ee_position={key: robot0_eef_pos}",
        "mapping.state.right.ee_rotation={key: robot0_eef_rot_axis_angle, from: axis_angle}",
        "mapping.state.right.gripper_opening={key: robot0_gripper_width, from: width, closed: 0, open: 0.08}",
    ]
    made = Ingested(SPEC, tmp_path / "in.zarr", tmp_path / "store", given_meaning)
    names = [f"right.ee_position.{axis}" for axis in "xyz"]
    assert made.dims("state") == [
        *names, *(f"right.ee_rot6d.{n}" for n in range(6)), "right.gripper_opening",
    ]  # fmt: skip
    np.testing.assert_array_equal(made.column("episode_000001", "state")[:, :3], data["robot0_eef_pos"][5:13])


def test_the_rate_has_to_be_stated(tmp_path):
    write_buffer(tmp_path / "in.zarr")
    with pytest.raises(UsageError, match="does not say how many frames a second") as raised:
        run(SPEC, tmp_path / "in.zarr", store=tmp_path / "store", name="made")
    assert raised.value.hint == "state it: --set content.fps=10"


def test_only_the_episodes_of_a_changed_chunk_are_made_anew(tmp_path):
    data = write_buffer(tmp_path / "in.zarr", rows=1)
    spec = load_spec(SPEC, [FPS, "content.shard_bytes=700"])

    def ingest():
        return run(spec, tmp_path / "in.zarr", store=tmp_path / "store", name="made")

    assert ingest().shards_written == 3 and ingest().noop
    data["state"][15] += 1
    write_buffer(tmp_path / "in.zarr", data, rows=1)
    again = ingest()
    assert (again.shards_written, again.shards_reused) == (1, 2)


@needs_samples
def test_pusht_is_the_same_420_rows_by_two_independent_writers(tmp_path):
    sample = Path(str(SAMPLES))
    made = Ingested(SPEC, sample / PUSHT, tmp_path / "zarr", [FPS])
    other = Ingested("lerobot", sample / "lerobot_v30/pusht_image_slice", tmp_path / "lerobot")
    assert made.manifest["counts"]["frames"] == other.manifest["counts"]["frames"] == 420
    zip_made = Ingested(SPEC, zipped(sample / PUSHT, tmp_path / "pusht.zarr.zip"), tmp_path / "zip", [FPS])
    for number in range(3):
        name = f"episode_{number:06d}"
        for column, width in (("action.command", 2), ("state", 2)):
            numbers = made.column(name, column)
            np.testing.assert_array_equal(numbers[:, :width], other.column(name, column)[:, :width])
            np.testing.assert_array_equal(numbers, zip_made.column(name, column))
        assert made.images(name, "img") == zip_made.images(name, "img")
        frames = zip(made.images(name, "img"), other.images(name, "image"), strict=True)
        for jpeg, png in frames:
            # The other writer's PNG through the same encoder is the same bytes: the pixels were equal.
            assert encode_jpeg(np.asarray(Image.open(io.BytesIO(png)).convert("RGB")), 95) == jpeg


@needs_samples
def test_pusht_tells_all_that_it_holds(tmp_path):
    made = Ingested(SPEC, Path(str(SAMPLES)) / PUSHT, tmp_path / "zarr", [FPS])
    source = made.source("episode_000002")
    assert {name: source[name].shape for name in ("keypoint", "n_contacts", "state")} == {
        "keypoint": (141, 9, 2), "n_contacts": (141, 1), "state": (141, 5),
    }  # fmt: skip
    absence = made.manifest["provenance"]["absence"]
    assert {"keypoint", "n_contacts"} <= {entry["name"] for entry in absence["not_taken"]["arrays"]}
    assert absence["episodes"] == 3
