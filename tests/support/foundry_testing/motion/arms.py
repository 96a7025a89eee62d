"""Arms of published kinematics: the pose of the tool by the joints, and joints that reach a pose.

Legend: N poses, n joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]
Pose = tuple[Array, Rotation]


@dataclass(frozen=True)
class Arm:
    """`links` are (alpha, a, d) of each joint in Craig's convention, in rad and m, `tool` is how far the
    tool is from the last; `home` are joints with the tool over a table, pointing down."""

    links: tuple[tuple[float, float, float], ...]
    tool: float
    home: tuple[float, ...]

    def pose(self, joints_Nn: Array) -> Pose:
        """Position [N, 3] and orientation of the tool."""
        matrix_N44 = self._frames(joints_Nn)[-1]
        return matrix_N44[:, :3, 3], Rotation.from_matrix(matrix_N44[:, :3, :3])

    def reach(self, position_N3: Array, rotation: Rotation, rounds: int = 30) -> Array:
        """Joints [N, n] whose tool is there or near: damped least squares from home."""
        joints_Nn = np.tile(self.home, (len(position_N3), 1))
        for _ in range(rounds):
            frames = self._frames(joints_Nn)
            at_N44 = frames[-1]
            error_N3 = position_N3 - at_N44[:, :3, 3]
            turn_N3 = (rotation * Rotation.from_matrix(at_N44[:, :3, :3]).inv()).as_rotvec()
            axes = [frame[:, :3, 2] for frame in frames[:-1]]
            levers = [at_N44[:, :3, 3] - frame[:, :3, 3] for frame in frames[:-1]]
            moves = [np.cross(axis, lever) for axis, lever in zip(axes, levers, strict=True)]
            jacobian_N6n = np.concatenate([np.stack(moves, -1), np.stack(axes, -1)], axis=1)
            error_N61 = np.concatenate([error_N3, turn_N3], axis=1)[..., None]
            across_Nn6 = np.swapaxes(jacobian_N6n, -1, -2)
            damped_N66 = jacobian_N6n @ across_Nn6 + 1e-3 * np.eye(6)
            joints_Nn = joints_Nn + 0.5 * (across_Nn6 @ np.linalg.solve(damped_N66, error_N61))[..., 0]
        return joints_Nn

    def _frames(self, joints_Nn: Array) -> list[Array]:
        """The frame of each joint, and that of the tool, as matrices [N, 4, 4]."""
        frames, now_N44 = [], np.tile(np.eye(4), (len(joints_Nn), 1, 1))
        for (alpha, a, d), angle_N in zip(self.links, joints_Nn.T, strict=True):
            now_N44 = now_N44 @ _link(alpha, a, d, angle_N)
            frames.append(now_N44)
        tool_44 = np.eye(4)
        tool_44[2, 3] = self.tool
        return [*frames, now_N44 @ tool_44]


def _link(alpha: float, a: float, d: float, angle_N: Array) -> Array:
    sin, cos = np.sin(alpha), np.cos(alpha)
    fixed_44 = np.array([[1, 0, 0, a], [0, cos, -sin, 0], [0, sin, cos, 0], [0, 0, 0, 1]])
    turn_N44 = np.tile(np.eye(4), (len(angle_N), 1, 1))
    turn_N44[:, :2, :2] = np.stack(
        [np.stack([np.cos(angle_N), -np.sin(angle_N)], -1), np.stack([np.sin(angle_N), np.cos(angle_N)], -1)],
        axis=1,
    )
    turn_N44[:, 2, 3] = d
    return fixed_44 @ turn_N44


HALF = np.pi / 2
# Franka Emika's documentation of its Control Interface: Denavit–Hartenberg parameters of Panda.
PANDA = Arm(
    (
        (0, 0, 0.333), (-HALF, 0, 0), (HALF, 0, 0.316), (HALF, 0.0825, 0), (-HALF, -0.0825, 0.384),
        (HALF, 0, 0), (HALF, 0.088, 0),
    ),
    0.2104,
    (0, -HALF / 2, 0, -1.5 * HALF, 0, HALF, HALF / 2),
)  # fmt: skip
# Universal Robots' parameters of UR5, each link's turn and length given to the joint after it.
UR5 = Arm(
    (
        (0, 0, 0.089159), (HALF, 0, 0), (0, -0.425, 0), (0, -0.39225, 0.10915), (HALF, 0, 0.09465),
        (-HALF, 0, 0.0823),
    ),
    0.15,
    (0.0, -HALF, HALF, -HALF, -HALF, 0.0),
)  # fmt: skip
