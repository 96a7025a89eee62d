"""What the numbers of datasets of Franka arms mean."""

from __future__ import annotations

from foundry_testing.oxe.expressions import (
    Expr,
    Table,
    about_base,
    about_tool,
    arm,
    at,
    by_columns,
    moved,
    opening,
    rpy,
    vector,
    wxyz,
    xyzw,
)
from foundry_testing.oxe.readings import (
    ACT,
    ACTION,
    CLOSEDNESS,
    CLOSES,
    IS_CLOSED,
    IS_OPEN,
    OBS,
    STATE,
    TURN,
    WORLD,
    passed,
    place,
)

TDROID = (
    "knock_object_over", "carrot_in_bowl", "pour_corn_in_pot", "flip_pot_upright", "move_object_onto_plate",
    "cover_object_with_towel",
)  # fmt: skip


def _deoxys(joints: Expr, pose: tuple[Expr, Expr], **more: Expr) -> Table:
    position, rotation = pose
    return arm(
        {"joint_position": joints, "ee_position": position, "ee_rotation": rotation, **more},
        {
            "linear_command": at(ACTION, 0, 3),
            "angular_command": at(ACTION, 3, 6),
            "gripper_opening": opening(at(ACTION, 6, 7), **CLOSES),
        },
    )


def _droid() -> Table:
    held, asked = OBS + "cartesian_position", "action_dict/cartesian_position"
    grip = opening(at("action_dict/gripper_position"), **IS_CLOSED)
    state = {
        "ee_position": place(held), "ee_rotation": rpy(at(held, 3, 6)),
        "gripper_opening": opening(at(OBS + "gripper_position"), **IS_CLOSED),
        "joint_position": at(OBS + "joint_position"),
    }  # fmt: skip
    command = {
        "ee_position": place(asked),
        "ee_rotation": rpy(at(asked, 3, 6)),
        "gripper_opening": grip,
    }
    return arm(
        state, command,
        command_joint={"joint_position": at("action_dict/joint_position"), "gripper_opening": grip},
    )  # fmt: skip


def _libero() -> Table:
    position, rotation = place(STATE), vector(at(STATE, 3, 6))
    fingers = lambda a: at(STATE, 6, 7)(a) - at(STATE, 7, 8)(a)  # noqa: E731
    state = {
        "ee_position": position, "ee_rotation": rotation, "joint_position": at(OBS + "joint_state"),
        "gripper_opening": opening(fingers, closed=0.0, opened=0.08),
    }  # fmt: skip
    command = {
        "ee_position": moved(position, at(ACTION, 0, 3), 0.05),
        "ee_rotation": about_base(rotation, vector(at(ACTION, 3, 6), 0.5)),
        "gripper_opening": opening(at(ACTION, 6, 7), **CLOSES),
    }
    return arm(state, command)


def tables() -> dict[str, Table]:
    """By the dataset's name, without its usual ending."""
    hydra, play, furniture = STATE, STATE, STATE
    food = {
        "ee_position": place(ACTION),
        "ee_rotation": xyzw(at(ACTION, 3, 7)),
        "gripper_opening": passed(7),
    }
    return {
        "taco_play": arm(
            {
                "ee_position": place(OBS + "robot_obs"), "ee_rotation": rpy(at(OBS + "robot_obs", 3, 6)),
                "gripper_opening": opening(at(OBS + "robot_obs", 6, 7), closed=0.0, opened=0.08),
                "joint_position": at(OBS + "robot_obs", 7, 14),
            },
            {
                "ee_position": place(ACT + "actions"), "ee_rotation": rpy(at(ACT + "actions", 3, 6)),
                "gripper_opening": opening(at(ACT + "actions", 6, 7), closed=-1.0, opened=1.0),
            },
        ),
        "berkeley_cable_routing": arm(
            {"joint_position": at(OBS + "robot_state")}, {"linear_command": WORLD, "angular_command": TURN}
        ),
        "viola": arm(
            dict(
                zip(("ee_position", "ee_rotation"), by_columns(at(OBS + "ee_states")), strict=True),
                joint_position=at(OBS + "joint_states"),
                gripper_opening=opening(at(OBS + "gripper_states"), closed=0.0, opened=0.08),
            ),
            {
                "linear_command": WORLD, "angular_command": TURN,
                "gripper_opening": opening(CLOSEDNESS, **CLOSES),
            },
        ),
        "toto": arm(
            {"joint_position": at(STATE)},
            {
                "linear_command": WORLD, "angular_command": TURN,
                "gripper_opening": opening(at(ACT + "open_gripper"), **IS_OPEN),
            },
        ),
        "stanford_hydra_dataset": arm(
            {
                "ee_position": place(hydra), "ee_rotation": rpy(at(hydra, 7, 10)),
                "joint_position": at(hydra, 10, 17), "joint_velocity": at(hydra, 17, 24),
            },
            {
                "ee_position": moved(place(hydra), at(ACTION, 0, 3)),
                "ee_rotation": about_base(rpy(at(hydra, 7, 10)), rpy(at(ACTION, 3, 6))),
                "gripper_opening": opening(at(ACTION, 6, 7), **IS_CLOSED),
            },
        ),
        "austin_buds_dataset": _deoxys(at(STATE, 0, 7), by_columns(at(STATE, 8, 24))),
        "utaustin_mutex": _deoxys(at(STATE, 0, 7), by_columns(at(STATE, 8, 24))),
        "austin_sailor_dataset": _deoxys(
            at(OBS + "state_joint"), by_columns(at(OBS + "state_ee")),
            gripper_opening=opening(at(OBS + "state_gripper"), closed=0.0, opened=0.077),
        ),
        "austin_sirius_dataset": _deoxys(
            at(OBS + "state_joint"), by_columns(at(OBS + "state_ee")),
            gripper_opening=opening(at(OBS + "state_gripper"), closed=0.0, opened=0.077),
        ),
        "nyu_franka_play_dataset": arm(
            {
                "joint_position": at(play, 0, 7), "ee_position": place(play, 7),
                "ee_rotation": rpy(at(play, 10, 13)),
            },
            {
                "ee_position": moved(place(play, 7), at(ACTION, 7, 10)),
                "ee_rotation": about_base(rpy(at(play, 10, 13)), rpy(at(ACTION, 10, 13))),
                "gripper_opening": passed(13),
            },
            command_joint={"joint_velocity": at(ACTION, 0, 7)},
        ),
        "maniskill_dataset": arm(
            {
                "joint_position": at(STATE, 0, 7), "joint_velocity": at(STATE, 9, 16),
                "ee_position": place(OBS + "tcp_pose"), "ee_rotation": wxyz(at(OBS + "tcp_pose", 3, 7)),
                "gripper_opening": opening(at(STATE, 7, 8), closed=0.0, opened=0.04),
            },
            {
                "linear_command": lambda a: 0.1 * at(ACTION, 0, 3)(a),
                "angular_command": lambda a: 0.1 * at(ACTION, 3, 6)(a),
                "gripper_opening": opening(at(ACTION, 6, 7), closed=-1.0, opened=1.0),
            },
        ),
        "furniture_bench_dataset": arm(
            {
                "ee_position": place(furniture), "ee_rotation": xyzw(at(furniture, 3, 7)),
                "ee_linear_velocity": place(furniture, 7), "ee_angular_velocity": place(furniture, 10),
                "joint_position": at(furniture, 13, 20), "joint_velocity": at(furniture, 20, 27),
                "joint_effort": at(furniture, 27, 34),
                "gripper_opening": opening(at(furniture, 34, 35), closed=0.0, opened=0.08),
            },
            {
                "ee_position": moved(place(furniture), at(ACTION, 0, 3)),
                "ee_rotation": about_tool(xyzw(at(furniture, 3, 7)), xyzw(at(ACTION, 3, 7))),
                "gripper_opening": opening(at(ACTION, 7, 8), **CLOSES),
            },
        ),
        "cmu_franka_exploration_dataset": arm(
            {"pose_command": at(ACTION, 0, 6)},
            {"pose_command": at(ACTION, 0, 6), "gripper_opening": passed(6)}
        ),
        "berkeley_rpt": arm(
            {
                "joint_position": at(OBS + "joint_pos"),
                "gripper_opening": opening(at(OBS + "gripper"), **IS_CLOSED),
            },
            command_joint={
                "joint_position": moved(at(OBS + "joint_pos"), at(ACTION, 0, 7)),
                "gripper_opening": opening(at(ACTION, 7, 8), **IS_CLOSED),
            },
        ),
        "kaist_nonprehensile": arm(
            {
                "joint_position": at(STATE, 0, 14, 2), "joint_velocity": at(STATE, 1, 14, 2),
                "ee_position": place(STATE, 14), "ee_rotation": xyzw(at(STATE, 17, 21)),
            },
            {
                "ee_position": moved(place(STATE, 14), at(ACTION, 0, 3)),
                "ee_rotation": about_base(xyzw(at(STATE, 17, 21)), vector(at(ACTION, 3, 6))),
            },
        ),
        "stanford_robocook": arm(
            {"ee_position": place(STATE), "ee_rotation": rpy(at(STATE, 3, 6))},
            {
                "linear_command": at(ACTION, 0, 3), "angular_command": at(ACTION, 3, 6),
                "gripper_command": at(ACTION, 6, 7),
            },
        ),
        "iamlab_cmu_pickup_insert": arm(
            {
                "joint_position": at(STATE, 0, 7), "ee_force": at(STATE, 14, 17),
                "ee_torque": at(STATE, 17, 20),
            }, food
        ),
        "cmu_playing_with_food": arm({"ee_force": at(STATE, 0, 3), "ee_torque": at(STATE, 3, 6)}, food),
        "cmu_play_fusion": arm(
            {"joint_position": at(STATE, 0, 7)},
            {
                "linear_command": at(ACTION, 0, 3), "turn_command": at(ACTION, 3, 7),
                "gripper_opening": passed(7),
            },
        ),
        "fmb": arm(
            {
                "joint_position": at(OBS + "joint_pos"), "joint_velocity": at(OBS + "joint_vel"),
                "ee_position": place(OBS + "eef_pose"), "ee_linear_velocity": place(OBS + "eef_vel"),
                "ee_angular_velocity": place(OBS + "eef_vel", 3), "ee_force": at(OBS + "eef_force"),
                "ee_torque": at(OBS + "eef_torque"),
                "gripper_opening": opening(at(OBS + "state_gripper_pose"), **IS_CLOSED),
            },
            {
                "linear_command": at(ACTION, 0, 3), "angular_command": at(ACTION, 3, 6),
                "gripper_command": at(ACTION, 6, 7),
            },
        ),
        "robo_set": arm(
            {"joint_position": at(STATE, 0, 7), "joint_velocity": at(OBS + "state_velocity", 0, 7)},
            {"joint_command": at(ACTION, 0, 7), "gripper_opening": opening(at(ACTION, 7, 8), **CLOSES)},
        ),
        "eth_agent_affordances": arm(
            {"ee_position": place(STATE)},
            {"linear_command": at(ACTION, 0, 3), "angular_command": at(ACTION, 3, 6)}
        ),
        **{f"tdroid_{task}": _droid() for task in TDROID},
        **{f"libero_{suite}_no_noops": _libero() for suite in ("10", "goal", "object", "spatial")},
    }  # fmt: skip
