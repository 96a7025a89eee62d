"""HDF5 files of a layout that no reader knows: an arm that moves at random, in any convention.

Legend: N frames.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]
FPS = 20
# How a recorder may write a rotation, by SciPy alone.
WRITTEN: Mapping[str, Callable[[Rotation], Array]] = {
    "xyzw": lambda r: r.as_quat(),
    "wxyz": lambda r: np.roll(r.as_quat(), 1, axis=1),
    "columns": lambda r: np.concatenate([r.as_matrix()[:, :, 0], r.as_matrix()[:, :, 1]], axis=1),
    "rows": lambda r: r.as_matrix()[:, :2].reshape(-1, 6),
    "matrix": lambda r: r.as_matrix().reshape(-1, 9),
    "euler_xyz": lambda r: r.as_euler("xyz"),
    "euler_degrees": lambda r: r.as_euler("xyz", degrees=True),
    "euler_XYZ": lambda r: r.as_euler("XYZ"),
    "axis_angle": lambda r: r.as_rotvec(),
}
# The same as a field of a spec says it.
MEANT: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "xyzw": ("quaternion", {"order": "xyzw"}),
    "wxyz": ("quaternion", {"order": "wxyz"}),
    "columns": ("rot6d_columns", {}),
    "rows": ("rot6d_rows", {}),
    "matrix": ("matrix", {}),
    "euler_xyz": ("euler", {"sequence": "xyz"}),
    "euler_degrees": ("euler", {"sequence": "xyz", "degrees": True}),
    "euler_XYZ": ("euler", {"sequence": "XYZ"}),
    "axis_angle": ("axis_angle", {}),
}
DELTA, SAME_FORM, ROTATION_VECTOR, NO_ACTION = "delta", "same form", "rotation vector", "none"


def motion(seed: int, num_frames: int = 90) -> tuple[Array, Rotation, Array, Array]:
    """Position [N, 3] m, rotation, opening [N, 1] and the command of it [N, 1], 1 open."""
    rng = np.random.default_rng(seed)
    # Smooth noise: a random walk of the speed that is pulled back to rest.
    speed = np.zeros((num_frames, 6))
    for n in range(1, num_frames):
        speed[n] = 0.85 * speed[n - 1] + rng.normal(scale=[0.003] * 3 + [0.03] * 3)
    position = np.array([0.45, 0.05, 0.25]) + np.cumsum(speed[:, :3], axis=0).clip(-0.3, 0.3)
    rotation = Rotation.from_rotvec([2.4, 0.5, 0.3]) * Rotation.from_rotvec(np.cumsum(speed[:, 3:], axis=0))
    command = np.where(np.arange(num_frames) > num_frames // 2, 0.0, 1.0)[:, None]
    opening = np.ones((num_frames, 1))
    for n in range(1, num_frames):
        # It stops at 0.4, on what it holds.
        opening[n] = max(0.4, opening[n - 1, 0] + np.clip(command[n - 1, 0] - opening[n - 1, 0], -0.1, 0.1))
    return position, rotation, opening, command


def write_stranger(
    path: Path, form: str = "wxyz", action: str = DELTA, episodes: int = 4, *, with_pictures: bool = True
) -> None:
    """Groups `runs/day/take_<i>` with a pose, a jaw, an action, a clock, pictures and an instruction."""
    with h5py.File(path, "w") as file:
        for number in range(episodes):
            position, rotation, opening, command = motion(number)
            count = len(position)
            after = np.minimum(np.arange(count) + 1, count - 1)
            moved, turned = position[after] - position, (rotation[after] * rotation.inv()).as_rotvec()
            write = WRITTEN[form]
            asked = {
                DELTA: [moved, turned, command],
                SAME_FORM: [position[after], write(rotation[after]), command],
                ROTATION_VECTOR: [position[after], rotation[after].as_rotvec(), command],
            }
            group = file.create_group(f"runs/day/take_{number}")
            group["tool/pose"] = np.concatenate([position, write(rotation)], axis=1)
            group["tool/jaw"] = opening
            group["clock_ns"] = 1_700_000_000_000_000_000 + np.arange(count) * (1_000_000_000 // FPS)
            group["language"] = "push the cube"
            if action in asked:
                group["cmd/motion"] = np.concatenate(asked[action], axis=1)
            if with_pictures:
                shades = (np.arange(count) % 200).astype(np.uint8)
                group["vision/front/rgb"] = np.broadcast_to(shades[:, None, None, None], (count, 16, 24, 3))


def write_raw_robosuite(path: Path, num_frames: int = 120) -> None:
    """A demonstration as robosuite records it: `states` are time, positions and speeds of MuJoCo.

    A Panda of seven joints and two fingers, which hold a cube aside, and the cube with its free joint.
    """
    rng, step_s = np.random.default_rng(0), 1 / FPS
    speed = np.zeros((num_frames, 7))
    for n in range(1, num_frames):
        speed[n] = 0.9 * speed[n - 1] + rng.normal(scale=0.1, size=7)
    joints = np.array([0.0, 0.2, 0, -2.6, 0, 2.9, 0.8]) + np.cumsum(speed, axis=0) * step_s
    joints = np.roll(joints, 1, axis=0)
    joints[0] = joints[1]
    closes = np.arange(num_frames) > 60
    fingers = np.where(closes[:, None], [0.03, -0.005], [0.04, -0.04])
    turned = Rotation.from_rotvec(np.linspace([0, 0, 0.1], [0, 0.2, 0.4], num_frames)).as_quat()
    cube = np.concatenate([np.linspace([0.01, -0.02, 0.82], [0.05, 0.03, 0.9], num_frames), turned], axis=1)
    rest = np.zeros((num_frames, 2 + 6))
    states = np.concatenate(
        [np.arange(num_frames)[:, None] * step_s, joints, fingers, cube, speed, rest], axis=1
    )
    actions = np.concatenate([rng.normal(size=(num_frames, 6)), np.where(closes, 1.0, -1.0)[:, None]], axis=1)
    controller = {"controller_configs": {"type": "OSC_POSE"}, "robots": "Panda"}
    with h5py.File(path, "w") as file:
        demo = file.create_group("data/demo_1")
        demo["states"], demo["actions"] = states, actions
        file["data"].attrs["env"], file["data"].attrs["env_info"] = "Lift", json.dumps(controller)
