"""DROID's raw recordings: numbers against h5py and SciPy, images against FFmpeg's own conversion.

Legend: N rows, H W pixels.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import uuid
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
from foundry_testing.ingested import Ingested, pixels
from scipy.spatial.transform import Rotation

from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.sources import layout
from robot_foundry.runtime.errors import FoundryError, UsageError

SAMPLES = os.environ.get("FOUNDRY_SAMPLES")
HELD_IMAGE, INVALID_ACTION = 32, 8
START_MS, STEP_MS = 1_700_000_000_000, 66
SERIALS = {"wrist": "13062452", "exterior_1": "20521388", "exterior_2": "24259877"}
# Of a level: two conversions from YUV, and JPEG at quality 95.
MEAN_ERROR = 2.5


def decoded(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def rot6d(turned):
    matrix_N33 = turned.as_matrix()
    return np.concatenate([matrix_N33[:, :, 0], matrix_N33[:, :, 1]], axis=1)


def check_numbers(made, name, file):
    """State, commands and flags of every row, by SciPy."""
    robot, action = file["observation/robot_state"], file["action"]
    for column, pose_N6, gripper_N in (
        ("state", robot["cartesian_position"][()], robot["gripper_position"][()]),
        ("action.command", action["cartesian_position"][()], action["gripper_position"][()]),
    ):
        turned = Rotation.from_euler("xyz", pose_N6[:, 3:])
        expected = {
            **{f"right.ee_position.{axis}": pose_N6[:, i] for i, axis in enumerate("xyz")},
            **{f"right.ee_rot6d.{i}": rot6d(turned)[:, i] for i in range(6)},
            "right.gripper_opening": np.clip(1 - gripper_N, 0, 1),
        }
        if column == "state":
            joints_N7 = robot["joint_positions"][()]
            expected |= {f"right.joint_position.{i}": joints_N7[:, i] for i in range(7)}
        names = made.dims(column.removeprefix("action."))
        assert set(names) == set(expected)
        wanted_ND = np.stack([expected[dim] for dim in names], axis=1)
        if column != "state":
            invalid_N = file["observation/timestamp/skip_action"][()]
            if "observation/controller_info/movement_enabled" in file:
                invalid_N |= ~file["observation/controller_info/movement_enabled"][()]
            wanted_ND[invalid_N] = 0
            flagged_N = (made.column(name, "flags") & INVALID_ACTION) != 0
            np.testing.assert_array_equal(flagged_N, invalid_N)
        np.testing.assert_allclose(made.column(name, column), wanted_ND, atol=1e-5)


@pytest.mark.skipif(not SAMPLES, reason="FOUNDRY_SAMPLES does not name the folder of samples")
def test_every_row_and_image_of_the_sample(tmp_path):
    source = Path(str(SAMPLES)) / "droid_raw"
    (path,) = source.rglob("trajectory.h5")
    made = Ingested("droid_raw", source, tmp_path)
    ((name, row),) = made.rows.items()
    assert name == "LAB+0000+2023-11-14-22h-13m-20s" and ":" in row["source"]
    with h5py.File(path) as file:
        num_frames = len(file["action/cartesian_position"])
        assert row["num_frames"] == num_frames == 80
        check_numbers(made, name, file)
        step_N = file["observation/timestamp/control/step_start"][()]
        roll_N = file["observation/robot_state/cartesian_position"][:, 3]
    assert (np.abs(np.diff(roll_N)) > 6).any(), "the sample's roll passes through pi"
    np.testing.assert_allclose(made.column(name, "timestamp"), (step_N - step_N[0]) / 1000)
    assert made.episode(name)["start_ns"] == int(step_N[0]) * 1_000_000
    assert made.instructions() == {name: "lift the red cube"} and row["success"]
    for camera, serial in SERIALS.items():
        frames = decoded(path.parent / "recordings" / "MP4" / f"{serial}.mp4")
        stored = made.images(name, camera)
        assert len(stored) == num_frames
        for n, data in enumerate(stored):
            shown = frames[min(n, len(frames) - 1)]
            assert np.abs(pixels(data).astype(int) - shown).mean() < MEAN_ERROR, (camera, n)
    assert made.episode(name)["cameras"]["exterior_2"]["held"] == [79]
    assert (made.column(name, "flags") & HELD_IMAGE).tolist() == [0] * 79 + [HELD_IMAGE]


@pytest.mark.skipif(not SAMPLES, reason="FOUNDRY_SAMPLES does not name the folder of samples")
def test_actions_relative_to_the_tool_compose_back_through_pi(tmp_path):
    """The roll of the sample jumps between pi and -pi, and a difference of angles would be a whole turn."""
    from robot_foundry.normalization import pose, rotation

    made = Ingested("droid_raw", Path(str(SAMPLES)) / "droid_raw", tmp_path)
    (name,) = made.rows
    names, state_ND = made.dims("state"), made.column(name, "state").astype(np.float64)
    at = [[names.index(f"right.ee_position.{axis}") for axis in "xyz"]]
    at.append([names.index(f"right.ee_rot6d.{i}") for i in range(6)])
    pose_N44 = pose.make(state_ND[:, at[0]], rotation.rot6d_to_matrix(state_ND[:, at[1]]))
    step_N44 = pose.relative(pose_N44[:-1], pose_N44[1:])
    turned_N = np.linalg.norm(Rotation.from_matrix(step_N44[:, :3, :3]).as_rotvec(), axis=1)
    assert turned_N.max() < 0.5
    np.testing.assert_allclose(pose.compose(pose_N44[:-1], step_N44), pose_N44[1:], atol=1e-5)


def write_video(path, pictures):
    """H.264 without loss of a frame, as the release has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=15)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "12", "threads": "1"}
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def make(folder, *, frames=6, serials=SERIALS, metadata=True, step_ms=STEP_MS, seed=0):
    """A recording as DROID's writer lays it out. Returns the images [n] that every camera shows."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    shown = [np.full((64, 64, 3), (n * 40) % 250, np.uint8) for n in range(frames)]
    with h5py.File(folder / "trajectory.h5", "w") as file:
        file.attrs["current_task"], file.attrs["success"] = "wipe", False
        for name in ("action/cartesian_position", "observation/robot_state/cartesian_position"):
            file[name] = random.uniform(-3, 3, (frames, 6))
        file["action/gripper_position"] = random.uniform(0, 1, frames)
        file["action/joint_position"] = random.uniform(-2, 2, (frames, 7))
        file["observation/robot_state/gripper_position"] = random.uniform(0, 1, frames)
        file["observation/robot_state/joint_positions"] = random.uniform(-2, 2, (frames, 7))
        file["observation/timestamp/skip_action"] = np.zeros(frames, bool)
        times_N = START_MS + np.arange(frames) * step_ms
        file["observation/timestamp/control/step_start"] = times_N
        for name, serial in serials.items():
            file[f"observation/timestamp/cameras/{serial}_frame_received"] = times_N + 7
            file[f"observation/camera_type/{serial}"] = np.full(frames, 0 if name == "wrist" else 1)
    if metadata:
        keys = {"wrist": "wrist_cam_serial", "exterior_1": "ext1_cam_serial", "exterior_2": "ext2_cam_serial"}
        told = {"uuid": folder.name, **{keys[name]: serial for name, serial in serials.items()}}
        (folder / f"metadata_{folder.name}.json").write_text(json.dumps(told))
    for serial in serials.values():
        write_video(folder / "recordings" / "MP4" / f"{serial}.mp4", shown)
    return shown


def video_of(folder, name="exterior_1", suffix=""):
    return folder / "recordings" / "MP4" / f"{SERIALS[name]}{suffix}.mp4"


def brightness(made, name, camera):
    return [round(float(pixels(data).mean()) / 40) for data in made.images(name, camera)]


def test_videos_short_long_missing_and_damaged(tmp_path):
    root = tmp_path / "lab" / "success"
    for name in ("whole", "short", "long", "far", "missing", "broken", "single"):
        shown = make(root / name, frames=1 if name == "single" else 6)
    shown = [np.full((64, 64, 3), n * 40, np.uint8) for n in range(6)]
    write_video(video_of(root / "short"), shown[:5])
    write_video(video_of(root / "long"), [*shown, shown[0]])
    write_video(video_of(root / "far"), shown[:3])
    video_of(root / "missing").unlink()
    data = video_of(root / "broken").read_bytes()
    video_of(root / "broken").write_bytes(data[: len(data) // 2])
    made = Ingested("droid_raw", tmp_path / "lab", tmp_path / "store")

    assert set(made.rows) == {"whole", "short", "long", "missing", "single"}
    reasons = {unit.partition("#")[2]: reason for unit, reason in made.reasons.items()}
    mp4 = f"recordings/MP4/{SERIALS['exterior_1']}.mp4"
    assert reasons["far"] == (
        f"its camera '{mp4}' has 3 images for 6 frames, and 2 more or fewer are allowed"
    )
    assert reasons["broken"].startswith(f"its video '{mp4}' cannot be read")
    assert brightness(made, "whole", "exterior_1") == [0, 1, 2, 3, 4, 5]
    assert brightness(made, "short", "exterior_1") == [0, 1, 2, 3, 4, 4]
    assert made.episode("short")["cameras"]["exterior_1"]["held"] == [5]
    assert made.episode("long")["left_out"] == {mp4: "the last 1 of its 7 images have no frame"}
    assert set(made.episode("missing")["cameras"]) == {"exterior_2", "wrist"}
    assert brightness(made, "single", "wrist") == [0]
    with h5py.File(root / "whole" / "trajectory.h5") as file:
        check_numbers(made, "whole", file)
    assert not made.rows["whole"]["success"], "the trajectory says so, whatever folder it lies in"


def test_times_tell_which_image_was_lost(tmp_path):
    """The third image is not in the video: by number, all later ones would be a row too early."""
    make(tmp_path / "raw" / "run")
    shown = [np.full((64, 64, 3), n * 40, np.uint8) for n in (0, 1, 3, 4, 5)]
    write_video(video_of(tmp_path / "raw" / "run"), shown)
    times = [START_MS + 7 + n * STEP_MS for n in (0, 1, 3, 4, 5)]
    video_of(tmp_path / "raw" / "run").with_name(f"{SERIALS['exterior_1']}_timestamps.json").write_text(
        json.dumps(times)
    )
    made = Ingested("droid_raw", tmp_path / "raw", tmp_path / "store")
    assert brightness(made, "run", "exterior_1") == [0, 1, 1, 3, 4, 5]
    told = made.episode("run")
    assert told["cameras"]["exterior_1"]["held"] == [2]
    assert told["environment"]["images_matched_by"] == {
        "exterior_1": "time",
        "exterior_2": "number",
        "wrist": "number",
    }


def test_stereo_gives_the_left_view_and_a_mono_video_is_preferred(tmp_path):
    make(tmp_path / "raw" / "run")
    both = [np.hstack([np.full((64, 128, 3), level, np.uint8) for level in (n * 40, 255)]) for n in range(6)]
    video_of(tmp_path / "raw" / "run").unlink()
    write_video(video_of(tmp_path / "raw" / "run", suffix="-stereo"), both)
    write_video(video_of(tmp_path / "raw" / "run", "wrist", "-stereo"), both)
    made = Ingested("droid_raw", tmp_path / "raw", tmp_path / "store")
    assert brightness(made, "run", "exterior_1") == [0, 1, 2, 3, 4, 5]
    cameras = made.episode("run")["cameras"]
    assert (cameras["exterior_1"]["height"], cameras["exterior_1"]["width"]) == (64, 128)
    assert cameras["wrist"]["array"] == f"recordings/MP4/{SERIALS['wrist']}.mp4"


def test_without_metadata_cameras_are_named_by_their_type(tmp_path):
    make(tmp_path / "raw" / "Tue_Dec_19_22:57:46_2023", metadata=False)
    made = Ingested("droid_raw", tmp_path / "raw", tmp_path / "store")
    arrays = {
        name: camera["array"] for name, camera in made.episode("Tue_Dec_19_22:57:46_2023")["cameras"].items()
    }
    assert arrays == {name: f"recordings/MP4/{serial}.mp4" for name, serial in SERIALS.items()}


def test_a_fourth_camera_and_odd_file_names(tmp_path):
    shown = make(tmp_path / "raw" / "run", serials=SERIALS | {"exterior_3": "30000001"}, metadata=False)
    write_video(video_of(tmp_path / "raw" / "run").with_name("Über all.mp4"), shown)
    made = Ingested("droid_raw", tmp_path / "raw", tmp_path / "store")
    assert set(made.episode("run")["cameras"]) == {*SERIALS, "camera_30000001", "camera__ber_all"}


def test_only_what_belongs_to_a_recording_is_read_with_it():
    reader = layout("droid_raw")
    folder = "LAB/success/2023/Tue_22:57"
    listed = {
        f"{folder}/{name}"
        for name in (
            "trajectory.h5",
            "metadata_x.json",
            "recordings/MP4/1.mp4",
            "recordings/MP4/1-stereo.mp4",
            "recordings/MP4/1_timestamps.json",
            "recordings/MP4/2-stereo.mp4",
            "recordings/SVO/1.svo",
            "notes.txt",
        )
    } | {f"{folder}:01/recordings/MP4/9.mp4"}
    assert sorted(reader.companions(f"{folder}/trajectory.h5", listed)) == [
        f"{folder}/metadata_x.json",
        f"{folder}/recordings/MP4/1.mp4",
        f"{folder}/recordings/MP4/1_timestamps.json",
        f"{folder}/recordings/MP4/2-stereo.mp4",
    ]
    assert reader.claims(f"{folder}/trajectory.h5") and not reader.claims("a/trajectory_im128.h5")


def test_a_changed_video_makes_another_version(tmp_path):
    shown = make(tmp_path / "raw" / "run")
    first = Ingested("droid_raw", tmp_path / "raw", tmp_path / "store").report
    write_video(video_of(tmp_path / "raw" / "run"), shown[::-1])
    second = Ingested("droid_raw", tmp_path / "raw", tmp_path / "store").report
    assert (str(first.version), str(second.version)) == ("made@v1", "made@v2")


def test_without_the_package_for_videos_its_extra_is_named(tmp_path, monkeypatch):
    make(tmp_path / "raw" / "run")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError, match="the package that decodes them is not installed") as caught:
        run("droid_raw", tmp_path / "raw", store=tmp_path / "store", name="x")
    assert caught.value.hint == "pip install 'robot-foundry[video]'"


def test_rows_that_do_not_answer_to_each_other_are_refused(tmp_path):
    make(tmp_path / "raw" / "run")
    with h5py.File(tmp_path / "raw" / "run" / "trajectory.h5", "r+") as file:
        del file["observation/robot_state/joint_positions"]
        file["observation/robot_state/joint_positions"] = np.zeros((5, 7))
    with pytest.raises(FoundryError, match="action/cartesian_position has 6 rows, .*joint_positions has 5"):
        run("droid_raw", tmp_path / "raw", store=tmp_path / "store", name="x")
    shutil.rmtree(tmp_path / "raw")
    make(tmp_path / "raw" / "run")
    (tmp_path / "raw" / "run" / "metadata_run.json").write_text("{")
    with pytest.raises(FoundryError, match="its file 'metadata_run.json' is not JSON"):
        run("droid_raw", tmp_path / "raw", store=tmp_path / "store", name="x")


@pytest.fixture
def bucket(monkeypatch):
    """A bucket of an S3 server in this process."""
    moto_server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    s3fs = pytest.importorskip("s3fs")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"bucket-{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}"
    server.stop()


def test_an_object_store_gives_the_bytes_of_a_disk(tmp_path, bucket):
    import s3fs

    folder = tmp_path / "raw" / "LAB" / "success" / "Tue_Dec_19_22:57:46_2023"
    make(folder)
    make(folder.with_name("Tue_Dec_19_22:57:46_2023:1"), seed=1, metadata=False)
    s3fs.S3FileSystem().put(str(tmp_path / "raw"), bucket.removeprefix("s3://") + "/raw", recursive=True)
    local = Ingested("droid_raw", tmp_path / "raw", tmp_path / "local")
    remote = Ingested("droid_raw", f"{bucket}/raw", tmp_path / "remote")
    assert len(local.rows) == 2 and local.report.quarantined == ()
    assert remote.members == local.members


def instructions(made, name):
    rows = made.table("annotations.arrow")
    key = made.rows[name]["key"]
    return [
        (row["text"], row["source"]) for row in rows if row["key"] == key and row["kind"] == "instruction"
    ]


def test_annotations_of_the_release_are_found_by_recording(tmp_path):
    raw = tmp_path / "raw"
    for seed, name in enumerate(("told", "untold", "other")):
        make(raw / "LAB" / "success" / name, seed=seed)
    texts = {
        "language_instruction1": "put it away",
        "language_instruction2": "clean up",
        "language_instruction3": "",
    }
    told = {"told": texts, "other": {"language_instruction1": "caf\u00e9 \ud800"}, "elsewhere": texts}
    (raw / "aggregated-annotations-030724.json").write_text(json.dumps(told))
    first = Ingested("droid_raw", raw, tmp_path / "store")
    assert instructions(first, "told") == [
        ("put it away", "language_instruction1"),
        ("clean up", "language_instruction2"),
    ]
    assert instructions(first, "untold") == [("wipe", "attr:current_task")]
    assert instructions(first, "other") == [("caf\u00e9 \\ud800", "language_instruction1")]
    assert not [warning for warning in first.report.warnings if "passed over" in warning]

    again = Ingested("droid_raw", raw, tmp_path / "store").report
    assert again.noop
    texts["language_instruction1"] = "tidy"
    (raw / "LAB" / "droid_language_annotations.json").write_text(json.dumps({"told": texts}))
    changed = Ingested("droid_raw", raw, tmp_path / "store")
    assert instructions(changed, "told")[0] == ("tidy", "language_instruction1")
    assert instructions(changed, "other") == instructions(first, "other")
    limited = run("droid_raw", raw, store=tmp_path / "limited", name="made", options=Options(limit=3))
    assert limited.version.version_id == changed.report.version.version_id


@pytest.mark.parametrize("content", ["{", "[]", '{"a": "text"}', '{"a": {"language_instruction1": 1}}'])
def test_damaged_annotations_are_named(tmp_path, content):
    make(tmp_path / "raw" / "run")
    (tmp_path / "raw" / "aggregated-annotations-1.json").write_text(content)
    with pytest.raises(FoundryError, match="aggregated-annotations-1.json holds no annotations by recording"):
        run("droid_raw", tmp_path / "raw", store=tmp_path / "store", name="x")
