"""robosuite files of other robots and grippers: read, or refused with what reads them.

Files are generated as robosuite and robomimic lay them out. What a refusal prints is given to the next run as
it stands, and SciPy and plain NumPy say what has to come out.
"""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from foundry_testing.robosuite_files import (
    FRAMES,
    OSC,
    assert_pose,
    column,
    make,
    pose_after,
    printed,
    refusal,
    taken,
)


@pytest.mark.parametrize("stated", [{"a": "Sawyer"}, [["Sawyer"]], [{"name": "Sawyer"}], 5])
def test_robots_that_are_no_names_are_told_of(tmp_path, stated):
    path = tmp_path / "in.hdf5"
    make(path, OSC)
    with h5py.File(path, "r+") as file:
        told = json.loads(file["data"].attrs["env_args"])
        told["env_kwargs"]["robots"] = stated
        file["data"].attrs["env_args"] = json.dumps(told)
    (warning,) = taken(path, ["mapping.embodiment=mine"]).report.warnings
    assert warning.startswith(f"the robots in env_args are {stated!r}, which is not understood")
    assert "--set mapping.embodiment=…" in warning


# --- robots and grippers ----------------------------------------------------------------------------------


# Ranges of the joints in robosuite's models/assets/grippers/*.xml, open and closed.
@pytest.mark.parametrize(
    ("robot", "embodiment", "fingers", "joints", "opened", "closed"),
    [
        ("Sawyer", "sawyer", 2, 7, [0.020833, -0.020833], [-0.0115, 0.0115]),
        ("UR5e", "ur5e", 6, 6, [0.0] * 6, [0.8] * 6),
        ("IIWA", "iiwa", 6, 7, [0.0] * 6, [0.7] * 6),
    ],
)
def test_another_robot_is_refused_with_the_overrides_that_read_it(
    tmp_path, robot, embodiment, fingers, joints, opened, closed
):
    path = tmp_path / "in.hdf5"
    arms, action_N7 = make(path, OSC, robots=[robot], fingers=fingers, joints=joints)
    with h5py.File(path, "r+") as file:
        qpos = file["data/demo_0/obs/robot0_gripper_qpos"]
        qpos[0], qpos[1], qpos[2] = opened, closed, (np.array(opened) + closed) / 2
    message = refusal(path)
    assert f"it is of {robot} and the mapping's embodiment is panda; its gripper is" in message
    made = taken(path, printed(message))
    assert made.manifest["schema"]["embodiment"] == embodiment
    np.testing.assert_allclose(column(made, "state", "right.gripper_opening")[:3, 0], [1, 0, 0.5], atol=1e-4)
    assert column(made, "state", "right.joint_position").shape == (FRAMES, joints)
    assert_pose(made, "right", arms[0], action_N7[:, :6])


def test_raw_states_of_a_robot_with_fewer_joints_are_read_where_they_are(tmp_path):
    path = tmp_path / "raw.hdf5"
    make(path, OSC, robots=["UR5e"])
    state_ND = np.arange(FRAMES * 20.0).reshape(FRAMES, 20) / 400
    with h5py.File(path, "r+") as file:
        settings = json.loads(file["data"].attrs["env_args"])["env_kwargs"]
        file["data"].attrs["env_info"], file["data"].attrs["env"] = json.dumps(settings), "Lift"
        del file["data"].attrs["env_args"], file["data/demo_0/obs"]
        file["data/demo_0/states"] = state_ND
    made = taken(path, printed(refusal(path, "robosuite")), "robosuite")
    np.testing.assert_allclose(column(made, "state", "right.joint_position"), state_ND[:, 1:7], atol=1e-6)
    opening_N = 1 - np.clip(state_ND[:, 7] / 0.8, 0, 1)
    np.testing.assert_allclose(column(made, "state", "right.gripper_opening")[:, 0], opening_N, atol=1e-6)


def test_a_robot_that_nobody_knows_is_taken_under_its_own_name_and_its_gripper_is_asked_about(tmp_path):
    path = tmp_path / "in.hdf5"
    make(path, OSC, robots=["UR10eRobot"])
    message = refusal(path)
    assert printed(message) == ["mapping.embodiment=ur10e_robot"]
    made = taken(path, printed(message))
    assert made.manifest["schema"]["embodiment"] == "ur10e_robot"
    (warning,) = made.report.warnings
    assert warning.startswith("the gripper of UR10eRobot is not known here: see that right.gripper_ope")


def test_a_name_and_a_range_of_ones_own_are_believed(tmp_path):
    path = tmp_path / "in.hdf5"
    make(path, OSC, robots=["Sawyer"])
    own = ["mapping.embodiment=lab_sawyer", "mapping.state.right.gripper_opening.open=0.05"]
    assert taken(path, own).report.warnings == ()


def test_two_robots_are_refused_with_the_spec_that_reads_both(tmp_path):
    path = tmp_path / "in.hdf5"
    arms, action_N14 = make(path, OSC, robots=["Panda", "Panda"], env="TwoArmLift")
    assert "it is of Panda and Panda, and the mapping reads one arm: use the spec robomimic_two_arms" in (
        refusal(path)
    )
    made = taken(path, spec="robomimic_two_arms")
    assert made.report.warnings == () and made.manifest["schema"]["embodiment"] == "panda_panda"
    for n, part in enumerate(("right", "left")):
        assert_pose(made, part, arms[n], action_N14[:, 7 * n : 7 * n + 6])
        opening_N = (1 - action_N14[:, 7 * n + 6]) / 2
        for stream in ("command", "next_state"):
            np.testing.assert_allclose(
                column(made, stream, f"{part}.gripper_opening")[:, 0], opening_N, atol=1e-6
            )
        opening_N = np.clip(arms[n]["gripper_qpos"] @ [1, -1] / 0.08, 0, 1)
        np.testing.assert_allclose(
            column(made, "state", f"{part}.gripper_opening")[:, 0], opening_N, atol=1e-6
        )


def test_two_unlike_robots_with_controllers_of_their_own(tmp_path):
    path = tmp_path / "in.hdf5"
    small = {**OSC, "output_max": [0.01] * 6, "output_min": [-0.01] * 6}
    arms, action_N14 = make(path, [OSC, small], robots=["Panda", "Sawyer"], env="TwoArmLift")
    made = taken(path, printed(refusal(path, "robomimic_two_arms")), "robomimic_two_arms")
    assert made.manifest["schema"]["embodiment"] == "panda_sawyer"
    assert_pose(made, "right", arms[0], action_N14[:, :6])
    position_N3, _ = pose_after(arms[1], action_N14[:, 7:13], limits=[0.01] * 6)
    np.testing.assert_allclose(column(made, "command", "left.ee_position"), position_N3, atol=1e-6)


def test_two_arms_without_grippers_follow_each_other_after_six_columns(tmp_path):
    path = tmp_path / "in.hdf5"
    action_N12 = np.random.default_rng(2).uniform(-1, 1, (FRAMES, 12))
    tools = {"gripper_types": [None, None], "env": "TwoArmPegInHole"}
    arms, _ = make(path, OSC, robots=["Panda", "Panda"], actions=action_N12, **tools)
    changes = printed(refusal(path, "robomimic_two_arms"))
    assert changes == [f"mapping.state.{part}.gripper_opening=null" for part in ("right", "left")]
    changes += printed(refusal(path, "robomimic_two_arms", changes))
    made = taken(path, changes, "robomimic_two_arms")
    assert_pose(made, "left", arms[1], action_N12[:, 6:])
