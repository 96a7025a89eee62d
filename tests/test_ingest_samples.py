"""Real recordings, frame by frame and number by number, against h5py, SciPy, tarfile and Pillow.

None of robot_foundry's readers is used on either side. Legend: N frames, H W pixels.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from robot_foundry.ingest.engine import run

SAMPLES = os.environ.get("FOUNDRY_SAMPLES")
pytestmark = pytest.mark.skipif(not SAMPLES, reason="FOUNDRY_SAMPLES does not name the folder of samples")
LIFT = "hdf5/lift_human_replay_robomimic_image84.hdf5"
# JPEG at quality 95 without chroma subsampling: the mean and the greatest error of a pixel, of 255.
MEAN_ERROR, GREATEST_ERROR = 1.5, 40


def sample(path):
    return Path(str(SAMPLES)) / path


def table(path):
    """An Arrow file; fixed-size lists as matrices."""
    read = pa.ipc.open_file(path).read_all()
    return {
        name: np.array(column.to_pylist()) if pa.types.is_fixed_size_list(column.type) else column.to_pylist()
        for name, column in zip(read.column_names, read.columns, strict=True)
    }


def manifest_of(store, report):
    path = store / "datasets" / report.dataset / report.version.version_id / "manifest.json"
    return json.loads(path.read_text()), path.parent


def rot6d(rotation):
    matrix_N33 = rotation.as_matrix()
    return np.concatenate([matrix_N33[:, :, 0], matrix_N33[:, :, 1]], axis=1)


@pytest.fixture(scope="module")
def lift(tmp_path_factory):
    store = tmp_path_factory.mktemp("lift")
    report = run("robomimic", sample(LIFT), store=store, name="lift")
    return store, report


def test_every_image_of_both_cameras_is_in_the_tar(lift):
    store, report = lift
    manifest, _ = manifest_of(store, report)
    assert manifest["counts"]["frames"] == 481 and len(manifest["shards"]) == 1
    tar = tarfile.open(store / "shards" / "lift" / f"{manifest['shards'][0]['key']}.tar")  # noqa: SIM115
    with h5py.File(sample(LIFT)) as file, tar:
        obs = file["data/demo_0/obs"]
        names = [name for name in tar.getnames() if name.endswith(".jpg")]
        assert len(names) == 2 * 481
        for camera in ("agentview", "robot0_eye_in_hand"):
            pictures_NHW3 = obs[f"{camera}_image"][:]
            own = sorted(name for name in names if name.endswith(f".{camera}.jpg"))
            assert [name.split(".")[0][-6:] for name in own] == [f"{n:06d}" for n in range(481)]
            stored_NHW3 = np.stack([np.asarray(Image.open(tar.extractfile(name))) for name in own])
            error_NHW3 = np.abs(stored_NHW3.astype(int) - pictures_NHW3)
            assert error_NHW3.mean(axis=(1, 2, 3)).max() < MEAN_ERROR
            assert error_NHW3.max() < GREATEST_ERROR


def test_source_arrays_are_untouched_and_next_obs_is_not_read(lift):
    store, report = lift
    manifest, _ = manifest_of(store, report)
    tar = tarfile.open(store / "shards" / "lift" / f"{manifest['shards'][0]['key']}.tar")  # noqa: SIM115
    with h5py.File(sample(LIFT)) as file, tar:
        name = next(name for name in tar.getnames() if name.endswith(".source.npz"))
        source = np.load(io.BytesIO(tar.extractfile(name).read()), allow_pickle=False)
        demo = file["data/demo_0"]
        expected = {"actions", "dones", "rewards", "states"}
        expected |= {f"obs/{name}" for name in demo["obs"] if not name.endswith("_image")}
        assert set(source.files) == expected | {"timestamp"}
        for array in expected:
            assert source[array].dtype == demo[array].dtype
            np.testing.assert_array_equal(source[array], demo[array][()])
        np.testing.assert_array_equal(source["timestamp"], np.arange(481) / 20)
        episode = json.load(tar.extractfile(name.replace("source.npz", "episode.json")))
        assert (episode["id"], episode["num_frames"], episode["fps"]) == ("demo_0", 481, 20.0)
        assert episode["fps_source"] == "env_args.env_kwargs.control_freq"
        assert set(episode["attributes"]["model_file"]) == {"sha256", "bytes"}
        assert episode["environment"]["env_name"] == "Lift"


def test_every_state_and_both_action_streams_agree_with_scipy(lift):
    store, report = lift
    manifest, folder = manifest_of(store, report)
    rows = table(folder / "frames" / f"{manifest['shards'][0]['key']}.arrow")
    state_names = [dim["name"] for dim in manifest["schema"]["state"]]
    with h5py.File(sample(LIFT)) as file:
        demo = file["data/demo_0"]
        obs = {name: demo["obs"][name][()] for name in demo["obs"] if not name.endswith("_image")}
        action_N7 = demo["actions"][()]
    turned = Rotation.from_quat(obs["robot0_eef_quat"])
    pose_N9 = np.concatenate([obs["robot0_eef_pos"], rot6d(turned)], axis=1)
    opening_N = np.clip((obs["robot0_gripper_qpos"] @ [1, -1]) / 0.08, 0, 1)

    assert state_names[0] == "right.ee_position.x" and state_names[9] == "right.gripper_opening"
    np.testing.assert_allclose(rows["state"][:, :9], pose_N9, atol=1e-6)
    np.testing.assert_allclose(rows["state"][:, 9], opening_N, atol=1e-6)
    np.testing.assert_allclose(rows["state"][:, 10:], obs["robot0_joint_vel"], rtol=1e-6)

    clipped_N7 = np.clip(action_N7, -1, 1)
    target = Rotation.from_rotvec(0.5 * clipped_N7[:, 3:6]) * turned
    command_N9 = np.concatenate([obs["robot0_eef_pos"] + 0.05 * clipped_N7[:, :3], rot6d(target)], axis=1)
    asked_N = (1 - action_N7[:, 6]) / 2
    np.testing.assert_allclose(rows["action.command"], np.c_[command_N9, asked_N], atol=1e-6)
    np.testing.assert_allclose(
        rows["action.next_state"], np.c_[np.r_[pose_N9[1:], pose_N9[-1:]], asked_N], atol=1e-6
    )
    assert rows["frame"] == list(range(481)) and rows["timestamp"] == [n / 20 for n in range(481)]
    assert [flag & 4 for flag in rows["flags"]] == [0] * 480 + [4]
    assert not any(flag & 24 for flag in rows["flags"])


def test_the_robots_gripper_follows_the_command(lift):
    """Were one polarity wrong, the width measured half a second later would go against the command."""
    store, report = lift
    manifest, folder = manifest_of(store, report)
    rows = table(folder / "frames" / f"{manifest['shards'][0]['key']}.arrow")
    told_N, opening_N = rows["action.command"][:-10, 9], rows["state"][10:, 9]
    assert set(told_N) == {0.0, 1.0}
    assert opening_N[told_N == 1].mean() > 0.9 and opening_N[told_N == 0].mean() < 0.7


def test_episode_annotation_and_schema_of_the_sample(lift):
    store, report = lift
    manifest, folder = manifest_of(store, report)
    episodes, annotations = table(folder / "episodes.arrow"), table(folder / "annotations.arrow")
    assert (episodes["id"], episodes["success"]) == (["demo_0"], [True])
    assert (episodes["source"], episodes["duration_s"]) == ([Path(LIFT).name], [pytest.approx(24.05)])
    assert (annotations["text"], annotations["end"]) == (["lift the red cube"], [481])
    roles = {camera["role"]: (camera["height"], camera["width"]) for camera in manifest["schema"]["cameras"]}
    assert roles == {"primary": (84, 84), "wrist_right": (84, 84)}
    assert (manifest["schema"]["fps"], manifest["schema"]["embodiment"]) == (20.0, "panda")


def test_raw_robosuite_gives_joints_and_the_other_layout_is_named(tmp_path):
    report = run("robosuite", sample("hdf5"), store=tmp_path, name="raw")
    assert (report.discovered, report.written) == (5, 4)
    assert report.quarantined == (
        (Path(LIFT).name, "this file has obs: use `foundry-data ingest robomimic`"),
    )
    manifest, folder = manifest_of(tmp_path, report)
    assert manifest["schema"]["cameras"] == [] and manifest["schema"]["fps"] == 20.0
    episodes = table(folder / "episodes.arrow")
    texts = dict(zip(*(table(folder / "annotations.arrow")[name] for name in ("key", "text")), strict=True))
    seen = []
    for e, (shard, start, count) in enumerate(
        zip(episodes["shard"], episodes["row_start"], episodes["num_frames"], strict=True)
    ):
        source, name = episodes["source"][e], episodes["id"][e]
        seen.append((source, name))
        rows = table(folder / "frames" / f"{manifest['shards'][shard]['key']}.arrow")
        with h5py.File(sample(f"hdf5/{source}")) as file:
            states, actions = file[f"data/{name}/states"][()], file[f"data/{name}/actions"][()]
        assert count == len(states)
        own = slice(start, start + count)
        opening_N = np.clip((states[:, 8] - states[:, 9]) / 0.08, 0, 1)
        np.testing.assert_allclose(rows["state"][own, :7], states[:, 1:8], atol=1e-6)
        np.testing.assert_allclose(rows["state"][own, 7], opening_N, atol=1e-6)
        joints_N7 = np.r_[states[1:, 1:8], states[-1:, 1:8]]
        expected_N8 = np.c_[joints_N7, (1 - actions[:, 6]) / 2]
        np.testing.assert_allclose(rows["action.next_state"][own], expected_N8, atol=1e-6)
        assert texts[episodes["key"][e]] == (
            "lift the red cube" if "lift" in source else "put the red cube on the green cube"
        )
    assert seen == [
        ("robosuite101_stack_demo.hdf5", "demo_1"),
        *(("robosuite141_lift_demo.hdf5", f"demo_{i}") for i in (1, 2, 3)),
    ]


def test_the_columns_of_raw_states_are_the_joints_that_the_model_names():
    """qpos starts with seven hinges and two slides of the arm, as the scene's own XML says."""
    import xml.etree.ElementTree as ElementTree

    with h5py.File(sample("hdf5/robosuite141_lift_demo.hdf5")) as file:
        scene = ElementTree.fromstring(file["data/demo_1"].attrs["model_file"])
    joints = [(j.get("name"), j.get("type", "hinge")) for j in scene.iter("joint") if j.get("name")]
    assert joints[:7] == [(f"robot0_joint{i}", "hinge") for i in range(1, 8)]
    assert joints[7:9] == [(f"gripper0_finger_joint{i}", "slide") for i in (1, 2)]


def test_files_of_other_layouts_are_refused_by_what_they_are(tmp_path):
    from robot_foundry.runtime.errors import FoundryError

    for path, expected in (
        ("hdf5_aloha/episode_0.hdf5", "this is an ALOHA episode"),
        ("droid_raw/LAB/success/2023-11-14/*/trajectory.h5", "this is a DROID trajectory"),
        (
            "hdf5/robosuite141_lift_demo.hdf5",
            "this file has no obs, only states: use `foundry-data ingest rob",
        ),
        ("ros1/rosbagjs_example.bag", "the file is not HDF5"),
    ):
        with pytest.raises(FoundryError, match="nothing was written, 1 unit was refused") as caught:
            run("robomimic", str(sample(path)), store=tmp_path, name="x")
        assert expected in str(caught.value)
