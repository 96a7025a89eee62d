"""What the numbers of datasets of arms beside Franka's, and of other robots, mean."""

from __future__ import annotations

from foundry_testing.oxe.expressions import (
    Expr,
    Table,
    about_base,
    about_tool,
    arm,
    at,
    by_rows,
    following,
    lasting,
    moved,
    opening,
    rpy,
    so_far,
    vector,
    xyzw,
    zxy,
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
    deltas,
    passed,
    place,
)


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


def _pr2() -> Table:
    state = {"ee_position": place(STATE), "ee_rotation": rpy(at(STATE, 3, 6))}
    return arm(state, {"pose_command": at(ACTION, 0, 6), "gripper_opening": passed(6)})


def _sara(**more: Expr) -> Table:
    state = {"ee_position": place(STATE), "ee_rotation": zxy(at(STATE, 3, 6)), **more}
    return arm(state, {"pose_command": at(ACTION, 0, 6)})


def _gnm() -> Table:
    state = {"base__position": at(OBS + "position"), "base__yaw": at(OBS + "yaw")}
    return arm(state, {"base__waypoint": at(ACTION)})


def _bridge(state: str, position_by: Expr, turn_by: Expr, gripper: Expr) -> Table:
    position, rotation = place(state), rpy(at(state, 3, 6))
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


def tables() -> dict[str, Table]:
    """By the dataset's name, without its usual ending."""
    ur5 = OBS + "robot_state"
    return {
        "fractal20220817_data": _of_rt1(OBS + "base_pose_tool_reached", OBS + "gripper_closed"),
        "kuka": _of_rt1(OBS + "clip_function_input/base_pose_tool_reached", OBS + "gripper_closed"),
        "bridge_oxe": _bridge(STATE, WORLD, TURN, opening(at(ACT + "open_gripper"), **IS_OPEN)),
        "bridge_data_msr": _bridge(STATE, at(ACTION, 0, 3), at(ACTION, 3, 6), passed(6)),
        "jaco_play": arm(
            {"ee_position": place(OBS + "end_effector_cartesian_pos")},
            {
                "ee_position": moved(place(OBS + "end_effector_cartesian_pos"), WORLD),
                "gripper_opening": lasting(CLOSEDNESS),
            },
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
        "berkeley_autolab_ur5": arm(
            {
                "joint_position": at(ur5, 0, 6), "ee_position": place(ur5, 6),
                "ee_rotation": xyzw(at(ur5, 9, 13)),
                "gripper_opening": opening(at(ur5, 13, 14), **IS_CLOSED),
            },
            deltas(place(ur5, 6), xyzw(at(ur5, 9, 13)), gripper=lasting(CLOSEDNESS)),
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
                "ee_position": place(STATE), "ee_rotation": rpy(at(STATE, 3, 6)),
                "gripper_opening": opening(at(STATE, 6, 7), **IS_CLOSED),
            },
            {
                "ee_position": moved(place(STATE), at(ACTION, 0, 3)),
                "gripper_opening": opening(at(ACTION, 6, 7), **IS_CLOSED),
            },
        ),
        "ucsd_kitchen_dataset": arm(
            {
                "joint_position": at(STATE, 0, 7), "joint_velocity": at(STATE, 7, 14),
                "joint_effort": at(STATE, 14, 21),
            },
            {"pose_command": at(ACTION, 0, 6), "gripper_opening": passed(6)},
        ),
        "ucsd_pick_and_place_dataset": arm(
            {"ee_position": place(STATE), "ee_rotation": rpy(at(STATE, 3, 6))},
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
                "ee_position": place(OBS + "end_effector_pose"),
            },
            {"pose_command": at(ACTION, 0, 6), "gripper_opening": passed(6)},
        ),
        "utokyo_xarm_bimanual": arm(
            {"left__ee_position": place(OBS + "pose_l"), "ee_position": place(OBS + "pose_r")},
            {
                "left__pose_command": at(ACTION, 0, 6), "left__gripper_opening": passed(6),
                "pose_command": at(ACTION, 7, 13), "gripper_opening": passed(13),
            },
        ),
        "berkeley_mvp": arm(
            {
                "joint_position": at(OBS + "joint_pos"), "ee_position": place(OBS + "pose"),
                "gripper_opening": opening(at(OBS + "gripper"), **IS_CLOSED),
            },
            command_joint={
                "joint_position": moved(at(OBS + "joint_pos"), at(ACTION, 0, 7)),
                "gripper_opening": opening(at(ACTION, 7, 8), **IS_CLOSED),
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
                "ee_position": place(STATE), "ee_rotation": rpy(at(STATE, 3, 6)),
                "joint_position": at(STATE, 6, 12),
            },
            {"pose_command": at(ACTION, 0, 6), "gripper_opening": passed(6)},
        ),
        "dlr_sara_pour": _sara(),
        "dlr_sara_grid_clamp": _sara(ee_force=at(STATE, 6, 9), ee_torque=at(STATE, 9, 12)),
        "dlr_edan_shared_control": arm(
            {"ee_position": place(STATE), "ee_rotation": zxy(at(STATE, 3, 6))},
            {
                "ee_position": moved(place(STATE), at(ACTION, 0, 3)),
                "ee_rotation": about_base(zxy(at(STATE, 3, 6)), zxy(at(ACTION, 3, 6))),
                "gripper_opening": opening(at(ACTION, 6, 7), **IS_CLOSED),
            },
        ),
        "asu_table_top": arm(
            {
                "ee_position": place("ground_truth_states/EE"),
                "ee_rotation": rpy(at("ground_truth_states/EE", 3, 6)),
                "joint_position": at(STATE, 0, 6), "joint_velocity": at(OBS + "state_vel", 0, 6),
            },
            {"source_action": at(ACTION)},
        ),
        "imperialcollege_sawyer_wrist_cam": arm(
            {"gripper_state": at(STATE)},
            {
                "linear_command": at(ACTION, 0, 3), "angular_command": at(ACTION, 3, 6),
                "gripper_opening": passed(6),
            },
        ),
        "uiuc_d3field": arm(
            dict(zip(("ee_position", "ee_rotation"), by_rows(at(STATE)), strict=True)),
            {"linear_command": at(ACTION)},
        ),
        "berkeley_fanuc_manipulation": arm(
            {
                "joint_position": at(STATE, 0, 6), "joint_velocity": at(STATE, 7, 13),
                "ee_position": place(OBS + "end_effector_state"),
                "gripper_opening": opening(at(STATE, 6, 7), **IS_CLOSED),
            },
            {
                "ee_position": moved(place(OBS + "end_effector_state"), at(ACTION, 0, 3)),
                "angular_command": at(ACTION, 3, 6),
                "gripper_opening": following(opening(at(STATE, 6, 7), **IS_CLOSED)),
            },
        ),
        "cmu_stretch": arm(
            {"tip": at(STATE, 0, 3)}, {"pose_command": at(ACTION, 0, 6), "gripper_opening": passed(6)}
        ),
        "berkeley_gnm_recon": _gnm(),
        "berkeley_gnm_cory_hall": _gnm(),
        "berkeley_gnm_sac_son": _gnm(),
        "dobbe": arm(
            {
                "ee_position": at(OBS + "xyz"), "ee_rotation": xyzw(at(OBS + "quat")),
                "gripper_opening": opening(at(OBS + "gripper"), **IS_OPEN),
            },
            {
                "ee_position": moved(at(OBS + "xyz"), at(ACTION, 0, 3)),
                "ee_rotation": about_tool(xyzw(at(OBS + "quat")), rpy(at(ACTION, 3, 6))),
                "gripper_opening": passed(6),
            },
        ),
        "aloha_mobile": arm(
            {
                "left__joint_position": at(STATE, 0, 6),
                "left__gripper_opening": opening(at(STATE, 6, 7), **IS_OPEN),
                "joint_position": at(STATE, 7, 13), "gripper_opening": opening(at(STATE, 13, 14), **IS_OPEN),
            },
            {
                "left__joint_position": at(ACTION, 0, 6), "left__gripper_opening": passed(6),
                "joint_position": at(ACTION, 7, 13), "gripper_opening": passed(13),
                "base__command": at(ACTION, 14, 16),
            },
        ),
    }  # fmt: skip
