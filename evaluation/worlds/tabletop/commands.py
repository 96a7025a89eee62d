"""The world's numbers as vectors: commands of the robot's controller, and canonical named dims.

A command is, per arm, position (m) and axis-angle (rad) of the tool in the table frame and the gripper
opening (0 closed … 1 open): 7 numbers; 4 for an arm that cannot turn (no axis-angle).
Shape suffixes: T steps, C numbers of a command, A dims of an action space.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robot_foundry.evaluation.worlds.tabletop.physics import Arm, Target
from robot_foundry.normalization.rotation import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_rot6d,
    rot6d_to_matrix,
)
from robot_foundry.normalization.space import ActionSpace


def command_size(rotates: bool) -> int:
    return 7 if rotates else 4


def command_names(arms: Sequence[str], rotates: bool) -> tuple[str, ...]:
    """The meaning of a command's columns."""
    parts = ["x", "y", "z", *(("rx", "ry", "rz") if rotates else ()), "gripper"]
    return tuple(f"{arm}.{part}" for arm in arms for part in parts)


def state_space(arms: Sequence[str]) -> ActionSpace:
    """What the world measures of its robot, and nothing else: pose and gripper opening of every arm."""
    quantities = ("ee_position", "ee_rot6d", "gripper_opening")
    return ActionSpace([f"{arm}.{quantity}" for arm in arms for quantity in quantities])


def action_space(arms: Sequence[str], rotates: bool) -> ActionSpace:
    """The canonical dims that a command of these arms determines."""
    quantities = ("ee_position", *(("ee_rot6d",) if rotates else ()), "gripper_opening")
    return ActionSpace([f"{arm}.{quantity}" for arm in arms for quantity in quantities])


def encode_targets(targets_T: Sequence[tuple[Target, ...]], rotates: bool) -> np.ndarray:
    """The targets of T steps as commands (T, C)."""
    columns = []
    for index in range(len(targets_T[0])):
        arm_T = [targets[index] for targets in targets_T]
        columns.append(np.stack([target.position_3 for target in arm_T]))
        if rotates:
            columns.append(matrix_to_axis_angle(np.stack([target.rotation_33 for target in arm_T])))
        columns.append(np.array([[target.opening] for target in arm_T]))
    return np.concatenate(columns, axis=1)


def decode_targets(command_TC: np.ndarray, arms: Sequence[Arm], rotates: bool) -> list[tuple[Target, ...]]:
    """Commands (T, C) as the targets of T steps. Arms that cannot turn keep the rotation they have."""
    size = command_size(rotates)
    per_arm = []
    for index, arm in enumerate(arms):
        part_TC = command_TC[:, index * size : (index + 1) * size]
        turned_T33 = axis_angle_to_matrix(part_TC[:, 3:6]) if rotates else [arm.rotation_33] * len(part_TC)
        per_arm.append(
            [Target(row[:3], turned, float(row[-1])) for row, turned in zip(part_TC, turned_T33, strict=True)]
        )
    return list(zip(*per_arm, strict=True))


def canonical_to_commands(
    action_TA: np.ndarray, space: ActionSpace, arms: Sequence[str], rotates: bool
) -> np.ndarray:
    """Absolute canonical actions (T, A) over `space` as commands (T, C).

    Dims of `space` that the robot lacks are left out; a dim that it needs and `space` lacks is an error of
    ActionSpace.index, which names it.
    """
    columns = []
    for arm in arms:
        columns.append(action_TA[:, [space.index(f"{arm}.ee_position.{axis}") for axis in "xyz"]])
        if rotates:
            rot6d_T6 = action_TA[:, [space.index(f"{arm}.ee_rot6d.{k}") for k in range(6)]]
            columns.append(matrix_to_axis_angle(rot6d_to_matrix(rot6d_T6)))
        columns.append(action_TA[:, [space.index(f"{arm}.gripper_opening")]])
    return np.concatenate(columns, axis=1).astype(np.float64)


def canonical_state(arms: Sequence[Arm]) -> np.ndarray:
    """The robot's state over `state_space`, float64."""
    parts = []
    for arm in arms:
        parts += [arm.position_3, matrix_to_rot6d(arm.rotation_33), np.array([arm.opening])]
    return np.concatenate(parts)
