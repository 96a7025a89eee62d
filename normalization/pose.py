"""Rigid poses as homogeneous matrices (..., 4, 4): p_outer = T @ [p_inner, 1], metres.

Any batch shape, batch axes broadcast. The floating dtype of the inputs is kept, computed in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_foundry.normalization.rotation import apply, multiply
from robot_foundry.runtime.errors import FoundryError

Array = NDArray[Any]


def make(position: ArrayLike, rotation: ArrayLike) -> Array:
    """(..., 3) positions and (..., 3, 3) rotations -> (..., 4, 4) poses."""
    position_3, rotation_33 = np.asarray(position), np.asarray(rotation)
    if position_3.shape[-1:] != (3,) or rotation_33.shape[-2:] != (3, 3):
        raise FoundryError(
            f"a pose takes positions (..., 3) and rotations (..., 3, 3), got {position_3.shape} "
            f"and {rotation_33.shape}"
        )
    batch = np.broadcast_shapes(position_3.shape[:-1], rotation_33.shape[:-2])
    pose_44 = np.zeros((*batch, 4, 4), _floating(position_3, rotation_33))
    pose_44[..., :3, :3] = rotation_33
    pose_44[..., :3, 3] = position_3
    pose_44[..., 3, 3] = 1.0
    return pose_44


def position(pose: ArrayLike) -> Array:
    """(..., 4, 4) -> (..., 3)."""
    return _checked(pose)[..., :3, 3]


def rotation(pose: ArrayLike) -> Array:
    """(..., 4, 4) -> (..., 3, 3)."""
    return _checked(pose)[..., :3, :3]


def inverse(pose: ArrayLike) -> Array:
    """(..., 4, 4) -> (..., 4, 4), by the transpose of the rotation."""
    pose_44 = _checked(pose)
    return relative(pose_44, np.eye(4, dtype=pose_44.dtype))


def relative(anchor: ArrayLike, target: ArrayLike) -> Array:
    """inv(anchor) @ target: the target pose seen from the anchor's own frame.

    The positions are subtracted before they are rotated, so a distant base frame costs no precision.
    """
    anchor_44, target_44 = _checked(anchor), _checked(target)
    dtype = _floating(anchor_44, target_44)
    anchor_44, target_44 = anchor_44.astype(np.float64, copy=False), target_44.astype(np.float64, copy=False)
    back_33 = np.swapaxes(anchor_44[..., :3, :3], -1, -2)
    moved_3 = target_44[..., :3, 3] - anchor_44[..., :3, 3]
    seen_44 = make(apply(back_33, moved_3), multiply(back_33, target_44[..., :3, :3]))
    return seen_44.astype(dtype, copy=False)


def compose(a: ArrayLike, b: ArrayLike) -> Array:
    """a @ b: pose b, given in the frame a, seen from the frame of a. compose(a, relative(a, t)) is t."""
    a_44, b_44 = _checked(a), _checked(b)
    dtype = _floating(a_44, b_44)
    a_44, b_44 = a_44.astype(np.float64, copy=False), b_44.astype(np.float64, copy=False)
    a_33 = a_44[..., :3, :3]
    moved_3 = apply(a_33, b_44[..., :3, 3]) + a_44[..., :3, 3]
    return make(moved_3, multiply(a_33, b_44[..., :3, :3])).astype(dtype, copy=False)


def _checked(pose: ArrayLike) -> Array:
    pose_44 = np.asarray(pose)
    if pose_44.shape[-2:] != (4, 4):
        raise FoundryError(f"expected poses of shape (..., 4, 4), got {pose_44.shape}")
    return pose_44


def _floating(*arrays: Array) -> np.dtype[Any]:
    dtype = np.result_type(*arrays)
    return dtype if np.issubdtype(dtype, np.floating) else np.dtype(np.float64)
