"""Canonical rows against SciPy, form by form. Legend: N frames."""

from __future__ import annotations

import math

import numpy as np
import pytest
from foundry_testing.mapped_rows import POSITION, rotations, rows_of, spec_of, survey_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.ingest.robot.resolve import resolve
from robot_foundry.ingest.robot.spec.spec_reader import spec_from_json
from robot_foundry.runtime.errors import FoundryError, UsageError

OSC = {"type": "OSC_POSE", "input_max": 1, "input_min": -1, "control_delta": True}
LIMITS = [0.05, 0.05, 0.05, 0.5, 0.5, 0.5]


def rot6d(rotation):
    """The first two columns, from SciPy's matrices."""
    return np.concatenate([rotation.as_matrix()[:, :, 0], rotation.as_matrix()[:, :, 1]], axis=1)


@pytest.mark.parametrize(
    ("field", "of"),
    [
        ({"from": "quaternion", "order": "xyzw"}, lambda r: 3.0 * r.as_quat()),
        ({"from": "quaternion", "order": "wxyz"}, lambda r: -np.roll(r.as_quat(), 1, axis=1)),
        ({"from": "axis_angle"}, lambda r: r.as_rotvec()),
        ({"from": "euler", "sequence": "xyz"}, lambda r: r.as_euler("xyz")),
        ({"from": "euler", "sequence": "XYZ"}, lambda r: r.as_euler("XYZ")),
        ({"from": "euler", "sequence": "zyx", "degrees": True}, lambda r: r.as_euler("zyx", degrees=True)),
        ({"from": "rot6d_columns"}, rot6d),
        ({"from": "rot6d_rows"}, lambda r: r.as_matrix()[:, :2, :].reshape(-1, 6)),
        ({"from": "matrix"}, lambda r: r.as_matrix()),
        ({"from": "matrix"}, lambda r: r.as_matrix().reshape(-1, 9)),
    ],
)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_every_form_of_a_rotation_gives_the_first_two_columns(field, of, seed):
    turned = rotations(seed)
    rows, schema = rows_of(spec_of({"right.ee_rotation": {"key": "r", **field}}), {"r": of(turned)})
    assert [dim.name for dim in schema.state] == [f"right.ee_rot6d.{i}" for i in range(6)]
    np.testing.assert_allclose(rows.state_ND, rot6d(turned), atol=2e-6)


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ({"from": "fingers", "closed": 0, "open": 0.08}, [[0.04, -0.04], [0.01, -0.03], [0, 0]], [1, 0.5, 0]),
        ({"from": "width", "closed": 0.01, "open": 0.11}, [[0.11], [0.06], [0.0]], [1, 0.5, 0]),
        ({"from": "command", "closed": 1, "open": -1}, [[-1.0], [1.0], [0.5]], [1, 0, 0.25]),
        ({"from": "value"}, [[0.25], [1.5], [-0.5]], [0.25, 1, 0]),
        ({"from": "value", "closed": 1, "open": 0}, [[0.25], [1.5], [-0.5]], [0.75, 0, 1]),
    ],
)
def test_a_gripper_is_0_closed_to_1_open_whatever_its_form(field, values, expected):
    spec = spec_of({"right.gripper_opening": {"key": "g", **field}})
    rows, _ = rows_of(spec, {"g": np.array(values)})
    np.testing.assert_allclose(rows.state_ND[:, 0], expected, atol=1e-7)
    flat, _ = rows_of(spec, {"g": np.array(values)[:, 0]}) if len(values[0]) == 1 else (rows, None)
    np.testing.assert_array_equal(flat.state_ND, rows.state_ND)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), reach=st.floats(0.1, 4.0))
def test_an_osc_command_is_clipped_scaled_and_applied_in_base_axes(seed, reach):
    rng = np.random.default_rng(seed)
    turned, position_N3 = rotations(seed), rng.normal(size=(6, 3))
    action_N7 = rng.uniform(-reach, reach, (6, 7))
    spec = spec_of(
        {
            "right.ee_position": {"key": "p"},
            "right.ee_rotation": {"key": "q", "from": "quaternion", "order": "xyzw"},
        },
        {
            "command": {
                "right.ee_position": {"key": "a", "columns": [0, 3], "from": "osc"},
                "right.ee_rotation": {"key": "a", "columns": [3, 6], "from": "osc"},
            }
        },
    )
    config = {**OSC, "output_max": LIMITS, "output_min": [-x for x in LIMITS]}
    environment = {"env_args": {"env_kwargs": {"controller_configs": config}}}
    arrays = {"p": position_N3, "q": turned.as_quat(), "a": action_N7}
    rows, schema = rows_of(spec, arrays, environment=environment)

    clipped_N7 = np.clip(action_N7, -1, 1)
    target_N3 = position_N3 + 0.05 * clipped_N7[:, :3]
    target = Rotation.from_rotvec(0.5 * clipped_N7[:, 3:6]) * turned
    names = [dim.name for dim in schema.streams["command"]]
    assert names[:3] == [f"right.ee_position.{axis}" for axis in "xyz"]
    np.testing.assert_allclose(rows.streams["command"][:, :3], target_N3, atol=1e-6)
    np.testing.assert_allclose(rows.streams["command"][:, 3:], rot6d(target), atol=2e-6)

    # control_delta false: the same numbers are absolute, and nothing is clipped.
    config["control_delta"] = False
    rows, _ = rows_of(spec, arrays, environment=environment)
    np.testing.assert_allclose(rows.streams["command"][:, :3], action_N7[:, :3], atol=1e-6)
    np.testing.assert_allclose(
        rows.streams["command"][:, 3:], rot6d(Rotation.from_rotvec(action_N7[:, 3:6])), atol=2e-6
    )


def test_osc_limits_need_not_be_symmetric():
    """robosuite's scale_action: (clip(a) - mid of input) * (output range / input range) + mid of output."""
    config = {**OSC, "input_max": 2, "input_min": 0, "output_max": [0.3] * 6, "output_min": [-0.1] * 6}
    spec = spec_of(POSITION, {"command": {"right.ee_position": {"key": "a", "from": "osc"}}})
    arrays = {"p": np.zeros((3, 3)), "a": np.array([[-1.0, 0, 0.5], [1, 1.5, 2], [9, 2, 1]])}
    environment = {"env_args": {"env_kwargs": {"controller_configs": config}}}
    rows, _ = rows_of(spec, arrays, environment=environment)
    expected = np.clip(arrays["a"], 0, 2) * 0.2 - 0.1
    np.testing.assert_allclose(rows.streams["command"], expected, atol=1e-7)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, "no controller_configs"),
        ({**OSC, "type": "JOINT_VELOCITY"}, "its controller is 'JOINT_VELOCITY' and not OSC_POSE"),
        ({**OSC, "output_min": LIMITS}, "its controller has no output_max"),
        ({**OSC, "output_min": LIMITS, "output_max": "big"}, "the output_max of its controller is 'big'"),
        ({**OSC, "input_max": -1, "output_min": 0, "output_max": 1}, "not above input_min"),
    ],
)
def test_another_controller_is_refused_by_name(config, expected):
    spec = spec_of(POSITION, {"command": {"right.ee_position": {"key": "a", "from": "osc"}}})
    environment = {"env_args": {"env_kwargs": {"controller_configs": config}}}
    item = survey_of({"p": np.zeros((2, 3)), "a": np.zeros((2, 3))}, environment=environment)
    assert expected in resolve(spec.mapping, [item]).problems["demo-0"]


def test_deltas_and_scales_are_explicit_without_a_controller():
    spec = spec_of(
        {"right.ee_position": {"key": "p", "scale": 0.001}, "right.joint_position": {"key": "j"}},
        {
            "command": {
                "right.ee_position": {"key": "a", "from": "delta", "clip": 2, "scale": [1, 10, 100]},
                "right.joint_position": {"key": "v", "from": "delta", "scale": 0.5},
            }
        },
    )
    arrays = {
        "p": np.array([[1000.0, 2000, 3000]]),
        "j": np.array([[1.0, 2]]),
        "a": np.array([[1.0, -3, 2]]),
        "v": np.array([[2.0, 4]]),
    }
    rows, schema = rows_of(spec, arrays)
    assert [dim.name for dim in schema.state][-2:] == ["right.joint_position.0", "right.joint_position.1"]
    np.testing.assert_allclose(rows.state_ND, [[1, 2, 3, 1, 2]])
    np.testing.assert_allclose(rows.streams["command"], [[2, -18, 203, 2, 4]])


def test_next_state_is_the_state_one_row_later_and_the_last_row_repeats():
    position_N3 = np.arange(15.0).reshape(5, 3)
    spec = spec_of(
        {**POSITION, "right.gripper_opening": {"key": "g", "from": "value"}},
        {
            "next_state": {
                "right.ee_position": {"from": "next_state"},
                "right.gripper_opening": {"key": "a", "columns": [-1, None], "from": "value"},
            }
        },
    )
    arrays = {"p": position_N3, "g": np.zeros(5), "a": np.c_[np.zeros((5, 3)), np.linspace(0, 1, 5)]}
    rows, _ = rows_of(spec, arrays)
    np.testing.assert_array_equal(rows.streams["next_state"][:, :3], position_N3[[1, 2, 3, 4, 4]])
    np.testing.assert_allclose(rows.streams["next_state"][:, 3], np.linspace(0, 1, 5))
    assert [bool(flag & Flag.TERMINAL) for flag in rows.flags_N] == [False] * 4 + [True]


def test_joints_that_slide_have_their_own_unit():
    """A SCARA: the third of four joints is a lift; streams have the units of the state."""
    units = ["rad", "rad", "m", "rad"]
    spec = spec_of(
        {
            "right.joint_position": {"key": "q", "unit": units, "scale": [1, 1, 0.001, 1]},
            "right.joint_velocity": {"key": "v", "unit": "m/s"},
        },
        {
            "command": {"right.joint_position": {"key": "d", "from": "delta"}},
            "next_state": {"right.joint_position": {"from": "next_state"}},
            "target": {"right.joint_position": {"key": "q"}},
        },
    )
    assert spec_from_json(spec.to_json(), "again") == spec
    arrays = {"q": np.full((3, 4), 2.0), "d": np.zeros((3, 4)), "v": np.ones((3, 1))}
    rows, schema = rows_of(spec, arrays)
    named = {dim.name: dim.unit for dim in schema.state}
    assert [named[f"right.joint_position.{i}"] for i in range(4)] == units
    assert named["right.joint_velocity.0"] == "m/s"
    assert [dim.unit for dim in schema.streams["command"]] == units
    assert [dim.unit for dim in schema.streams["next_state"]] == units
    assert [dim.unit for dim in schema.streams["target"]] == units
    assert rows.state_ND[0, schema.state_space().index("right.joint_position.2")] == np.float32(0.002)

    plain = spec_of({"right.joint_position": {"key": "q"}})
    assert "unit" not in plain.to_json()["mapping"]["state"]["right.joint_position"]
    short = spec_of({"right.joint_position": {"key": "q", "unit": ["m"]}})
    assert "has 1 units for 4 columns" in resolve(short.mapping, [survey_of(arrays, key="a")]).problems["a"]
    for field, message in (
        ({"key": "q", "unit": "mm"}, "right.joint_position.unit: 'mm' is not one of rad, m"),
        ({"key": "q", "unit": ["rad", "deg"]}, "right.joint_position.unit: 'deg' is not one of rad, m"),
    ):
        with pytest.raises(UsageError, match=message):
            spec_of({"right.joint_position": field})
    with pytest.raises(UsageError, match=r"right\.ee_position\.unit: is not a key here"):
        spec_of({"right.ee_position": {"key": "p", "unit": "m"}})


def test_values_are_float32_of_float64_arithmetic():
    """A pose far from the origin keeps its digits until it is stored."""
    position_N3 = np.full((2, 3), 1e4 + 1 / 3)
    spec = spec_of(
        {"right.ee_position": {"key": "p"}},
        {"command": {"right.ee_position": {"key": "a", "from": "delta", "scale": 1e-4}}},
    )
    rows, _ = rows_of(spec, {"p": position_N3, "a": np.full((2, 3), 2, np.float32)})
    assert rows.streams["command"][0, 0] == np.float32(1e4 + 1 / 3 + 2e-4)
    assert math.isclose(rows.timestamp_N[1], 0.05)


def test_every_quantity_of_the_scheme_can_be_mapped():
    """A mobile robot with a lift, a hand and a wrench: each number lands at its name."""
    numbers = np.random.default_rng(3).normal(size=(5, 30))
    numbers[:, 4:6] = 0.0
    fields = {
        "base.position": ([0, 2], ["base.position.x", "base.position.y"]),
        "base.yaw": ([2, 3], ["base.yaw"]),
        "torso.height": ([3, 4], ["torso.height"]),
        "base.linear_velocity": ([4, 6], ["base.linear_velocity.x", "base.linear_velocity.y"]),
        "base.yaw_velocity": ([6, 7], ["base.yaw_velocity"]),
        "right_hand.joint_position": ([7, 11], [f"right_hand.joint_position.{i}" for i in range(4)]),
        "right.joint_effort": ([11, 13], ["right.joint_effort.0", "right.joint_effort.1"]),
        "right.ee_force": ([13, 16], [f"right.ee_force.{c}" for c in "xyz"]),
        "right.ee_angular_velocity": ([16, 19], [f"right.ee_angular_velocity.{c}" for c in "xyz"]),
        "right.gripper_force": ([19, 20], ["right.gripper_force"]),
    }
    spec = spec_of(
        {name: {"key": "n", "columns": columns} for name, (columns, _) in fields.items()},
        {"command": {"base.linear_velocity": {"key": "n", "columns": [4, 6], "scale": [1.0, 2.0]}}},
    )
    found, schema = rows_of(spec, {"n": numbers})
    space = schema.state_space()
    for (start, stop), names in fields.values():
        at = [space.index(name) for name in names]
        np.testing.assert_allclose(found.state_ND[:, at], numbers[:, start:stop], rtol=1e-6)
    assert len(space) == sum(len(names) for _, names in fields.values())
    assert [dim.name for dim in schema.streams["command"]] == [f"base.linear_velocity.{c}" for c in "xy"]
    with pytest.raises(FoundryError, match="holds 3 columns, value needs 2"):
        spec_of({"base.position": {"key": "n", "columns": [0, 3]}})
    with pytest.raises(
        FoundryError, match="base.linear_velocty: is not a quantity, did you mean 'base.linear_vel"
    ):
        spec_of({"base.linear_velocty": {"key": "n"}})
    wide = resolve(spec_of({"base.yaw": {"key": "n"}}).mapping, [survey_of({"n": numbers})])
    assert "base.yaw needs 1 columns as value, and 'n' gives 30" in next(iter(wide.problems.values()))
