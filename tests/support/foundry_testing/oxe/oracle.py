"""What the numbers of each dataset mean, by the sources that docs/oxe.md names.

A table of expressions. None of it reads a spec or the mapping of the package.
"""

from __future__ import annotations

from foundry_testing.oxe.expressions import (
    Expr,
    Table,
    about_base,
    about_tool,
    arm,
    at,
    by_columns,
    by_rows,
    following,
    lasting,
    moved,
    opening,
    rpy,
    so_far,
    vector,
    wxyz,
    xyzw,
    zxy,
)

OBS, ACT = "observation/", "action/"
WORLD, TURN = at(ACT + "world_vector"), at(ACT + "rotation_delta")
ACTION, STATE = "action", OBS + "state"


def deltas(position: Expr, rotation: Expr, *, gripper: Expr) -> dict[str, Expr]:
    return {
        "ee_position": moved(position, WORLD),
        "ee_rotation": about_base(rotation, rpy(TURN)),
        "gripper_opening": gripper,
    }


CLOSEDNESS = at(ACT + "gripper_closedness_action")
CLOSES = {"closed": 1.0, "opened": -1.0}
IS_CLOSED = {"closed": 1.0, "opened": 0.0}
IS_OPEN = {"closed": 0.0, "opened": 1.0}


def _of_rt1(pose: str, gripper: str) -> Table:
    position, rotation = at(pose, 0, 3), xyzw(at(pose, 3, 7))
    return arm(
        {
            "ee_position": position,
            "ee_rotation": rotation,
            "gripper_opening": opening(at(gripper), **IS_CLOSED),
        },
        deltas(position, rotation, gripper=lasting(CLOSEDNESS)),
    )


def _pos(path: str, start: int = 0) -> Expr:
    return at(path, start, start + 3)


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


def _passed(start: int) -> Expr:
    return opening(at(ACTION, start, start + 1), **IS_OPEN)


def _pr2() -> Table:
    state = {"ee_position": _pos(STATE), "ee_rotation": rpy(at(STATE, 3, 6))}
    return arm(state, {"pose_command": at(ACTION, 0, 6), "gripper_opening": _passed(6)})


def _sara(**more: Expr) -> Table:
    state = {"ee_position": _pos(STATE), "ee_rotation": zxy(at(STATE, 3, 6)), **more}
    return arm(state, {"pose_command": at(ACTION, 0, 6)})


def _gnm() -> Table:
    state = {"base__position": at(OBS + "position"), "base__yaw": at(OBS + "yaw")}
    return arm(state, {"base__waypoint": at(ACTION)})


def _droid() -> Table:
    held, asked = OBS + "cartesian_position", "action_dict/cartesian_position"
    grip = opening(at("action_dict/gripper_position"), **IS_CLOSED)
    state = {
        "ee_position": _pos(held), "ee_rotation": rpy(at(held, 3, 6)),
        "gripper_opening": opening(at(OBS + "gripper_position"), **IS_CLOSED),
        "joint_position": at(OBS + "joint_position"),
    }  # fmt: skip
    command = {"ee_position": _pos(asked), "ee_rotation": rpy(at(asked, 3, 6)), "gripper_opening": grip}
    return arm(
        state, command,
        command_joint={"joint_position": at("action_dict/joint_position"), "gripper_opening": grip},
    )  # fmt: skip


def _libero() -> Table:
    position, rotation = _pos(STATE), vector(at(STATE, 3, 6))
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


def _bridge(state: str, position_by: Expr, turn_by: Expr, gripper: Expr) -> Table:
    position, rotation = _pos(state), rpy(at(state, 3, 6))
    return arm(
        {
            "ee_position": position, "ee_rotation": rotation,
            "gripper_opening": opening(at(state, 6, 7), **IS_OPEN),
        },
        {
            "ee_position": moved(position, position_by), "ee_rotation": about_base(rotation, rpy(turn_by)),
            "gripper_opening": gripper,
        },
    )  # fmt: skip


def _table() -> dict[str, Table]:
    ur5, hydra, play, furniture = OBS + "robot_state", STATE, STATE, STATE
    food = {"ee_position": _pos(ACTION), "ee_rotation": xyzw(at(ACTION, 3, 7)), "gripper_opening": _passed(7)}
    tables = {
        "fractal20220817_data": _of_rt1(OBS + "base_pose_tool_reached", OBS + "gripper_closed"),
        "kuka": _of_rt1(OBS + "clip_function_input/base_pose_tool_reached", OBS + "gripper_closed"),
        "bridge_oxe": _bridge(STATE, WORLD, TURN, opening(at(ACT + "open_gripper"), **IS_OPEN)),
        "bridge_data_msr": _bridge(STATE, at(ACTION, 0, 3), at(ACTION, 3, 6), _passed(6)),
        "taco_play": arm(
            {
                "ee_position": _pos(OBS + "robot_obs"), "ee_rotation": rpy(at(OBS + "robot_obs", 3, 6)),
                "gripper_opening": opening(at(OBS + "robot_obs", 6, 7), closed=0.0, opened=0.08),
                "joint_position": at(OBS + "robot_obs", 7, 14),
            },
            {
                "ee_position": _pos(ACT + "actions"), "ee_rotation": rpy(at(ACT + "actions", 3, 6)),
                "gripper_opening": opening(at(ACT + "actions", 6, 7), closed=-1.0, opened=1.0),
            },
        ),
        "jaco_play": arm(
            {"ee_position": _pos(OBS + "end_effector_cartesian_pos")},
            {
                "ee_position": moved(_pos(OBS + "end_effector_cartesian_pos"), WORLD),
                "gripper_opening": lasting(CLOSEDNESS),
            },
        ),
        "berkeley_cable_routing": arm(
            {"joint_position": at(OBS + "robot_state")}, {"linear_command": WORLD, "angular_command": TURN}
        ),
        "roboturk": arm(
            {"travel": so_far(WORLD)},
            {
                "travel": moved(so_far(WORLD), WORLD), "angular_command": TURN,
                "gripper_opening": opening(CLOSEDNESS, **CLOSES),
            },
        ),
        "nyu_door_opening_surprising_effectiveness": arm(
            {"travel": so_far(WORLD)},
            {
                "travel": moved(so_far(WORLD), WORLD), "angular_command": TURN,
                "gripper_opening": lasting(CLOSEDNESS),
            },
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
        "berkeley_autolab_ur5": arm(
            {
                "joint_position": at(ur5, 0, 6), "ee_position": _pos(ur5, 6),
                "ee_rotation": xyzw(at(ur5, 9, 13)),
                "gripper_opening": opening(at(ur5, 13, 14), **IS_CLOSED),
            },
            deltas(_pos(ur5, 6), xyzw(at(ur5, 9, 13)), gripper=lasting(CLOSEDNESS)),
        ),
        "toto": arm(
            {"joint_position": at(STATE)},
            {
                "linear_command": WORLD, "angular_command": TURN,
                "gripper_opening": opening(at(ACT + "open_gripper"), **IS_OPEN),
            },
        ),
        "language_table": arm(
            {
                "tip": at(OBS + "effector_translation"),
                "right_setpoint__tip": at(OBS + "effector_target_translation"),
            },
            {"right_setpoint__tip": moved(at(OBS + "effector_target_translation"), at(ACTION))},
        ),
        "columbia_cairlab_pusht_real": arm(
            {"tip": at(OBS + "robot_state")},
            {"tip": moved(at(OBS + "robot_state"), at(ACT + "world_vector", 0, 2))},
        ),
        "stanford_kuka_multimodal_dataset": arm(
            {
                "ee_position": at(OBS + "ee_position"), "joint_position": at(OBS + "joint_pos"),
                "joint_velocity": at(OBS + "joint_vel"),
            },
            {"linear_command": at(ACTION, 0, 3)},
        ),
        "nyu_rot_dataset": arm(
            {
                "ee_position": _pos(STATE), "ee_rotation": rpy(at(STATE, 3, 6)),
                "gripper_opening": opening(at(STATE, 6, 7), **IS_CLOSED),
            },
            {
                "ee_position": moved(_pos(STATE), at(ACTION, 0, 3)),
                "gripper_opening": opening(at(ACTION, 6, 7), **IS_CLOSED),
            },
        ),
        "stanford_hydra_dataset": arm(
            {
                "ee_position": _pos(hydra), "ee_rotation": rpy(at(hydra, 7, 10)),
                "joint_position": at(hydra, 10, 17), "joint_velocity": at(hydra, 17, 24),
            },
            {
                "ee_position": moved(_pos(hydra), at(ACTION, 0, 3)),
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
                "joint_position": at(play, 0, 7), "ee_position": _pos(play, 7),
                "ee_rotation": rpy(at(play, 10, 13)),
            },
            {
                "ee_position": moved(_pos(play, 7), at(ACTION, 7, 10)),
                "ee_rotation": about_base(rpy(at(play, 10, 13)), rpy(at(ACTION, 10, 13))),
                "gripper_opening": _passed(13),
            },
            command_joint={"joint_velocity": at(ACTION, 0, 7)},
        ),
        "maniskill_dataset": arm(
            {
                "joint_position": at(STATE, 0, 7), "joint_velocity": at(STATE, 9, 16),
                "ee_position": _pos(OBS + "tcp_pose"), "ee_rotation": wxyz(at(OBS + "tcp_pose", 3, 7)),
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
                "ee_position": _pos(furniture), "ee_rotation": xyzw(at(furniture, 3, 7)),
                "ee_linear_velocity": _pos(furniture, 7), "ee_angular_velocity": _pos(furniture, 10),
                "joint_position": at(furniture, 13, 20), "joint_velocity": at(furniture, 20, 27),
                "joint_effort": at(furniture, 27, 34),
                "gripper_opening": opening(at(furniture, 34, 35), closed=0.0, opened=0.08),
            },
            {
                "ee_position": moved(_pos(furniture), at(ACTION, 0, 3)),
                "ee_rotation": about_tool(xyzw(at(furniture, 3, 7)), xyzw(at(ACTION, 3, 7))),
                "gripper_opening": opening(at(ACTION, 7, 8), **CLOSES),
            },
        ),
        "cmu_franka_exploration_dataset": arm(
            {"pose_command": at(ACTION, 0, 6)},
            {"pose_command": at(ACTION, 0, 6), "gripper_opening": _passed(6)}
        ),
        "ucsd_kitchen_dataset": arm(
            {
                "joint_position": at(STATE, 0, 7), "joint_velocity": at(STATE, 7, 14),
                "joint_effort": at(STATE, 14, 21),
            },
            {"pose_command": at(ACTION, 0, 6), "gripper_opening": _passed(6)},
        ),
        "ucsd_pick_and_place_dataset": arm(
            {"ee_position": _pos(STATE), "ee_rotation": rpy(at(STATE, 3, 6))},
            {"linear_command": at(ACTION, 0, 3), "gripper_command": at(ACTION, 3, 4)},
        ),
        "bc_z": arm(
            {
                "ee_position": at(OBS + "present/xyz"), "ee_rotation": vector(at(OBS + "present/axis_angle")),
                "gripper_opening": opening(at(OBS + "present/sensed_close"), closed=1.0, opened=0.2),
            },
            {
                "ee_position": moved(at(OBS + "present/xyz"), at(ACT + "future/xyz_residual", 0, 3)),
                "gripper_opening": opening(at(ACT + "future/target_close", 0, 1), **IS_CLOSED),
            },
        ),
        "utokyo_pr2_opening_fridge": _pr2(),
        "utokyo_pr2_tabletop_manipulation": _pr2(),
        "utokyo_xarm_pick_and_place": arm(
            {
                "joint_position": at(OBS + "joint_state", 0, 7),
                "joint_velocity": at(OBS + "joint_state", 7, 14),
                "ee_position": _pos(OBS + "end_effector_pose"),
            },
            {"pose_command": at(ACTION, 0, 6), "gripper_opening": _passed(6)},
        ),
        "utokyo_xarm_bimanual": arm(
            {"left__ee_position": _pos(OBS + "pose_l"), "ee_position": _pos(OBS + "pose_r")},
            {
                "left__pose_command": at(ACTION, 0, 6), "left__gripper_opening": _passed(6),
                "pose_command": at(ACTION, 7, 13), "gripper_opening": _passed(13),
            },
        ),
        "berkeley_mvp": arm(
            {
                "joint_position": at(OBS + "joint_pos"), "ee_position": _pos(OBS + "pose"),
                "gripper_opening": opening(at(OBS + "gripper"), **IS_CLOSED),
            },
            command_joint={
                "joint_position": moved(at(OBS + "joint_pos"), at(ACTION, 0, 7)),
                "gripper_opening": opening(at(ACTION, 7, 8), **IS_CLOSED),
            },
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
                "ee_position": _pos(STATE, 14), "ee_rotation": xyzw(at(STATE, 17, 21)),
            },
            {
                "ee_position": moved(_pos(STATE, 14), at(ACTION, 0, 3)),
                "ee_rotation": about_base(xyzw(at(STATE, 17, 21)), vector(at(ACTION, 3, 6))),
            },
        ),
        "stanford_mask_vit": arm(
            {
                "joint_position": at(STATE, 0, 7), "joint_velocity": at(STATE, 7, 14),
                "pose": at(OBS + "end_effector_pose", 0, 4),
            },
            {"linear_command": at(ACTION, 0, 3), "gripper_opening": opening(at(ACTION, 4, 5), **CLOSES)},
        ),
        "tokyo_u_lsmo": arm(
            {
                "ee_position": _pos(STATE), "ee_rotation": rpy(at(STATE, 3, 6)),
                "joint_position": at(STATE, 6, 12),
            },
            {"pose_command": at(ACTION, 0, 6), "gripper_opening": _passed(6)},
        ),
        "dlr_sara_pour": _sara(),
        "dlr_sara_grid_clamp": _sara(ee_force=at(STATE, 6, 9), ee_torque=at(STATE, 9, 12)),
        "dlr_edan_shared_control": arm(
            {"ee_position": _pos(STATE), "ee_rotation": zxy(at(STATE, 3, 6))},
            {
                "ee_position": moved(_pos(STATE), at(ACTION, 0, 3)),
                "ee_rotation": about_base(zxy(at(STATE, 3, 6)), zxy(at(ACTION, 3, 6))),
                "gripper_opening": opening(at(ACTION, 6, 7), **IS_CLOSED),
            },
        ),
        "asu_table_top": arm(
            {
                "ee_position": _pos("ground_truth_states/EE"),
                "ee_rotation": rpy(at("ground_truth_states/EE", 3, 6)),
                "joint_position": at(STATE, 0, 6), "joint_velocity": at(OBS + "state_vel", 0, 6),
            },
            {"source_action": at(ACTION)},
        ),
        "stanford_robocook": arm(
            {"ee_position": _pos(STATE), "ee_rotation": rpy(at(STATE, 3, 6))},
            {
                "linear_command": at(ACTION, 0, 3), "angular_command": at(ACTION, 3, 6),
                "gripper_command": at(ACTION, 6, 7),
            },
        ),
        "imperialcollege_sawyer_wrist_cam": arm(
            {"gripper_state": at(STATE)},
            {
                "linear_command": at(ACTION, 0, 3), "angular_command": at(ACTION, 3, 6),
                "gripper_opening": _passed(6),
            },
        ),
        "iamlab_cmu_pickup_insert": arm(
            {
                "joint_position": at(STATE, 0, 7), "ee_force": at(STATE, 14, 17),
                "ee_torque": at(STATE, 17, 20),
            }, food
        ),
        "uiuc_d3field": arm(
            dict(zip(("ee_position", "ee_rotation"), by_rows(at(STATE)), strict=True)),
            {"linear_command": at(ACTION)},
        ),
        "berkeley_fanuc_manipulation": arm(
            {
                "joint_position": at(STATE, 0, 6), "joint_velocity": at(STATE, 7, 13),
                "ee_position": _pos(OBS + "end_effector_state"),
                "gripper_opening": opening(at(STATE, 6, 7), **IS_CLOSED),
            },
            {
                "ee_position": moved(_pos(OBS + "end_effector_state"), at(ACTION, 0, 3)),
                "angular_command": at(ACTION, 3, 6),
                "gripper_opening": following(opening(at(STATE, 6, 7), **IS_CLOSED)),
            },
        ),
        "cmu_playing_with_food": arm({"ee_force": at(STATE, 0, 3), "ee_torque": at(STATE, 3, 6)}, food),
        "cmu_play_fusion": arm(
            {"joint_position": at(STATE, 0, 7)},
            {
                "linear_command": at(ACTION, 0, 3), "turn_command": at(ACTION, 3, 7),
                "gripper_opening": _passed(7),
            },
        ),
        "cmu_stretch": arm(
            {"tip": at(STATE, 0, 3)}, {"pose_command": at(ACTION, 0, 6), "gripper_opening": _passed(6)}
        ),
        "berkeley_gnm_recon": _gnm(),
        "berkeley_gnm_cory_hall": _gnm(),
        "berkeley_gnm_sac_son": _gnm(),
        "fmb": arm(
            {
                "joint_position": at(OBS + "joint_pos"), "joint_velocity": at(OBS + "joint_vel"),
                "ee_position": _pos(OBS + "eef_pose"), "ee_linear_velocity": _pos(OBS + "eef_vel"),
                "ee_angular_velocity": _pos(OBS + "eef_vel", 3), "ee_force": at(OBS + "eef_force"),
                "ee_torque": at(OBS + "eef_torque"),
                "gripper_opening": opening(at(OBS + "state_gripper_pose"), **IS_CLOSED),
            },
            {
                "linear_command": at(ACTION, 0, 3), "angular_command": at(ACTION, 3, 6),
                "gripper_command": at(ACTION, 6, 7),
            },
        ),
        "dobbe": arm(
            {
                "ee_position": at(OBS + "xyz"), "ee_rotation": xyzw(at(OBS + "quat")),
                "gripper_opening": opening(at(OBS + "gripper"), **IS_OPEN),
            },
            {
                "ee_position": moved(at(OBS + "xyz"), at(ACTION, 0, 3)),
                "ee_rotation": about_tool(xyzw(at(OBS + "quat")), rpy(at(ACTION, 3, 6))),
                "gripper_opening": _passed(6),
            },
        ),
        "robo_set": arm(
            {"joint_position": at(STATE, 0, 7), "joint_velocity": at(OBS + "state_velocity", 0, 7)},
            {"joint_command": at(ACTION, 0, 7), "gripper_opening": opening(at(ACTION, 7, 8), **CLOSES)},
        ),
        "aloha_mobile": arm(
            {
                "left__joint_position": at(STATE, 0, 6),
                "left__gripper_opening": opening(at(STATE, 6, 7), **IS_OPEN),
                "joint_position": at(STATE, 7, 13), "gripper_opening": opening(at(STATE, 13, 14), **IS_OPEN),
            },
            {
                "left__joint_position": at(ACTION, 0, 6), "left__gripper_opening": _passed(6),
                "joint_position": at(ACTION, 7, 13), "gripper_opening": _passed(13),
                "base__command": at(ACTION, 14, 16),
            },
        ),
        "eth_agent_affordances": arm(
            {"ee_position": _pos(STATE)},
            {"linear_command": at(ACTION, 0, 3), "angular_command": at(ACTION, 3, 6)}
        ),
    }  # fmt: skip
    tasks = "knock_object_over carrot_in_bowl pour_corn_in_pot flip_pot_upright move_object_onto_plate"
    tables |= {f"tdroid_{task}": _droid() for task in (*tasks.split(), "cover_object_with_towel")}
    tables |= {f"libero_{suite}_no_noops": _libero() for suite in ("10", "goal", "object", "spatial")}
    return tables


ORACLE = _table()


def oracle_of(name: str) -> Table:
    """By the dataset's name, whose usual ending may be left out."""
    return ORACLE[name.removesuffix("_converted_externally_to_rlds")]
