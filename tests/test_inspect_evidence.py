"""Readings of a random motion, written in every convention: right where they are sure, else left open."""

from __future__ import annotations

import itertools
from collections import Counter

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
from scipy.spatial.transform import Rotation

from robot_foundry.ingest.inspect.evidence import names
from robot_foundry.ingest.inspect.evidence.columns import gripper, runs_of
from robot_foundry.ingest.inspect.evidence.guess import LOW, TODO
from robot_foundry.ingest.inspect.evidence.rotations import matrices
from robot_foundry.ingest.inspect.inspect import inspect
from robot_foundry.ingest.inspect.survey import Series
from robot_foundry.ingest.inspect.told import text_of_code_points

ACTIONS = (DELTA, ROTATION_VECTOR, SAME_FORM, NO_ACTION)
RIGHT, OPEN, LIKELY, WRONG = "sure and right", "left open", "likely and right", "wrong"


@pytest.fixture(scope="module")
def readings(tmp_path_factory):
    """What is drafted of each form of rotation with each kind of action."""
    folder, found = tmp_path_factory.mktemp("strangers"), {}
    for form, action in itertools.product(WRITTEN, ACTIONS):
        path = folder / f"{form} {action}.h5"
        write_stranger(path, form, action, with_pictures=False)
        (seen,) = inspect(path).seen
        found[form, action] = seen.drafted
    return found


def meaning(run):
    return run.form, {name: value for name, value in run.settings.items() if value is not False}


def verdict(run, form):
    if run.is_open:
        return OPEN
    if meaning(run) != MEANT[form]:
        return WRONG
    return LIKELY if run.confidence == LOW else RIGHT


def test_displacements_tell_every_reading_of_a_rotation(readings):
    for form in WRITTEN:
        found = readings[form, DELTA]
        assert verdict(found.state["right.ee_rotation"].run, form) == RIGHT, form
        command = found.actions["command"]
        assert command["right.ee_position"].run.form == command["right.ee_rotation"].run.form == "delta"
        assert command["right.ee_rotation"].columns == (3, 6)
        assert command["right.gripper_opening"].run.settings == {"closed": 0.0, "open": 1.0}


def test_targets_are_no_displacements(readings):
    for form, action in itertools.product(WRITTEN, (ROTATION_VECTOR, SAME_FORM)):
        assert readings[form, action].actions["command"]["right.ee_position"].run.form == "value", form


def test_no_reading_is_wrong_and_what_nothing_tells_is_left_open(readings):
    """`-s` shows the table of docs/inspect.md."""
    told = {action: Counter() for action in ACTIONS}
    for (form, action), found in readings.items():
        told[action][verdict(found.state["right.ee_rotation"].run, form)] += 1
    for action, counts in told.items():
        print(f"| {action} | {' | '.join(str(counts[v]) for v in (RIGHT, LIKELY, OPEN, WRONG))} |")
    assert not any(counts[WRONG] for counts in told.values()), told
    assert told[DELTA][RIGHT] == len(WRITTEN) and told[NO_ACTION][OPEN] > len(WRITTEN) // 2


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


@pytest.mark.parametrize("major", ["rows", "columns"])
@pytest.mark.parametrize("before", [0, 8])
def test_a_pose_of_4_x_4_numbers_tells_how_it_is_written(major, before):
    rng = np.random.default_rng(0)
    pose = np.tile(np.eye(4), (40, 1, 1))
    pose[:, :3, :3] = Rotation.random(40, random_state=0).as_matrix()
    pose[:, :3, 3] = rng.uniform(-0.5, 0.5, (40, 3))
    written = (pose if major == "rows" else pose.transpose(0, 2, 1)).reshape(40, 16)
    rows = np.concatenate([rng.uniform(-2, 2, (40, before)), written], axis=1)
    position, turned, *rest = runs_of(series(rows))
    assert (turned.form, turned.settings, turned.start) == ("homogeneous", {"major": major}, before)
    np.testing.assert_array_equal(rows[:, position.columns], pose[:, :3, 3])
    np.testing.assert_array_equal(
        matrices(turned.form, turned.settings, rows[:, turned.columns]), pose[:, :3, :3]
    )
    assert [run.kind for run in rest] == [names.JOINT] * bool(before)


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


def test_numbers_of_characters_are_told_from_others():
    def codes(*texts):
        rows = [[*map(ord, text), *[0] * (24 - len(text))] for text in texts]
        return Series("steps/instruction", (24,), "int32", (np.array(rows, float),))

    assert text_of_code_points(codes("push it", "lift the cube")) == "push it"
    assert text_of_code_points(codes("push\0it")) is None
    assert text_of_code_points(series(np.zeros((9, 24)), "instruction")) is None
