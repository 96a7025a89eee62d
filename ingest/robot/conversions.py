"""Numbers of the forms of fields as canonical ones, and back: positions, rotations, openings, joints.

Canonical are positions [N, 3] in m, rotations as matrices [N, 3, 3], openings [N, 1] of 0 … 1, joints and
other numbers [N, d]. Which form goes which way is declared in `forms`.

Legend: N frames, d columns of one field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robot_foundry.normalization import rotation

Array = NDArray[np.float64]
# The values within two limits, noting which go beyond.
Clip = Callable[[Array, Any, Any], Array]
# A stored rotation matrix further than this from orthonormal is no rotation.
ORTHONORMAL_TOLERANCE = 1e-3
LAST_ROW = (0.0, 0.0, 0.0, 1.0)
# How a turn may be written beside Euler angles and quaternions.
AXIS_ANGLE = "axis_angle"
# The axes about which a turn is: those of the robot's base, or of the tool as it is.
FRAMES = (BASE, TOOL) = ("base", "tool")
# Which numbers of a matrix lie side by side.
MAJORS = (ROWS, _) = ("rows", "columns")


class Commands(Protocol):
    """How the robot's own controller takes the columns of a field."""

    @property
    def is_delta(self) -> bool:
        """Whether they displace the pose that the arm has; else they are the pose."""
        ...

    def displacement(self, command_Nd: Array, clip: Clip) -> Array:
        """What a command that displaces asks for, in m or rad."""
        ...

    def command(self, displacement_Nd: Array) -> Array:
        """The command that asks for a displacement in m or rad, clipped."""
        ...


@dataclass(frozen=True)
class Given:
    """What a form leans on beside the numbers: the field's settings, and what only some forms need.

    `start` is the quantity of the state at the same moments, canonical; `clip` is used on the way there.
    """

    settings: Mapping[str, Any]
    start: Array | None = None
    clip: Clip = np.clip
    controller: Commands | None = None

    @property
    def state(self) -> Array:
        assert self.start is not None  # the reader of specs sees to it
        return self.start

    @property
    def commands(self) -> Commands:
        assert self.controller is not None
        return self.controller


# Numbers that are scaled, and displacements.


def scaled(values_Nd: Array, given: Given) -> Array:
    return values_Nd * np.asarray(given.settings["scale"])


def unscaled(values_Nd: Array, given: Given) -> Array:
    return values_Nd / np.asarray(given.settings["scale"], np.float64)


def _asked(values_Nd: Array, given: Given) -> Array:
    """Displacements; limits are those of the source's own numbers, so they come before the scale."""
    limit = given.settings["clip"]
    values_Nd = values_Nd if limit is None else given.clip(values_Nd, -limit, limit)
    return scaled(values_Nd, given)


def _unasked(displacement_Nd: Array, given: Given) -> Array:
    values_Nd, limit = unscaled(displacement_Nd, given), given.settings["clip"]
    return values_Nd if limit is None else np.clip(values_Nd, -limit, limit)


def displaced(values_Nd: Array, given: Given) -> Array:
    return given.state + _asked(values_Nd, given)


def displacement(target_Nd: Array, given: Given) -> Array:
    return _unasked(target_Nd - given.state, given)


def integrated(values_Nd: Array, given: Given) -> Array:
    """The sum of the displacements before each frame, zero at the first; NaN from the first NaN on."""
    before_Nd = np.concatenate([np.zeros_like(values_Nd[:1]), values_Nd[:-1]])
    return np.cumsum(scaled(before_Nd, given), axis=0)


def turned(values_Nd: Array, given: Given) -> Array:
    turn_N33 = _matrix_of(_asked(values_Nd, given), given.settings["rotation"])
    if given.settings["frame"] == TOOL:
        return given.state @ turn_N33
    # From the left, so about the axes of the base: robosuite's goal_rot = R(drot) @ rot.
    return turn_N33 @ given.state


def turn(target_N33: Array, given: Given) -> Array:
    back_N33 = np.swapaxes(given.state, -1, -2)
    in_tool = given.settings["frame"] == TOOL
    turn_N33 = rotation.multiply(*((back_N33, target_N33) if in_tool else (target_N33, back_N33)))
    return _unasked(_numbers_of(turn_N33, given.settings["rotation"]), given)


def _turn_from(start_N33: Array, target_N33: Array) -> Array:
    return rotation.multiply(target_N33, np.swapaxes(start_N33, -1, -2))


def width_of_turn(way: str) -> int:
    """How many numbers a turn has that is written so."""
    return 3 if way == AXIS_ANGLE else len(way)


def _matrix_of(values_Nd: Array, way: str) -> Array:
    """Of a rotation vector, of a quaternion of that order, or of Euler angles of a sequence."""
    if way == AXIS_ANGLE:
        return rotation.axis_angle_to_matrix(values_Nd)
    if way in rotation.QUATERNION_ORDERS:
        return rotation.quaternion_to_matrix(values_Nd, order=way)
    return rotation.euler_to_matrix(values_Nd, way)


def _numbers_of(matrix_N33: Array, way: str) -> Array:
    """The inverse of `_matrix_of`."""
    if way == AXIS_ANGLE:
        return rotation.matrix_to_axis_angle(matrix_N33)
    if way in rotation.QUATERNION_ORDERS:
        return rotation.matrix_to_quaternion(matrix_N33, order=way)
    return _angles_of(matrix_N33, way)


def _angles_of(matrix_N33: Array, sequence: str) -> Array:
    """Euler angles; of one axis the turn about it that is left when the rest is undone (swing and twist)."""
    if len(sequence) > 1:
        return rotation.matrix_to_euler(matrix_N33, sequence)
    quaternion_N4 = rotation.matrix_to_quaternion(matrix_N33, order="xyzw")
    about_N = quaternion_N4[:, "xyz".index(sequence)]
    return 2 * np.arctan2(about_N, quaternion_N4[:, 3])[:, None]


# Commands of a controller (robosuite's operational-space control).


def commanded_position(command_Nd: Array, given: Given) -> Array:
    if not given.commands.is_delta:
        return command_Nd
    return given.state + given.commands.displacement(command_Nd, given.clip)


def position_command(target_Nd: Array, given: Given) -> Array:
    return given.commands.command(target_Nd - given.state) if given.commands.is_delta else target_Nd


def commanded_rotation(command_Nd: Array, given: Given) -> Array:
    if not given.commands.is_delta:
        return rotation.axis_angle_to_matrix(command_Nd)
    turn_Nd = given.commands.displacement(command_Nd, given.clip)
    return rotation.axis_angle_to_matrix(turn_Nd) @ given.state


def rotation_command(target_N33: Array, given: Given) -> Array:
    if not given.commands.is_delta:
        return rotation.matrix_to_axis_angle(target_N33)
    turn_N33 = _turn_from(given.state, target_N33)
    return given.commands.command(rotation.matrix_to_axis_angle(turn_N33))


# The state that follows; the last row has none but itself.


def following_state(state: Array, given: Given) -> Array:
    return np.concatenate([state[1:], state[-1:]])


# Rotations.


def of_quaternion(values_N4: Array, given: Given) -> Array:
    return rotation.quaternion_to_matrix(values_N4, order=given.settings["order"])


def quaternion(matrix_N33: Array, given: Given) -> Array:
    return rotation.matrix_to_quaternion(matrix_N33, order=given.settings["order"])


def of_euler(values_Nd: Array, given: Given) -> Array:
    angles_Nd = np.deg2rad(values_Nd) if given.settings["degrees"] else values_Nd
    return rotation.euler_to_matrix(angles_Nd, given.settings["sequence"])


def euler_angles(matrix_N33: Array, given: Given) -> Array:
    angles_Nd = _angles_of(matrix_N33, given.settings["sequence"])
    return np.rad2deg(angles_Nd) if given.settings["degrees"] else angles_Nd


def of_axis_angle(values_N3: Array, given: Given) -> Array:
    return rotation.axis_angle_to_matrix(values_N3)


def axis_angle(matrix_N33: Array, given: Given) -> Array:
    return rotation.matrix_to_axis_angle(matrix_N33)


def of_columns(values_N6: Array, given: Given) -> Array:
    return rotation.rot6d_to_matrix(values_N6)


def of_exact_columns(values_N6: Array, given: Given) -> Array:
    """The columns as they are, so that tables have them to the bit, and the third at right angles to them."""
    first_N3, second_N3 = values_N6[:, :3], values_N6[:, 3:]
    return np.stack([first_N3, second_N3, np.cross(first_N3, second_N3)], axis=-1)


def columns(matrix_N33: Array, given: Given) -> Array:
    return rotation.matrix_to_rot6d(matrix_N33)


def of_rows(values_N6: Array, given: Given) -> Array:
    # The rows of R are the columns of its transpose.
    return np.swapaxes(rotation.rot6d_to_matrix(values_N6), -1, -2)


def rows(matrix_N33: Array, given: Given) -> Array:
    return rotation.matrix_to_rot6d(np.swapaxes(matrix_N33, -1, -2))


def of_matrix(values_N9: Array, given: Given) -> Array:
    """NaN where the source holds no rotation: any nine numbers would be read else, mirrored ones too."""
    matrix_N33 = values_N9.reshape(-1, 3, 3)
    error_N = np.abs(matrix_N33 @ np.swapaxes(matrix_N33, -1, -2) - np.eye(3)).max(axis=(1, 2))
    is_rotation_N = (error_N < ORTHONORMAL_TOLERANCE) & (np.linalg.det(matrix_N33) > 0)
    return np.where(is_rotation_N[:, None, None], matrix_N33, np.nan)


def matrix(matrix_N33: Array, given: Given) -> Array:
    return matrix_N33.reshape(-1, 9)


def of_homogeneous(values_N16: Array, given: Given) -> Array:
    """The rotation of a pose [R p; 0 0 0 1], its numbers row by row or column by column; NaN where the last
    row is another, as it is of a pose that is read by the other."""
    pose_N44 = values_N16.reshape(-1, 4, 4)
    pose_N44 = pose_N44 if given.settings["major"] == ROWS else np.swapaxes(pose_N44, -1, -2)
    matrix_N33 = of_matrix(pose_N44[:, :3, :3].reshape(-1, 9), given)
    is_pose_N = np.abs(pose_N44[:, 3] - LAST_ROW).max(axis=1) < ORTHONORMAL_TOLERANCE
    return np.where(is_pose_N[:, None, None], matrix_N33, np.nan)


# Grippers.


def opening(values_N1: Array, given: Given) -> Array:
    closed, opened = given.settings["closed"], given.settings["open"]
    return given.clip((values_N1 - closed) / (opened - closed), 0.0, 1.0)


def between_ends(opening_N1: Array, given: Given) -> Array:
    closed, opened = given.settings["closed"], given.settings["open"]
    return closed + np.clip(opening_N1, 0.0, 1.0) * (opened - closed)


def opening_of_fingers(values_N2: Array, given: Given) -> Array:
    # They move apart in one coordinate, so their difference is the gap.
    return opening(values_N2[:, :1] - values_N2[:, 1:], given)


def fingers(opening_N1: Array, given: Given) -> Array:
    # Only their gap is known, so each finger takes half of it.
    gap_N1 = between_ends(opening_N1, given)
    return np.concatenate([gap_N1, -gap_N1], axis=1) / 2


def opening_that_lasts(values_N1: Array, given: Given) -> Array:
    """Openings of commands to close or to open, each of which lasts until the next.

    Numbers between the ends, up to `threshold` of the way from the middle to an end, change nothing. Before
    the first command the gripper is as the other command leaves it; without any it is open.
    """
    closed, opened = given.settings["closed"], given.settings["open"]
    towards_N = (values_N1[:, 0] - (closed + opened) / 2) / ((opened - closed) / 2)
    (at,) = np.nonzero(np.abs(towards_N) > given.settings["threshold"])
    if at.size == 0:
        return np.where(np.isnan(values_N1), np.nan, 1.0)
    asked = (towards_N[at] > 0).astype(np.float64)
    last_N = np.searchsorted(at, np.arange(len(values_N1)), side="right") - 1
    opening_N = np.where(last_N < 0, 1.0 - asked[0], asked[last_N])
    return np.where(np.isnan(values_N1), np.nan, opening_N[:, None])
