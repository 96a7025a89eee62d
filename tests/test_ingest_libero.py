"""LIBERO files: rotation vectors, two fingers, OSC commands, images upside down, language in JSON.

Files are generated as LIBERO/scripts/create_dataset.py lays them out; SciPy and h5py are the witnesses.
Legend: N frames.
"""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from foundry_testing.ingested import Ingested, pixels, smooth
from scipy.spatial.transform import Rotation

from robot_foundry.ingest.engine import run
from robot_foundry.runtime.errors import FoundryError

NAME = "KITCHEN_SCENE3_turn_on_the_stove_demo.hdf5"
TASK = "turn on the stove"
SMOOTH_ERROR = 8
OUTPUT_MAX = [0.05, 0.05, 0.05, 0.5, 0.5, 0.5]


def make(path, *, episodes=2, frames=9, convention="opengl", problem=True, seed=0):
    """Returns the images as a viewer should see them, by (demo, camera)."""
    random, seen = np.random.default_rng(seed), {}
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        controller = {"type": "OSC_POSE", "output_max": OUTPUT_MAX, "output_min": [-v for v in OUTPUT_MAX]}
        settings = {"control_freq": 20, "controller_configs": controller}
        data.attrs["env_args"] = json.dumps({"env_name": "Libero_Kitchen", "env_kwargs": settings})
        data.attrs["bddl_file_name"] = "KITCHEN_SCENE3_turn_on_the_stove.bddl"
        data.attrs["macros_image_convention"] = convention
        if problem:
            data.attrs["problem_info"] = json.dumps({"language_instruction": problem})
        for demo in (f"demo_{i}" for i in range(episodes)):
            group = data.create_group(demo)
            group.attrs["num_samples"] = frames
            group["actions"] = random.uniform(-1.5, 1.5, (frames, 7))
            group["states"] = random.normal(size=(frames, 50))
            group["robot_states"] = random.normal(size=(frames, 9))
            group["rewards"] = np.eye(frames, dtype=np.uint8)[-1]
            group["dones"] = np.eye(frames, dtype=np.uint8)[-1]
            position_N3 = random.normal(size=(frames, 3))
            turned_N3 = Rotation.random(frames, rng=random).as_rotvec()
            group["obs/ee_states"] = np.c_[position_N3, turned_N3]
            group["obs/ee_pos"], group["obs/ee_ori"] = position_N3, turned_N3
            finger_N = random.uniform(0, 0.04, frames)
            group["obs/gripper_states"] = np.c_[finger_N, -finger_N]
            group["obs/joint_states"] = random.normal(size=(frames, 7))
            for camera in ("agentview", "eye_in_hand"):
                upright = np.stack([smooth(seed + n) for n in range(frames)])
                group[f"obs/{camera}_rgb"] = upright[:, ::-1]
                seen[demo, camera] = upright
    return seen


def rot6d(turned):
    matrix_N33 = turned.as_matrix()
    return np.concatenate([matrix_N33[:, :, 0], matrix_N33[:, :, 1]], axis=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("libero")
    seen = make(folder / NAME, problem=list(TASK))
    return folder / NAME, seen, Ingested("libero", folder / NAME, folder / "store")


def test_counts_names_and_language(made):
    path, _, version = made
    with h5py.File(path) as file:
        lengths = {name: len(group["actions"]) for name, group in file["data"].items()}
    assert {name: row["num_frames"] for name, row in version.rows.items()} == lengths
    assert version.report.quarantined == ()
    assert version.instructions() == {"demo_0": TASK, "demo_1": TASK}
    assert all(row["success"] for row in version.rows.values())
    roles = {camera["name"]: camera["role"] for camera in version.manifest["schema"]["cameras"]}
    assert roles == {"agentview": "primary", "eye_in_hand": "wrist_right"}
    assert version.episode("demo_0")["fps_source"] == "env_args.env_kwargs.control_freq"


def test_states_and_commands_agree_with_scipy(made):
    path, _, version = made
    with h5py.File(path) as file:
        demo = {name: item[()] for name, item in file["data/demo_1"].items() if name != "obs"}
        obs = {name: item[()] for name, item in file["data/demo_1/obs"].items()}
    turned = Rotation.from_rotvec(obs["ee_ori"])
    opening_N = (obs["gripper_states"] @ [1, -1]) / 0.08
    pose = [*(f"ee_position.{axis}" for axis in "xyz"), *(f"ee_rot6d.{i}" for i in range(6))]
    joints = [f"joint_position.{i}" for i in range(7)]
    assert set(version.dims("state")) == {f"right.{name}" for name in (*pose, *joints, "gripper_opening")}
    for names, expected in (
        (pose, np.c_[obs["ee_pos"], rot6d(turned)]),
        (joints, obs["joint_states"]),
        (["gripper_opening"], opening_N[:, None]),
    ):
        at = [version.dims("state").index(f"right.{name}") for name in names]
        np.testing.assert_allclose(version.column("demo_1", "state")[:, at], expected, atol=1e-5)
    clipped_N7 = np.clip(demo["actions"], -1, 1)
    target = Rotation.from_rotvec(clipped_N7[:, 3:6] * 0.5) * turned
    expected = np.c_[obs["ee_pos"] + 0.05 * clipped_N7[:, :3], rot6d(target), (1 - clipped_N7[:, 6]) / 2]
    np.testing.assert_allclose(version.column("demo_1", "action.command"), expected, atol=1e-5)


def test_images_are_the_right_way_up_and_the_file_says_so(made):
    _, seen, version = made
    for (demo, camera), pictures in seen.items():
        stored = [pixels(data) for data in version.images(demo, camera)]
        assert len(stored) == len(pictures)
        assert (
            max(np.abs(a.astype(int) - b).max() for a, b in zip(stored, pictures, strict=True))
            <= SMOOTH_ERROR
        )
        assert version.episode(demo)["cameras"][camera]["flip"] == "vertical"


def test_upright_images_are_not_turned_by_mistake(tmp_path):
    make(tmp_path / NAME, convention="opencv", problem=TASK, episodes=1, frames=2)
    with pytest.raises(FoundryError, match="its images are upright .* --set content.flip=none"):
        run("libero", tmp_path / NAME, store=tmp_path / "store", name="x")
    made = Ingested("libero", tmp_path / NAME, tmp_path / "store", ["content.flip=none"])
    with h5py.File(tmp_path / NAME) as file:
        raw = file["data/demo_0/obs/agentview_rgb"][0]
    kept = pixels(made.images("demo_0", "agentview")[0])
    assert np.abs(kept.astype(int) - raw).max() <= SMOOTH_ERROR


def test_language_in_the_name_of_a_file_that_tells_none(tmp_path):
    make(tmp_path / NAME, problem=None, episodes=1, frames=1)
    made = Ingested("libero", tmp_path / NAME, tmp_path / "store")
    assert made.instructions() == {"demo_0": TASK}
    assert len(made.frames("demo_0")) == 1


def test_robomimic_and_libero_send_to_each_other(tmp_path):
    make(tmp_path / NAME, episodes=1, frames=2, problem=TASK)
    with pytest.raises(FoundryError, match="this is a file of LIBERO: use `foundry-data ingest libero`"):
        run("robomimic", tmp_path / NAME, store=tmp_path / "store", name="x")
    with h5py.File(tmp_path / NAME, "r+") as file:
        for name in ("problem_info", "bddl_file_name"):
            del file["data"].attrs[name]
        del file["data/demo_0/obs/ee_states"]
    with pytest.raises(FoundryError, match="use `foundry-data ingest robomimic`"):
        run("libero", tmp_path / NAME, store=tmp_path / "store", name="x")


@pytest.fixture
def replayed(tmp_path):
    """A copy that was made by replaying: LIBERO's arrays and no attribute at /data."""
    make(tmp_path / NAME, episodes=2, frames=5, problem=TASK)
    with h5py.File(tmp_path / NAME, "r+") as file:
        for name in list(file["data"].attrs):
            del file["data"].attrs[name]
    return tmp_path / NAME


def test_a_replayed_copy_is_known_by_its_arrays_and_takes_the_instruction_from_its_name(replayed, tmp_path):
    made = Ingested("libero", replayed, tmp_path / "store")
    assert made.instructions() == {"demo_0": TASK, "demo_1": TASK}
    with h5py.File(replayed) as file:
        position_N3, action_N7 = file["data/demo_0/obs/ee_pos"][()], file["data/demo_0/actions"][()]
    expected_N3 = position_N3 + OUTPUT_MAX[0] * np.clip(action_N7[:, :3], -1, 1)
    np.testing.assert_allclose(made.column("demo_0", "action.command")[:, :3], expected_N3, atol=1e-6)
    assert made.episode("demo_0")["environment"]["assumed"] == ["env_args"]


def test_robomimic_reads_a_replayed_copy_only_where_its_name_tells_no_instruction(replayed, tmp_path):
    with pytest.raises(FoundryError, match="this is a file of LIBERO: use `foundry-data ingest libero`"):
        run("robomimic", replayed, store=tmp_path / "store", name="x")
    other = replayed.rename(tmp_path / "mine.hdf5")
    changes = ["layout=robomimic", "mapping.actions.command=null"]
    made = Ingested("libero", other, tmp_path / "store", changes)
    assert made.report.written == 2 and made.instructions() == {}
