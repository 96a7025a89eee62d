"""Errors of a chunk of absolute targets, step by step, each part of the robot by itself.

Shapes: T steps, d dims of a dataset's action space, n of them; xyz a position, 6 a rotation as two columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_foundry.normalization.rotation import rot6d_to_matrix
from robot_foundry.normalization.space import ActionSpace

FloatArray = NDArray[np.float64]
Errors = dict[str, dict[str, FloatArray]]  # by part, by measure: [T]


@dataclass(frozen=True)
class Measure:
    """What is told of a step: `header` for a table; whether more of it is better."""

    header: str
    more_is_better: bool = False


MEASURES = {
    "position_mm": Measure("position mm"),
    "rotation_deg": Measure("rotation deg"),
    "gripper": Measure("gripper right", more_is_better=True),
    "joint_rad": Measure("joints rad"),
    "joint_m": Measure("joints m"),
}


def chunk_errors(value_Td: FloatArray, target_Td: FloatArray, space: ActionSpace) -> Errors:
    """By part and measure the error of each step [T]; NaN where a value is not known.

    position_mm   the distance between the two points
    rotation_deg  the angle of the rotation from one to the other
    gripper       1 where both are on the same side of half open, else 0
    joint_rad, joint_m  the mean distance of the part's joints, those that turn and those that slide
    """
    parts = dict.fromkeys(dim.part for dim in space)
    errors = {part: dict(_of_part(value_Td, target_Td, space, part)) for part in parts}
    return {part: of_part for part, of_part in errors.items() if of_part}


def _of_part(
    value_Td: FloatArray, target_Td: FloatArray, space: ActionSpace, part: str
) -> Iterator[tuple[str, FloatArray]]:
    dims = [(i, dim) for i, dim in enumerate(space) if dim.part == part]
    if xyz := [i for i, dim in dims if dim.quantity == "ee_position"]:
        yield "position_mm", 1000 * np.linalg.norm(value_Td[:, xyz] - target_Td[:, xyz], axis=-1)
    if len(rot6d := [i for i, dim in dims if dim.quantity == "ee_rot6d"]) == 6:
        yield "rotation_deg", _angle_deg(value_Td[:, rot6d], target_Td[:, rot6d])
    if gripper := [i for i, dim in dims if dim.kind == "gripper"]:
        yield "gripper", _same_side(value_Td[:, gripper], target_Td[:, gripper])
    for unit in ("rad", "m"):
        if joints := [i for i, dim in dims if dim.quantity == "joint_position" and dim.unit == unit]:
            yield f"joint_{unit}", np.abs(value_Td[:, joints] - target_Td[:, joints]).mean(axis=-1)


def dim_errors(value_Td: FloatArray, target_Td: FloatArray, space: ActionSpace) -> dict[str, FloatArray]:
    """By named dim the distance of each step [T], in the dim's own unit; NaN where a value is not known.

    Numbers of a rotation are left out: they have no unit, and `rotation_deg` is their distance.
    """
    apart_Td = np.abs(value_Td - target_Td)
    return {dim.name: apart_Td[:, i] for i, dim in enumerate(space) if dim.quantity != "ee_rot6d"}


def unmeasured(space: ActionSpace) -> list[str]:
    """The dims of a space that no measure of a part counts."""
    told = ("ee_position", "ee_rot6d", "joint_position")
    return [dim.name for dim in space if dim.quantity not in told and dim.kind != "gripper"]


def _same_side(value_Tn: FloatArray, target_Tn: FloatArray) -> FloatArray:
    right_Tn = np.where(np.isfinite(value_Tn), (value_Tn > 0.5) == (target_Tn > 0.5), np.nan)
    return np.asarray(right_Tn.mean(axis=-1))


def _angle_deg(value_T6: FloatArray, target_T6: FloatArray) -> FloatArray:
    """The geodesic distance of two rotations, from the Frobenius norm of their difference, 2√2 sin(θ/2).

    That keeps small angles, which the arc cosine of a trace loses (Huynh 2009, metrics 5 and 6).
    """
    known_T = np.isfinite(value_T6).all(axis=-1) & np.isfinite(target_T6).all(axis=-1)
    angle_T = np.full(len(value_T6), np.nan)
    apart_n33 = rot6d_to_matrix(value_T6[known_T]) - rot6d_to_matrix(target_T6[known_T])
    chord_n = np.linalg.norm(apart_n33, axis=(-2, -1)) / np.sqrt(8)
    angle_T[known_T] = np.degrees(2 * np.arcsin(np.clip(chord_n, 0, 1)))
    return angle_T
