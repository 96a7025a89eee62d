"""What a mapping says of rows and episodes: flags, instruction, success, what fits. Legend: N frames."""

from __future__ import annotations

import numpy as np
import pytest
from foundry_testing.mapped_rows import POSITION, rotations, rows_of, spec_of, survey_of
from scipy.spatial.transform import Rotation

from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.ingest.robot.resolve import resolve
from robot_foundry.ingest.robot.spec.spec_reader import spec_from_json
from robot_foundry.ingest.sources import Refused
from robot_foundry.runtime.errors import FoundryError


def test_rows_without_a_pose_are_flagged_and_hold_zeros():
    turned = rotations(0, 8)
    quaternion_N4, position_N3 = turned.as_quat(), np.ones((8, 3))
    quaternion_N4[2] = 0.0
    position_N3[5] = np.nan
    spec = spec_of(
        {**POSITION, "right.ee_rotation": {"key": "q", "from": "quaternion", "order": "xyzw"}},
        {"next_state": {"right.ee_position": {"from": "next_state"}}},
    )
    rows, _ = rows_of(spec, {"p": position_N3, "q": quaternion_N4})
    assert [n for n in range(8) if rows.flags_N[n] & Flag.INVALID_STATE] == [2, 5]
    assert [n for n in range(8) if rows.flags_N[n] & Flag.INVALID_ACTION] == [4]
    assert not rows.state_ND[[2, 5]].any() and not rows.streams["next_state"][4].any()
    assert np.isfinite(rows.state_ND).all() and rows.state_ND[[0, 1, 3, 4, 6, 7]].any(axis=1).all()

    with pytest.raises(Refused, match="no frame of it has a finite state and action"):
        rows_of(spec, {"p": np.full((8, 3), np.inf), "q": quaternion_N4})


def test_a_pose_that_is_read_rows_for_columns_is_refused_by_name():
    poses = np.tile(np.eye(4), (6, 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = rotations(1, 6).as_matrix(), [0.4, 0.1, 0.3]
    source = {"m": poses.transpose(0, 2, 1).reshape(6, 16)}
    field = {"key": "m", "from": "homogeneous", "major": "columns"}
    rows, _ = rows_of(spec_of({"right.ee_rotation": field}), source)
    np.testing.assert_allclose(rows.state_ND[:, :3], poses[:, :3, 0], atol=1e-6)
    with pytest.raises(Refused, match="is read rows for columns, .*right.ee_rotation.major=columns"):
        rows_of(spec_of({"right.ee_rotation": {**field, "major": "rows"}}), source)


def test_a_stored_matrix_that_is_no_rotation_is_invalid():
    matrix_N33 = rotations(3, 4).as_matrix()
    matrix_N33[1] *= 1.1
    matrix_N33[2, :, 0] *= -1
    rows, _ = rows_of(spec_of({"right.ee_rotation": {"key": "m", "from": "matrix"}}), {"m": matrix_N33})
    assert [bool(flag & Flag.INVALID_STATE) for flag in rows.flags_N] == [False, True, True, False]


def test_idle_frames_are_flagged_by_pose_joints_and_gripper_command():
    position_N3 = np.zeros((7, 3))
    position_N3[3:, 0] = 0.01
    angle_N = np.array([0, 0, 0, 0, 0, 0.1, 0.1])
    quaternion_N4 = Rotation.from_euler("z", angle_N[:, None]).as_quat()
    opening_N = np.array([1, 1, 1, 1, 0, 0, 0.0])
    spec = spec_of(
        {**POSITION, "right.ee_rotation": {"key": "q", "from": "quaternion", "order": "xyzw"}},
        {
            "command": {
                "right.ee_position": {"from": "next_state"},
                "right.gripper_opening": {"key": "a", "from": "value"},
            }
        },
    )
    rows, _ = rows_of(spec, {"p": position_N3, "q": quaternion_N4, "a": opening_N})
    # 2 moves, 3 is still, at 4 the gripper command changes and then it turns, 6 is the last.
    assert [bool(flag & Flag.NOOP) for flag in rows.flags_N] == [True, True, False, True, False, True, False]


def test_arrays_of_the_source_flag_interventions_and_invalid_actions():
    arrays = {"p": np.arange(15.0).reshape(5, 3), "person": np.array([[0], [1], [1], [0], [2]])}
    arrays["valid"] = np.array([True, True, True, False, True])
    rules = {
        "intervention": [{"key": "person", "is": True}, {"key": "absent", "is": True}],
        "invalid_action": {"key": "valid", "is": False},
    }
    spec = spec_of(POSITION, {"command": POSITION}, **rules)
    assert spec_from_json(spec.to_json(), "again") == spec
    rows, _ = rows_of(spec, arrays)
    assert (rows.flags_N & Flag.INTERVENTION != 0).tolist() == [False, True, True, False, True]
    assert (rows.flags_N & Flag.INVALID_ACTION != 0).tolist() == [False, False, False, True, False]
    assert "intervention" not in spec_of(POSITION).to_json()["mapping"]
    with pytest.raises(Refused, match="'p' in intervention, which has .5, 3. numbers"):
        rows_of(spec_of(POSITION, intervention=[{"key": "p", "is": True}]), arrays)


def test_instruction_and_success_come_from_the_first_rule_that_applies():
    rules = {
        "instruction": [{"attr": "task"}, {"by_env": {"Lift": "lift it"}}, {"text": "do it"}],
        "success": [{"attr": "success"}, {"key": "r", "at_least": 0.5}],
    }
    spec, arrays = spec_of(POSITION, **rules), {"p": np.zeros((4, 3))}

    def told(**episode):
        rows, _ = rows_of(spec, {**arrays, **episode.pop("arrays", {})}, **episode)
        return rows.annotations[0][3:], rows.success

    assert told() == (("do it", "spec"), None)
    assert told(environment={"env_name": "Lift"}, arrays={"r": np.zeros(4)}) == (
        ("lift it", "env:Lift"),
        False,
    )
    attributes = {"task": " stack ", "success": False}
    assert told(attributes=attributes, arrays={"r": np.ones(4)}) == (("stack", "attr:task"), False)
    assert told(attributes={"task": ""}, arrays={"r": np.array([0, 0, 1, 0])}) == (("do it", "spec"), True)
    rows, _ = rows_of(spec, arrays)
    assert rows.annotations[0][:3] == (0, 4, "instruction")


def test_what_does_not_fit_is_named_with_what_there_is():
    spec = spec_of(
        {
            "right.ee_position": {"key": "obs/eef_pos"},
            "right.ee_rotation": {"key": "obs/rot", "from": "quaternion", "order": "xyzw"},
            "right.gripper_opening": {"key": "obs/grip", "columns": [1, 2], "from": "value"},
        }
    )
    arrays = {"obs/eef_poz": np.zeros((2, 3)), "obs/rot": np.zeros((2, 3)), "obs/grip": np.zeros((2, 1))}
    problem = resolve(spec.mapping, [survey_of(arrays)]).problems["demo-0"]
    assert "right.ee_position names the array 'obs/eef_pos', did you mean 'obs/eef_poz'?" in problem
    assert "(arrays: obs/eef_poz, obs/grip, obs/rot)" in problem
    assert problem.count("arrays:") == 1
    assert "right.ee_rotation needs 4 columns as quaternion, and 'obs/rot' gives 3" in problem
    assert "right.gripper_opening takes the columns [1, 2] of 'obs/grip', which has 1" in problem


def test_an_optional_quantity_is_for_all_episodes_or_for_none():
    spec = spec_of(
        {**POSITION, "right.joint_position": {"key": "j", "optional": True}},
        {"next_state": {"right.joint_position": {"from": "next_state"}}},
    )
    with_joints = survey_of({"p": np.zeros((2, 3)), "j": np.zeros((2, 7))}, key="a")
    without = survey_of({"p": np.zeros((2, 3))}, key="b")

    found = resolve(spec.mapping, [with_joints])
    assert len(found.schema.state) == 10 and len(found.schema.streams["next_state"]) == 7
    assert not found.warnings
    found = resolve(spec.mapping, [without])
    assert len(found.schema.state) == 3 and not found.schema.streams and not found.warnings
    found = resolve(spec.mapping, [with_joints, without])
    assert len(found.schema.state) == 3 and not found.problems
    assert "right.joint_position of state is left out: 1 of 2 episodes lack it" in found.warnings[0]
    only = spec_of({"right.joint_position": {"key": "j", "optional": True}})
    with pytest.raises(FoundryError, match="no quantity of the mapping's state is in the source"):
        resolve(only.mapping, [without])


def test_an_episode_that_is_quarantined_anyway_leaves_no_optional_quantity_out():
    spec = spec_of({**POSITION, "right.joint_position": {"key": "j", "optional": True}})
    whole = survey_of({"p": np.zeros((2, 3)), "j": np.zeros((2, 7))}, key="a")
    damaged = survey_of({"p": np.zeros((2, 2))}, key="b")
    found = resolve(spec.mapping, [whole, damaged])
    assert list(found.problems) == ["b"] and len(found.schema.state) == 10 and not found.warnings


def test_joints_and_embodiment_are_one_for_a_dataset():
    spec = spec_of(
        {"right.joint_position": {"key": "j"}}, embodiment={"attr": "embodiment", "default": "panda"}
    )
    surveyed = [
        survey_of({"j": np.zeros((2, 7))}, key="a"),
        survey_of({"j": np.zeros((2, 6))}, key="b"),
        survey_of({"j": np.zeros((2, 7))}, key="c", attributes={"embodiment": "ur5"}),
    ]
    found = resolve(spec.mapping, surveyed)
    assert (found.schema.embodiment, len(found.schema.state)) == ("panda", 7)
    assert found.problems["b"] == "its state right.joint_position has 6 columns, the dataset's has 7"
    assert found.problems["c"].startswith("its embodiment is ur5, the dataset's is panda")


def test_a_base_without_a_pose_is_idle_while_its_twist_is_zero():
    twist = np.zeros((6, 2))
    twist[2:4, 0] = 0.5
    force = np.random.default_rng(4).normal(size=(6, 3))
    spec = spec_of({"base.linear_velocity": {"key": "v"}, "right.ee_force": {"key": "f"}})
    found, _ = rows_of(spec, {"v": twist, "f": force})
    assert ((found.flags_N & Flag.NOOP) != 0).tolist() == [True, True, False, False, True, False]
