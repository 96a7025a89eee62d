"""Values between the rows of a table: numbers along a line, rotations along the shortest arc (SLERP).

A screw motion of constant velocity, about an axis through the tool along which it moves, comes out exactly.
Shape suffixes: B = any batch axes, D = dims of the space.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.normalization.rotation import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_rot6d,
    multiply,
    rot6d_to_matrix,
)
from robot_foundry.normalization.space import ActionSpace

Array = NDArray[Any]


def between(low_BD: Array, high_BD: Array, share_B: Array, space: ActionSpace) -> Array:
    """The absolute values at `share` (0 … 1) of the way from `low` to `high`, both (..., D) over `space`.

    Positions, joints, grippers and all other numbers are linear; the yaw of a base (rad) takes the shorter
    way round; `ee_rot6d` of a part turns at a constant rate about one axis (Shoemake 1985). Where the share
    is 0, `low` comes back bit for bit. Computed in float64; the result has the dtype of `low`.
    """
    share_B1 = np.asarray(share_B, np.float64)[..., None]
    start_BD, end_BD = low_BD.astype(np.float64), high_BD.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        change_BD = end_BD - start_BD
        yaw = [i for i, dim in enumerate(space) if dim.quantity == "yaw"]
        change_BD[..., yaw] -= 2 * np.pi * np.round(change_BD[..., yaw] / (2 * np.pi))
        value_BD = start_BD + share_B1 * change_BD
        for columns in _rotations(space):
            start_B33 = rot6d_to_matrix(start_BD[..., columns])
            turn_B33 = multiply(rot6d_to_matrix(end_BD[..., columns]), np.swapaxes(start_B33, -1, -2))
            part_B33 = axis_angle_to_matrix(share_B1 * matrix_to_axis_angle(turn_B33))
            value_BD[..., columns] = matrix_to_rot6d(multiply(part_B33, start_B33))
        return np.where(share_B1 == 0, low_BD, value_BD.astype(low_BD.dtype))


def _rotations(space: ActionSpace) -> list[list[int]]:
    """The columns of every whole rot6d."""
    parts = dict.fromkeys(dim.name.rpartition(".")[0] for dim in space if dim.quantity == "ee_rot6d")
    names = [[f"{part}.{i}" for i in range(6)] for part in parts]
    return [[space.index(name) for name in six] for six in names if all(name in space for name in six)]
