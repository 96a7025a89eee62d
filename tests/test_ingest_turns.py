"""Forms of fields for the conventions of public datasets: turns, grippers that last, sums, slices by step."""

from __future__ import annotations

import numpy as np
import pytest
from foundry_testing.mapped_rows import spec_of
from scipy.spatial.transform import Rotation

from robot_foundry.ingest.robot.conversions import Given, integrated, of_homogeneous, opening_that_lasts
from robot_foundry.ingest.robot.forms import FORMS
from robot_foundry.runtime.errors import UsageError

N = 40


def opened(values, **settings):
    given = Given({"closed": 1.0, "open": -1.0, "threshold": 0.1} | settings)
    return opening_that_lasts(np.array(values, np.float64)[:, None], given)[:, 0].tolist()


def test_a_command_of_a_gripper_lasts_until_the_next():
    assert opened([0, 0, 1, 0, 0, -1, 0]) == [1, 1, 0, 0, 0, 1, 1]
    assert opened([0.05, -0.3, -0.09, 0.11]) == [0, 1, 1, 0]  # closed before it is first told to open
    assert opened([0, 0.1, 0]) == [1, 1, 1]  # never told
    assert opened([0, 2, 1], closed=2.0, open=0.0) == [1, 0, 0]  # of {0: open, 1: keep, 2: close}
    assert opened([1, 2, 1, 0], closed=2.0, open=0.0) == [1, 0, 0, 1]
    held = opened([1, np.nan, 0])
    assert held[0] == held[2] == 0 and np.isnan(held[1])


@pytest.mark.parametrize("frame", ["base", "tool"])
@pytest.mark.parametrize("way", ["axis_angle", "xyzw", "wxyz", "xyz", "ZYX", "z"])
def test_a_turn_is_written_in_any_way_about_axes_of_the_base_or_the_tool(way, frame):
    rng, form = np.random.default_rng(3), FORMS["rotation"]["delta"]
    start, turn = Rotation.random(N, random_state=1), Rotation.from_rotvec(rng.uniform(-1, 1, (N, 3)))
    if way == "z":
        turn = Rotation.from_euler("z", rng.uniform(-3, 3, (N, 1)))
    xyzw = turn.as_quat()
    numbers = {
        "axis_angle": turn.as_rotvec(), "xyzw": xyzw, "wxyz": np.roll(xyzw, 1, axis=1),
        "z": turn.magnitude()[:, None] * np.sign(turn.as_rotvec()[:, 2:]),
    }.get(way)  # fmt: skip
    numbers = turn.as_euler(way) if numbers is None else numbers
    settings = {"rotation": way, "frame": frame, "scale": 1.0, "clip": None}
    assert form.width_by(settings) == numbers.shape[1]
    given = Given(settings, start.as_matrix())
    target = form.to_canonical(numbers, given)
    expected = turn * start if frame == "base" else start * turn
    np.testing.assert_allclose(target, expected.as_matrix(), rtol=0, atol=1e-12)
    back = form.to_canonical(form.to_source(target, given), given)
    np.testing.assert_allclose(back, expected.as_matrix(), rtol=0, atol=1e-12)


def test_a_yaw_alone_comes_back_as_the_turn_about_that_axis():
    euler = FORMS["rotation"]["euler"]
    given = Given({"sequence": "z", "degrees": True})
    angles = np.array([[-170.0], [0.0], [35.0], [179.0]])
    matrix = euler.to_canonical(angles, given)
    np.testing.assert_allclose(matrix, Rotation.from_euler("z", angles, degrees=True).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(euler.to_source(matrix, given), angles, atol=1e-9)


@pytest.mark.parametrize("major", ["rows", "columns"])
def test_the_rotation_of_a_pose_matrix_is_told_from_its_transpose(major):
    rotation, poses = Rotation.random(N, random_state=2), np.tile(np.eye(4), (N, 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = rotation.as_matrix(), 0.3
    stored = poses if major == "rows" else poses.transpose(0, 2, 1)
    read = of_homogeneous(stored.reshape(N, 16), Given({"major": major}))
    np.testing.assert_allclose(read, rotation.as_matrix(), atol=1e-12)
    mirrored = stored * np.diag([-1.0, 1, 1, 1])
    assert np.isnan(of_homogeneous(mirrored.reshape(N, 16), Given({"major": major}))).all()


def test_a_sum_begins_at_zero_and_does_not_hide_what_is_unknown():
    steps = np.array([[1.0], [2.0], [np.nan], [4.0]])
    summed = integrated(steps, Given({"scale": 0.5}))[:, 0]
    np.testing.assert_array_equal(summed, [0.0, 0.5, 1.5, np.nan])


def test_columns_go_by_steps_and_what_displaces_has_the_names_of_the_state():
    joints = {"right.joint_position": {"key": "state", "columns": [0, 14, 2]}}
    spec = spec_of(joints, {})
    assert list(spec.mapping.state["right.joint_position"].columns_of(21)) == [0, 2, 4, 6, 8, 10, 12]
    assert spec.to_json()["mapping"]["state"]["right.joint_position"]["columns"] == [0, 14, 2]
    for columns in ([0, 14, 1], [0, None, 2], [0, 14, 2, 2]):
        with pytest.raises(UsageError, match=r"columns: expected \[start, stop"):
            spec_of({"right.joint_position": {"key": "state", "columns": columns}}, {})
    with pytest.raises(UsageError, match="holds 4 columns, value needs 3"):
        spec_of({"right.ee_position": {"key": "state", "columns": [0, 8, 2]}}, {})
    tip = {"right.tip": {"key": "state", "names": ["x", "y"]}}
    moved = spec_of(tip, {"command": {"right.tip": {"key": "action", "from": "delta"}}}).mapping
    assert moved.actions["command"]["right.tip"].names == ("x", "y")
    with pytest.raises(UsageError, match="names: are not those of the state, x, y"):
        spec_of(tip, {"command": {"right.tip": {"key": "action", "from": "delta", "names": ["y", "x"]}}})
    with pytest.raises(UsageError, match="'integrated' is not one of value, delta, next_state"):
        spec_of(tip, {"command": {"right.tip": {"key": "action", "from": "integrated", "names": ["x", "y"]}}})
