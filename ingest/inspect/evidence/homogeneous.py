"""Poses as matrices of 4 x 4 numbers: sixteen columns that can be nothing else, and tell rows from columns.

Legend: M rows, d columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.inspect.evidence import names
from robot_foundry.ingest.inspect.evidence.guess import HIGH, Run

Array = NDArray[np.float64]
WIDTH = 16
# How far the numbers 0, 0, 0, 1 may be from themselves; and products of the rotation's columns from 0 and 1.
EXACT, ORTHONORMAL = 1e-4, 1e-2
# By how it is written: where 0, 0, 0, 1 stand, and the position (start, stop, step).
WRITTEN = {"rows": ((12, 13, 14, 15), (3, 12, 4)), "columns": ((3, 7, 11, 15), (12, 15, 1))}


def pose_in(rows_Md: Array) -> list[Run]:
    """The position and the rotation of the first sixteen columns that are such a pose; none if none are."""
    for start in range(rows_Md.shape[1] - WIDTH + 1):
        for major, (ends, (first, stop, step)) in WRITTEN.items():
            if _is_pose(rows_Md[:, start : start + WIDTH], major, ends):
                why = f"16 columns are a pose of 4 x 4 numbers by {major}: with a rotation and 0, 0, 0, 1"
                said = (HIGH, (why,))
                turned = Run(names.ROTATION, start, start + WIDTH, "homogeneous", {"major": major}, *said)
                placed = Run(names.POSITION, start + first, start + stop, "value", {}, *said, step=step)
                return [placed, turned]
    return []


def _is_pose(rows_M16: Array, major: str, ends: tuple[int, ...]) -> bool:
    if np.abs(rows_M16[:, list(ends)] - (0, 0, 0, 1)).max() > EXACT:
        return False
    rotation_M33 = rotations(rows_M16, major)
    product_M33 = rotation_M33 @ np.swapaxes(rotation_M33, 1, 2)
    is_orthonormal = bool(np.all(np.abs(product_M33 - np.eye(3)) < ORTHONORMAL))
    return is_orthonormal and bool(np.all(np.linalg.det(rotation_M33) > 0))


def rotations(rows_M16: Array, major: str) -> Array:
    """The rotation matrices [M, 3, 3] of such poses."""
    pose_M44 = rows_M16.reshape(-1, 4, 4)
    return (np.swapaxes(pose_M44, 1, 2) if major == "columns" else pose_M44)[:, :3, :3]
