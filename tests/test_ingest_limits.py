"""Numbers are judged before they are clipped: what is none is flagged, and what lies far beyond is told.

Legend: N frames.
"""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from foundry_testing.ingested import Ingested
from foundry_testing.mapped_rows import POSITION, rows_of, spec_of
from hypothesis import given
from hypothesis import strategies as st
from make_robomimic import make

from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.ingest.robot.absence.notes import Notes, sentences

OSC = {
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "control_delta": True,
}
ENVIRONMENT = {"env_args": {"env_kwargs": {"controller_configs": OSC}}}
AXIS_ANGLE = {"right.ee_rotation": {"key": "w", "from": "axis_angle"}}
# Every form that limits or turns numbers, of the columns of 'a'.
STREAM_FIELDS = [
    ("right.ee_position", {"columns": [0, 3], "from": "osc"}),
    ("right.ee_position", {"columns": [0, 3], "from": "delta", "clip": 1.0, "scale": 0.05}),
    ("right.ee_position", {"columns": [0, 3], "from": "delta"}),
    ("right.ee_position", {"columns": [0, 3]}),
    ("right.ee_rotation", {"columns": [3, 6], "from": "osc"}),
    ("right.ee_rotation", {"columns": [0, 3], "from": "delta", "clip": 1.0}),
    ("right.ee_rotation", {"columns": [0, 3], "from": "delta", "clip": 1.0, "rotation": "xyz"}),
    ("right.ee_rotation", {"columns": [0, 3], "from": "axis_angle"}),
    ("right.ee_rotation", {"columns": [0, 3], "from": "euler", "sequence": "xyz"}),
    ("right.ee_rotation", {"columns": [0, 4], "from": "quaternion", "order": "xyzw"}),
    ("right.ee_rotation", {"columns": [0, 6], "from": "rot6d_columns"}),
    ("right.ee_rotation", {"columns": [0, 6], "from": "rot6d_rows"}),
    ("right.gripper_opening", {"columns": [0, 1], "from": "command", "closed": 1, "open": -1}),
    ("right.gripper_opening", {"columns": [0, 2], "from": "fingers", "closed": 0, "open": 0.08}),
    ("right.gripper_opening", {"columns": [0, 1], "from": "width", "closed": 0.08, "open": 0}),
    ("right.joint_position", {"columns": [0, 2], "from": "delta", "clip": 0.1}),
]


@pytest.mark.parametrize(("quantity", "field"), STREAM_FIELDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_with_a_number_that_is_none_is_flagged_in_every_form(quantity, field, value):
    start, stop = field["columns"]
    action = np.full((6, 6), 0.5) + np.eye(6) / 9
    for row in range(1, stop - start + 1):
        action[row % 6, start + row - 1] = value  # each column once
    bad = {row % 6 for row in range(1, stop - start + 1)}
    fields = {**POSITION, **AXIS_ANGLE, "right.joint_position": {"key": "j"}}
    spec = spec_of(fields, {"command": {quantity: {"key": "a", **field}}})
    arrays = {"p": np.zeros((6, 3)), "w": np.zeros((6, 3)), "j": np.zeros((6, 2)), "a": action}
    if len(bad) == 6:
        action = np.vstack([action, np.full((1, 6), 0.5) + np.eye(6)[:1]])
        arrays = {name: np.zeros((7, array.shape[1])) for name, array in arrays.items()} | {"a": action}
    rows, _ = rows_of(spec, arrays, environment=ENVIRONMENT)
    assert {n for n, flags in enumerate(rows.flags_N) if flags & Flag.INVALID_ACTION} == bad
    assert not any(flags & Flag.INVALID_STATE for flags in rows.flags_N)
    assert not rows.streams["command"][sorted(bad)].any()


@given(st.lists(st.floats(width=64), min_size=2, max_size=6), st.booleans())
def test_a_gripper_is_flagged_just_where_its_number_is_none(numbers, is_state):
    numbers = [0.02, *numbers]
    field = {"right.gripper_opening": {"key": "g", "from": "width", "closed": 0.0, "open": 0.08}}
    spec = spec_of({**POSITION, **(field if is_state else {})}, {"command": {} if is_state else field})
    arrays = {"p": np.zeros((len(numbers), 3)), "g": np.array(numbers)[:, None]}
    rows, schema = rows_of(spec, arrays)
    flag = Flag.INVALID_STATE if is_state else Flag.INVALID_ACTION
    flagged = [bool(flags & flag) for flags in rows.flags_N]
    assert flagged == [not abs(value) < np.inf or abs(value) / 0.08 == np.inf for value in numbers]
    found = rows.state_ND[:, -1] if is_state else rows.streams["command"][:, 0]
    names = [dim.name for dim in (schema.state if is_state else schema.streams["command"])]
    assert names[-1] == "right.gripper_opening"
    assert ((found >= 0) & (found <= 1)).all()


def test_numbers_too_large_for_float32_and_fingers_too_far_for_float64():
    spec = spec_of(
        {
            **POSITION,
            "right.gripper_opening": {"key": "f", "from": "fingers", "closed": 0, "open": 0.08},
        },
        {"command": {"right.ee_position": {"key": "p", "scale": 2.0}}},
    )
    position = np.zeros((4, 3))
    position[1, 2], position[2, 0] = 1e39, 3e38  # the second only overflows once it is scaled
    fingers = np.zeros((4, 2))
    fingers[3] = 1.7e308, -1.7e308
    rows, _ = rows_of(spec, {"p": position, "f": fingers})
    assert [bool(flags & Flag.INVALID_STATE) for flags in rows.flags_N] == [False, True, False, True]
    assert [bool(flags & Flag.INVALID_ACTION) for flags in rows.flags_N] == [False, True, True, False]


def test_a_flag_that_is_no_number_flags_nothing_and_is_told():
    spec = spec_of(
        POSITION, intervention=[{"key": "taken", "is": True}], invalid_action=[{"key": "ok", "is": False}]
    )
    arrays = {"p": np.zeros((3, 3)), "taken": np.array([0, np.nan, 1.0]), "ok": np.array([0, np.nan, 1.0])}
    rows, _ = rows_of(spec, arrays)
    assert [bool(flags & Flag.INTERVENTION) for flags in rows.flags_N] == [False, False, True]
    assert [bool(flags & Flag.INVALID_ACTION) for flags in rows.flags_N] == [True, False, False]
    assert set(rows.notes.said) == {
        "'taken' in intervention holds NaN, which flags no frame",
        "'ok' in invalid_action holds NaN, which flags no frame",
    }


def test_commands_far_beyond_their_limits_are_told_with_their_share(tmp_path):
    make(tmp_path / "in.hdf5", episodes=2, frames=10, size=16)
    with h5py.File(tmp_path / "in.hdf5", "r+") as file:
        for n, wild in enumerate((slice(0, 5), slice(0, 1))):
            actions = file[f"data/demo_{n}/actions"]
            values = np.clip(actions[()], -1, 1)
            values[wild, 1] = 40.0  # in mm, say
            values[0, 2] = np.inf
            actions[...] = values
    made = Ingested("robomimic", tmp_path / "in.hdf5", tmp_path / "store")
    told = [warning for warning in made.report.warnings if "limits" in warning]
    assert len(told) == 1
    assert told[0].startswith("action.command right.ee_position: 30% of the frames lie beyond the limits")
    assert "to 40)" in told[0]
    for name in ("demo_0", "demo_1"):
        flags = made.column(name, "flags")
        assert np.flatnonzero(flags & int(Flag.INVALID_ACTION)).tolist() == [0]


def test_an_overshoot_of_end_stops_and_single_jerks_are_not_told():
    notes = Notes()
    values = np.linspace(-0.04, 1.04, 200)[:, None]
    values[7] = 3.0
    clipped = notes.clipped("state right.gripper_opening", values, 0.0, 1.0)
    assert (
        clipped.min() == 0
        and clipped.max() == 1
        and notes.beyond["state right.gripper_opening"].num_frames == 1
    )
    assert sentences([notes], 1, 200) == []
    assert len(sentences([notes], 1, 4)) == 1
    assert Notes.from_json(notes.to_json()) == notes
