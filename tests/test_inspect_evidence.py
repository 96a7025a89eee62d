"""Readings of a random motion that was written in every convention: right where it is sure, else left open."""

from __future__ import annotations

import numpy as np
import pytest
from foundry_testing.stranger_files import (
    DELTA,
    MEANT,
    NO_ACTION,
    ROTATION_VECTOR,
    SAME_FORM,
    WRITTEN,
    write_stranger,
)

from robot_foundry.ingest.inspect.evidence import names
from robot_foundry.ingest.inspect.evidence.columns import gripper, runs_of
from robot_foundry.ingest.inspect.evidence.guess import HIGH, LOW, TODO
from robot_foundry.ingest.inspect.inspect import inspect
from robot_foundry.ingest.inspect.survey import Series


def read(folder, form, action):
    write_stranger(folder / "x.h5", form, action, with_pictures=False)
    (seen,) = inspect(folder / "x.h5").seen
    return seen.drafted


def meaning(run):
    return run.form, {name: value for name, value in run.settings.items() if value is not False}


@pytest.mark.parametrize("form", WRITTEN)
def test_displacements_tell_the_reading_of_a_rotation(form, tmp_path):
    found = read(tmp_path, form, DELTA)
    rotation = found.state["right.ee_rotation"].run
    assert meaning(rotation) == MEANT[form]
    assert rotation.confidence == HIGH or form in ("matrix", "axis_angle", "euler_xyz")
    command = found.actions["command"]
    assert command["right.ee_position"].run.form == command["right.ee_rotation"].run.form == "delta"
    assert command["right.ee_rotation"].columns == (3, 6)
    assert command["right.gripper_opening"].run.settings == {"closed": 0.0, "open": 1.0}


@pytest.mark.parametrize("form", [form for form in WRITTEN if form != "axis_angle"])
def test_targets_in_another_form_tell_it_too(form, tmp_path):
    found = read(tmp_path, form, ROTATION_VECTOR)
    rotation = found.state["right.ee_rotation"].run
    assert rotation.is_open or meaning(rotation) == MEANT[form]
    if form not in ("columns", "rows"):
        assert found.actions["command"]["right.ee_position"].run.form == "value"


@pytest.mark.parametrize("action", [SAME_FORM, NO_ACTION])
@pytest.mark.parametrize("form", WRITTEN)
def test_what_nothing_tells_is_never_sure(form, action, tmp_path):
    rotation = read(tmp_path, form, action).state["right.ee_rotation"].run
    assert rotation.is_open or rotation.confidence == LOW or meaning(rotation) == MEANT[form]


def series(values, name="state", columns=()):
    rows = np.asarray(values, float)
    return Series(name, rows.shape[1:], "float64", (rows,), tuple(columns))


def test_joints_in_degrees_are_told_from_those_in_radians():
    rng = np.random.default_rng(0)
    radians = rng.uniform(-2.5, 2.5, (40, 6))
    (run,) = runs_of(series(radians, "qpos"))
    assert (run.kind, run.settings) == (names.JOINT, {})
    (run,) = runs_of(series(np.degrees(radians), "qpos"))
    assert run.settings["scale"] == pytest.approx(np.pi / 180) and "degrees" in run.evidence[0]


def test_positions_in_millimetres_are_scaled():
    rows = np.random.default_rng(0).uniform(100, 400, (40, 3))
    (run,) = runs_of(series(rows, "ee_pos"))
    assert run.settings == {"scale": 0.001}


def test_a_width_tells_which_end_is_open_and_a_share_does_not():
    width = gripper(np.linspace(0.001, 0.08, 30)[:, None], 0, named=True)
    assert (width.form, width.settings) == ("width", {"closed": 0.0, "open": 0.08})
    share = gripper(np.linspace(0, 1, 30)[:, None], 0)
    assert share.settings["open"] == TODO
    assert gripper(np.linspace(-3, 5, 30)[:, None], 0) is None


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("obs/robot0_eef_quat", names.QUATERNION),
        ("obs/robot0_gripper_qpos", names.GRIPPER),
        ("observations/qvel", names.JOINT_VELOCITY),
        ("steps/observation/cartesian_position", names.POSE),
        ("motor_torques", names.EFFORT),
        ("weather", None),
    ],
)
def test_names_are_hints(name, hint):
    assert names.hint_of(name) == hint


def test_the_left_eye_of_a_wrist_camera_is_no_left_wrist():
    assert names.roles_of(["wrist_image_left"])["wrist_image_left"][0] == "wrist_right"
    two = names.roles_of(["cam_left_wrist", "cam_right_wrist", "cam_high"])
    assert [role for role, _ in two.values()] == ["wrist_left", "wrist_right", "primary"]
