"""robosuite files of other controllers: read, or refused with what reads them.

Files are generated as robosuite and robomimic lay them out. What a refusal prints is given to the next run as
it stands, and SciPy and plain NumPy say what has to come out.
"""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
from foundry_testing.ingested import Ingested
from foundry_testing.mapped_rows import spec_of, survey_of
from foundry_testing.robosuite_files import (
    FRAMES,
    LIMITS,
    OSC,
    PART,
    assert_pose,
    column,
    make,
    printed,
    refusal,
    taken,
)
from scipy.spatial.transform import Rotation

from robot_foundry.ingest.engine import run
from robot_foundry.ingest.robot.resolve import resolve
from robot_foundry.ingest.robot.robosuite.osc import controller
from robot_foundry.ingest.robot.spec.spec_reader import spec_from_json
from robot_foundry.ingest.spec.spec_files import load_spec, with_overrides
from robot_foundry.runtime.errors import FoundryError


@pytest.mark.parametrize(
    "controller",
    [
        {"type": "BASIC", "body_parts": {"right": PART}},
        {"type": "BASIC", "body_parts": {"arms": {"right": PART}}},
        {"type": "BASIC", "body_parts": {"right": {**PART, "input_ref_frame": "world"}}},
    ],
)
def test_the_controllers_of_robosuite_1_5_are_read_as_those_before(tmp_path, controller):
    path = tmp_path / "in.hdf5"
    arms, action_N7 = make(path, controller)
    made = taken(path)
    assert made.report.warnings == ()
    assert_pose(made, "right", arms[0], action_N7[:, :6])


def test_two_robots_of_robosuite_1_5_are_read_where_they_stand_side_by_side(tmp_path):
    path = tmp_path / "in.hdf5"
    controller = {"type": "BASIC", "body_parts": {"right": PART}}
    arms, action_N14 = make(
        path, controller, robots=["Panda", "Panda"], env="TwoArmLift", env_configuration="parallel"
    )
    made = taken(path, spec="robomimic_two_arms")
    assert_pose(made, "left", arms[1], action_N14[:, 7:13])
    make(path, controller, robots=["Panda", "Panda"], env="TwoArmLift", env_configuration="opposed")
    message = refusal(path, "robomimic_two_arms")
    assert "in the frame of the robot's base" in message and printed(message) == [
        "mapping.actions.command=null"
    ]


def test_another_gripper_of_the_same_robot(tmp_path):
    path = tmp_path / "in.hdf5"
    make(path, OSC, fingers=6, gripper_types=["Robotiq85Gripper"])
    message = refusal(path)
    assert "demo_0: its gripper is Robotiq85Gripper and the mapping reads that of another robot" in message
    assert taken(path, printed(message)).manifest["schema"]["embodiment"] == "panda"


@pytest.mark.parametrize(
    ("controller", "env", "reason"),
    [
        ({"type": "BASIC", "body_parts": {"right": PART}}, "Kitchen", "in the frame of the robot's base"),
        (
            {"type": "BASIC", "body_parts": {"right": {**PART, "input_type": "absolute"}}},
            "Lift",
            "in the frame of the robot's base",
        ),
        ({"type": "HYBRID_MOBILE_BASE", "body_parts": {"right": PART}}, "Lift", "is 'HYBRID_MOBILE_BASE'"),
        ({"type": "IK_POSE"}, "Lift", "its controller is 'IK_POSE' and not OSC_POSE"),
        ({**OSC, "type": ["OSC_POSE"]}, "Lift", "its controller is ['OSC_POSE'] and not OSC_POSE"),
        ({**OSC, "type": {"OSC_POSE": 1}}, "Lift", "its controller is {'OSC_POSE': 1} and not OSC_POSE"),
        ({**OSC, "impedance_mode": ["fixed"]}, "Lift", "impedance_mode of its controller is ['fixed']"),
        ({**OSC, "impedance_mode": {}}, "Lift", "the impedance_mode of its controller is {}"),
        ({**OSC, "output_max": 10**400}, "Lift", "the output_max of its controller is 1000"),
        (None, "Lift", "its env_args have no controller_configs"),
        ("OSC_POSE", "Lift", "its controller_configs are 'OSC_POSE', which is no JSON object"),
    ],
)
def test_what_no_rule_reads_goes_on_with_what_the_arm_did(tmp_path, controller, env, reason):
    path = tmp_path / "in.hdf5"
    make(path, controller, env=env)
    message = refusal(path)
    assert reason in message and printed(message) == ["mapping.actions.command=null"]
    made = taken(path, printed(message))
    assert list(made.manifest["schema"]["streams"]) == ["next_state"]


@pytest.mark.parametrize("text", ["{bad", "[" * 20000, "[]"])
def test_env_args_that_are_no_json_object_are_named_as_the_cause(tmp_path, text):
    path = tmp_path / "in.hdf5"
    make(path, OSC)
    with h5py.File(path, "r+") as file:
        file["data"].attrs["env_args"] = text
    message = refusal(path)
    assert f"its env_args are '{text[:20]}" in message and "which is no JSON object" in message
    assert "no controller_configs" not in message


@pytest.mark.parametrize("limit", [float("nan"), float("inf")])
def test_limits_that_are_not_finite_are_named_as_the_cause(tmp_path, limit):
    path = tmp_path / "in.hdf5"
    make(path, {**OSC, "output_max": [limit] * 6})
    message = refusal(path)
    assert "the output_max of its controller is [" in message and "which is not finite" in message


def test_osc_position_has_three_columns_and_the_gripper_behind_them(tmp_path):
    path = tmp_path / "in.hdf5"
    action_N4 = np.random.default_rng(3).uniform(-1, 1, (FRAMES, 4))
    controller = {**OSC, "type": "OSC_POSITION", "output_max": LIMITS[:3], "output_min": [-0.05] * 3}
    arms, _ = make(path, controller, actions=action_N4)
    made = taken(path, printed(refusal(path)))
    assert not any("rot6d" in name for name in made.dims("command"))
    np.testing.assert_allclose(
        column(made, "command", "right.ee_position"), arms[0]["eef_pos"] + 0.05 * action_N4[:, :3], atol=1e-6
    )
    for stream in ("command", "next_state"):
        opening_N = column(made, stream, "right.gripper_opening")[:, 0]
        np.testing.assert_allclose(opening_N, (1 - action_N4[:, 3]) / 2, atol=1e-6)
    assert made.report.warnings == ()


@pytest.mark.parametrize(("mode", "gains"), [("variable_kp", 6), ("variable", 12)])
def test_gains_of_a_variable_impedance_come_before_the_pose(tmp_path, mode, gains):
    path = tmp_path / "in.hdf5"
    random = np.random.default_rng(4)
    action_ND = np.c_[random.uniform(0, 300, (FRAMES, gains)), random.uniform(-1, 1, (FRAMES, 7))]
    arms, _ = make(path, {**OSC, "impedance_mode": mode}, actions=action_ND)
    made = taken(path, printed(refusal(path)))
    assert_pose(made, "right", arms[0], action_ND[:, gains : gains + 6])
    opening_N = column(made, "command", "right.gripper_opening")[:, 0]
    np.testing.assert_allclose(opening_N, (1 - action_ND[:, -1]) / 2, atol=1e-6)
    (warning,) = made.report.warnings
    assert warning.startswith(f"nothing takes {gains} of the {gains + 7} columns of 'actions': [0, {gains}]")


@pytest.mark.parametrize(
    ("kind", "quantity", "expected"),
    [
        ("JOINT_POSITION", "joint_position", lambda arm, a: arm["joint_pos"] + 0.1 * np.clip(a, -1, 1)),
        ("JOINT_VELOCITY", "joint_velocity", lambda arm, a: 0.1 * a),
        ("JOINT_TORQUE", "joint_effort", lambda arm, a: 0.1 * a),
    ],
)
def test_controllers_of_joints_are_refused_with_a_stream_of_joints(tmp_path, kind, quantity, expected):
    path = tmp_path / "in.hdf5"
    action_N8 = np.random.default_rng(6).uniform(-1, 1, (FRAMES, 8))
    controller = {"type": kind, "input_max": 1, "input_min": -1, "output_max": 0.1, "output_min": -0.1}
    arms, _ = make(path, controller, actions=action_N8)
    made = taken(path, printed(refusal(path)))
    values_N7 = column(made, "command", f"right.{quantity}")
    np.testing.assert_allclose(values_N7, expected(arms[0], action_N8[:, :7]), atol=1e-6)
    for stream in ("command", "next_state"):
        opening_N = column(made, stream, "right.gripper_opening")[:, 0]
        np.testing.assert_allclose(opening_N, (1 - action_N8[:, 7]) / 2, atol=1e-6)


def joint_controller(limits):
    return {"type": "JOINT_POSITION", "input_max": 1, "input_min": -1, "output_max": limits}


def test_a_scale_for_each_joint_leaves_the_gripper_out(tmp_path):
    path = tmp_path / "in.hdf5"
    arms, action_N7 = make(path, joint_controller(LIMITS), robots=["UR5e"], joints=6, fingers=6)
    changes = ["mapping.embodiment=ur5e", "mapping.state.right.gripper_opening=null"]
    with pytest.raises(FoundryError) as caught:
        run(load_spec("robomimic", changes), path, store=tmp_path / "refused", name="x")
    given = printed(caught.value.message)
    assert any(f"columns: [0, 6], from: delta, clip: 1, scale: {LIMITS}" in change for change in given)
    made = taken(path, [*changes, *given])
    expected_N6 = arms[0]["joint_pos"] + np.array(LIMITS) * action_N7[:, :6]
    np.testing.assert_allclose(column(made, "command", "right.joint_position"), expected_N6, atol=1e-6)


def test_scales_that_fit_no_columns_are_not_advised(tmp_path):
    path = tmp_path / "in.hdf5"
    make(path, joint_controller(LIMITS))
    assert printed(refusal(path)) == ["mapping.actions.command=null"]


def test_displacements_of_joints_that_the_state_lacks_are_told_of(tmp_path):
    path = tmp_path / "in.hdf5"
    make(path, joint_controller(0.1))
    with h5py.File(path, "r+") as file:
        del file["data/demo_0/obs/robot0_joint_pos"]
    assert printed(refusal(path)) == ["mapping.actions.command=null"]
    field = "{key: actions, columns: [0, 7], from: delta, clip: 1, scale: 0.1}"
    made = taken(path, [f"mapping.actions.command={{right.joint_position: {field}}}"])
    assert list(made.manifest["schema"]["streams"]) == ["next_state"]
    (warning,) = [text for text in made.report.warnings if "right.joint_position" in text]
    assert warning.startswith("right.joint_position of command is left out: `from: delta` counts from")


def test_absolute_targets_are_read_where_the_controller_says_so_and_refused_where_it_does_not(tmp_path):
    path = tmp_path / "in.hdf5"
    arms, _ = make(path, OSC)
    turned = Rotation.from_quat(arms[0]["eef_quat"])
    # What the arm should do next is a step away from where it is.
    target_N3 = arms[0]["eef_pos"] + 0.02
    action_N7 = np.c_[target_N3, turned.as_rotvec(), np.ones(FRAMES)]
    said = tmp_path / "said.hdf5"
    make(said, {**OSC, "control_delta": False}, actions=action_N7)
    make(path, OSC, actions=action_N7)
    message = refusal(path)
    assert "its commands are where the arm is in 100% of the frames, so they are absolute targets" in message
    for source, changes in ((said, []), (path, printed(message))):
        made = Ingested("robomimic", source, tmp_path / source.stem, changes)
        np.testing.assert_allclose(column(made, "command", "right.ee_position"), target_N3, atol=1e-6)
        matrix_N33 = turned.as_matrix()
        np.testing.assert_allclose(
            column(made, "command", "right.ee_rot6d"),
            matrix_N33[:, :, :2].transpose(0, 2, 1).reshape(-1, 6),
            atol=1e-5,
        )


@pytest.mark.parametrize("stated", ["False", [False], 1.0, 0, {}])
def test_a_control_delta_that_is_no_boolean_is_refused_with_both_readings(tmp_path, stated):
    path = tmp_path / "in.hdf5"
    arms, action_N7 = make(path, {**OSC, "control_delta": stated})
    message = refusal(path)
    assert f"the control_delta of its controller is {stated!r}, which is not true or false" in message
    changes = printed(message.replace("reads targets,", ""))
    assert_pose(taken(path, changes[2:]), "right", arms[0], action_N7[:, :6])
    targets = Ingested("robomimic", path, tmp_path / "targets", changes[:2])
    np.testing.assert_allclose(column(targets, "command", "right.ee_position"), action_N7[:, :3], atol=1e-6)


def test_a_control_delta_that_is_no_boolean_of_a_position_alone(tmp_path):
    path = tmp_path / "in.hdf5"
    action_N4 = np.random.default_rng(3).uniform(-1, 1, (FRAMES, 4))
    limits = {"output_max": LIMITS[:3], "output_min": [-0.05] * 3, "control_delta": "False"}
    make(path, {**OSC, **limits, "type": "OSC_POSITION"}, actions=action_N4)
    changes = printed(refusal(path).replace("reads targets,", ""))
    assert changes[:2] == [
        "mapping.actions.command.right.ee_position.from=value",
        "mapping.actions.command.right.ee_rotation=null",
    ]
    assert changes[-1] == "mapping.actions.command.right.ee_rotation=null"


def test_a_control_delta_of_null_says_nothing(tmp_path):
    path = tmp_path / "in.hdf5"
    arms, action_N7 = make(path, {**OSC, "control_delta": None})
    assert_pose(taken(path), "right", arms[0], action_N7[:, :6])


@pytest.mark.parametrize(
    "stated",
    [
        {"input_type": ["delta"]},
        {"input_type": "relative"},
        {"input_ref_frame": 1},
        {"input_ref_frame": "ee"},
    ],
)
def test_settings_of_the_input_that_robosuite_does_not_know_are_refused(tmp_path, stated):
    ((name, value),) = stated.items()
    path = tmp_path / "in.hdf5"
    for settings in ({**OSC, **stated}, {"type": "BASIC", "body_parts": {"right": {**PART, **stated}}}):
        make(path, settings)
        assert f"the {name} of its controller is {value!r}" in refusal(path)


def test_absolute_targets_of_the_left_arm_alone_are_read_as_such(tmp_path):
    path, two = tmp_path / "in.hdf5", {"robots": ["Panda", "Panda"], "env": "TwoArmLift"}
    arms, action_N14 = make(path, OSC, **two)
    turned = Rotation.from_quat(arms[1]["eef_quat"])
    action_N14[:, 7:13] = np.c_[arms[1]["eef_pos"], turned.as_rotvec()]
    arms, _ = make(path, OSC, actions=action_N14, **two)
    changes = printed(refusal(path, "robomimic_two_arms"))
    left = "mapping.actions.command.left"
    assert changes == [f"{left}.ee_position.from=value", f"{left}.ee_rotation.from=axis_angle"]
    made = taken(path, changes, "robomimic_two_arms")
    assert_pose(made, "right", arms[0], action_N14[:, :6])
    np.testing.assert_allclose(column(made, "command", "left.ee_position"), arms[1]["eef_pos"], atol=1e-6)


def test_absolute_targets_of_a_position_alone_are_read_as_such(tmp_path):
    path = tmp_path / "in.hdf5"
    controller = {**OSC, "type": "OSC_POSITION", "output_max": LIMITS[:3], "output_min": [-0.05] * 3}
    arms, _ = make(path, controller)
    make(path, controller, actions=np.c_[arms[0]["eef_pos"], np.ones(FRAMES)])
    of_position = printed(refusal(path))
    changes = printed(refusal(path, overrides=of_position))
    assert changes == ["mapping.actions.command.right.ee_position.from=value"]
    made = taken(path, [*of_position, *changes])
    np.testing.assert_allclose(column(made, "command", "right.ee_position"), arms[0]["eef_pos"], atol=1e-6)


def test_commands_of_joints_are_read_from_the_array_that_the_mapping_names():
    state = {"right.ee_position": {"key": "p"}, "right.joint_position": {"key": "q"}}
    command = {
        "right.ee_position": {"key": "sent/arm", "columns": [0, 3], "from": "osc"},
        "right.gripper_opening": {
            "key": "sent/arm",
            "columns": [6, 7],
            "from": "command",
            "closed": 1,
            "open": -1,
        },
    }
    settings = {"robots": ["Panda"], "controller_configs": {"type": "JOINT_POSITION", "output_max": 0.1}}
    item = survey_of(
        {"p": np.zeros((FRAMES, 3)), "q": np.zeros((FRAMES, 7)), "sent/arm": np.zeros((FRAMES, 8))},
        environment={"env_args": {"env_kwargs": settings}},
    )
    spec = spec_of(state, {"command": command})
    (problem,) = resolve(spec.mapping, [item]).problems.values()
    changed = with_overrides(spec.to_json(), printed(problem))
    mapping = spec_from_json(changed, "changed").mapping
    found = resolve(mapping, [item])
    assert not found.problems and {own.key for own in mapping.actions["command"].values()} == {"sent/arm"}
    assert mapping.actions["command"]["right.joint_position"].parameters["scale"] == 0.1


def test_a_controller_that_episodes_share_is_read_once(monkeypatch):
    read = []

    def counted(*arguments):
        read.append(arguments)
        return controller(*arguments)

    monkeypatch.setattr("robot_foundry.ingest.robot.resolve.controller", counted)
    command = {"right.ee_position": {"key": "a", "columns": [0, 3], "from": "osc"}}
    spec = spec_of({"right.ee_position": {"key": "p"}}, {"command": command})
    settings = {"env_args": {"env_kwargs": {"controller_configs": OSC}}}
    first = survey_of({"p": np.zeros((FRAMES, 3)), "a": np.zeros((FRAMES, 7))}, environment=settings)
    other = survey_of(
        {"p": np.zeros((FRAMES, 3)), "a": np.zeros((FRAMES, 7))},
        "demo-other",
        environment={"env_args": {"env_kwargs": {"controller_configs": {**OSC, "output_max": 0.1}}}},
    )
    episodes = [replace(first, key=f"demo-{n}") for n in range(9)]
    found = resolve(spec.mapping, [*episodes, other])
    assert len(read) == 2 and [
        own["output_max_6"][0] for own in found.controllers["command right.ee_position"]
    ] == [
        0.05,
        0.1,
    ]
