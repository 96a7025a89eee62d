"""Make a small robomimic file without a simulator: an arm reaches for a red cube, seen by two cameras.

    python examples/make_robomimic.py reach.hdf5 --episodes 20
    foundry-data ingest robomimic reach.hdf5 --as reach

The layout, names and units are robosuite's: OSC_POSE commands in [-1, 1] (0.05 m, 0.5 rad), poses in the
world frame, quaternions xyzw, two signed finger positions, gripper command -1 open, +1 close. There are no
simulator `states`. Every image is drawn from the pose in its row, so the cube's place can be learnt from it.

Legend: P pixels. Frames: world, and tool, whose z is the approach.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from robot_foundry.normalization.rotation import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quaternion,
)
from robot_foundry.runtime.keyed import generator

Array = NDArray[np.float64]
CONTROL_HZ = 20
TABLE_Z, CUBE_HALF = 0.8, 0.02
OUTPUT_MAX = np.array([0.05, 0.05, 0.05, 0.5, 0.5, 0.5])
# The arm makes this share of a command within one step; robosuite's does far less.
ACHIEVED = 0.2
OPEN_M, HELD_M, FINGER_STEP_M = 0.08, 0.04, 0.01
DOWNWARD = np.diag([1.0, -1.0, -1.0])
CAMERAS = ("agentview", "robot0_eye_in_hand")


@dataclass
class Scene:
    """The arm and the cube at one instant; metres and rotation matrices in the world frame."""

    position_3: Array
    rotation_33: Array
    width: float
    cube_3: Array
    cube_33: Array


def make(
    path: str | Path,
    *,
    seed: int = 0,
    episodes: int = 10,
    frames: int = 60,
    size: int = 84,
    gripper: bool = True,
    cameras: tuple[str, ...] = CAMERAS,
) -> Path:
    """Write `episodes` demonstrations of `frames` steps; images are `size` x `size`.

    Equal arguments give equal data. Without `gripper`, actions have six columns and obs no finger positions.
    """
    path = Path(path)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for episode in range(episodes):
            arrays = demonstration(seed, episode, frames, size, gripper, cameras)
            demo = data.create_group(f"demo_{episode}")
            demo.attrs["num_samples"] = frames
            demo.attrs["instruction"] = "reach for the red cube"
            for name, array in arrays.items():
                chunks = (1, *array.shape[1:]) if array.ndim == 4 else None
                demo.create_dataset(name, data=array, chunks=chunks, compression="gzip" if chunks else None)
        data.attrs["total"] = episodes * frames
        data.attrs["env_args"] = json.dumps(environment(cameras, size))
    return path


def environment(cameras: tuple[str, ...], size: int) -> dict[str, Any]:
    """env_args as robomimic writes them."""
    controller = {
        "type": "OSC_POSE",
        "input_max": 1,
        "input_min": -1,
        "output_max": OUTPUT_MAX.tolist(),
        "output_min": (-OUTPUT_MAX).tolist(),
        "control_delta": True,
    }
    settings = {
        "robots": "Panda",
        "controller_configs": controller,
        "control_freq": CONTROL_HZ,
        "camera_names": list(cameras),
        "camera_heights": size,
        "camera_widths": size,
    }
    return {"env_name": "Reach", "type": 1, "env_kwargs": settings}


def demonstration(
    seed: int, episode: int, frames: int, size: int, gripper: bool, cameras: tuple[str, ...]
) -> dict[str, NDArray[Any]]:
    """The arrays of one demonstration, by their path inside it."""
    rng = generator("make_robomimic", seed, episode)
    scene = _start(rng)
    rows: dict[str, list[Any]] = {}
    for _ in range(frames):
        command_7 = _command(scene, rng)
        held = scene.width <= HELD_M + 1e-9
        observed = {
            "actions": command_7 if gripper else command_7[:6],
            "rewards": float(held),
            "dones": int(held),
            "obs/robot0_eef_pos": scene.position_3,
            "obs/robot0_eef_quat": matrix_to_quaternion(scene.rotation_33, order="xyzw"),
            "obs/object": np.concatenate(
                [
                    scene.cube_3,
                    matrix_to_quaternion(scene.cube_33, order="xyzw"),
                    scene.cube_3 - scene.position_3,
                ]
            ),
        }
        if gripper:
            observed["obs/robot0_gripper_qpos"] = np.array([scene.width / 2, -scene.width / 2])
        for camera in cameras:
            observed[f"obs/{camera}_image"] = render(scene, camera, size)
        for name, value in observed.items():
            rows.setdefault(name, []).append(value)
        scene = _step(scene, command_7)
    return {name: np.stack(values) for name, values in rows.items()}


def _start(rng: np.random.Generator) -> Scene:
    position_3 = np.array([-0.1, 0.0, 1.0]) + rng.uniform(-1, 1, 3) * [0.04, 0.06, 0.04]
    cube_3 = np.array([*rng.uniform([-0.02, -0.15], [0.14, 0.15]), TABLE_Z + CUBE_HALF])
    return Scene(
        position_3,
        _about_z(rng.uniform(-0.4, 0.4)) @ DOWNWARD,
        OPEN_M,
        cube_3,
        _about_z(rng.uniform(-0.7, 0.7)),
    )


def _about_z(angle: float) -> Array:
    return axis_angle_to_matrix(np.array([0.0, 0.0, angle]))


def _command(scene: Scene, rng: np.random.Generator) -> Array:
    """The operator: towards a point above the cube that sinks as the arm comes over it; (7,) in [-1, 1]."""
    beside = np.linalg.norm(scene.cube_3[:2] - scene.position_3[:2])
    goal_3 = scene.cube_3 + [0.0, 0.0, min(1.5 * beside, 0.12)]
    turn_3 = matrix_to_axis_angle(scene.cube_33 @ DOWNWARD @ scene.rotation_33.T)
    wanted_6 = np.concatenate([goal_3 - scene.position_3, turn_3]) / OUTPUT_MAX
    wanted_6 = np.clip(wanted_6 + rng.normal(0.0, 0.03, 6), -1.0, 1.0)
    there = np.linalg.norm(scene.cube_3 - scene.position_3) < 0.01
    return np.append(wanted_6, 1.0 if there or scene.width < OPEN_M else -1.0)


def _step(scene: Scene, command_7: Array) -> Scene:
    moved_6 = ACHIEVED * OUTPUT_MAX * command_7[:6]
    closing = command_7[6] > 0
    width = max(scene.width - FINGER_STEP_M, HELD_M) if closing else min(scene.width + FINGER_STEP_M, OPEN_M)
    return Scene(
        scene.position_3 + moved_6[:3],
        axis_angle_to_matrix(moved_6[3:]) @ scene.rotation_33,
        width,
        scene.cube_3,
        scene.cube_33,
    )


# --- drawing: one ray a pixel, against a table and boxes ----------------------------------------


def render(scene: Scene, camera: str, size: int) -> NDArray[np.uint8]:
    """The picture uint8 [size, size, 3] of `agentview` (fixed) or `robot0_eye_in_hand` (on the tool)."""
    if camera == "agentview":
        eye_3, forward_3, up_3 = np.array([[0.62, 0.0, 1.35], [-0.56, 0.0, -0.5], [0.0, 0.0, 1.0]])
        half_fov = 0.40
    else:
        eye_3 = scene.position_3 + scene.rotation_33 @ [0.09, 0.0, -0.13]
        forward_3, up_3, half_fov = scene.rotation_33 @ [-0.25, 0.0, 1.0], scene.rotation_33[:, 0], 0.65
    rays_3P = _rays(forward_3, up_3, half_fov, size)
    depth_P, color_P3 = _table(eye_3, rays_3P)
    for box in _boxes(scene):
        _draw(box, eye_3, rays_3P, depth_P, color_P3)
    return np.clip(color_P3, 0, 255).astype(np.uint8).reshape(size, size, 3)


def _rays(forward_3: Array, up_3: Array, half_fov: float, size: int) -> Array:
    """Directions through the pixels, row by row from the top left."""
    right_3 = np.cross(forward_3, up_3)
    right_3 /= np.linalg.norm(right_3)
    forward_3 = forward_3 / np.linalg.norm(forward_3)
    along = ((np.arange(size) + 0.5) / size * 2 - 1) * np.tan(half_fov)
    across_P, down_P = np.tile(along, size), np.repeat(along, size)
    down_3 = np.cross(forward_3, right_3)
    return forward_3[:, None] + right_3[:, None] * across_P + down_3[:, None] * down_P


def _table(eye_3: Array, rays_3P: Array) -> tuple[Array, Array]:
    """Depth and color of the table, with a faint grid of 10 cm, and of the wall where a ray misses it."""
    down_P = np.minimum(rays_3P[2], -1e-9)
    depth_P = (TABLE_Z - eye_3[2]) / down_P
    at_2P = eye_3[:2, None] + depth_P * rays_3P[:2]
    hit_P = (np.abs(at_2P) < 0.45).all(axis=0)
    line_P = (np.abs(at_2P * 10 - np.round(at_2P * 10)) < 0.04).any(axis=0)
    shade_P = np.where(hit_P, np.where(line_P, 190.0, 225.0), 110.0)
    return np.where(hit_P, depth_P, np.inf), np.repeat(shade_P[:, None], 3, axis=1)


@dataclass(frozen=True)
class Box:
    """Center and half sizes in metres; `color_3` is RGB from 0 to 255."""

    center_3: Array
    rotation_33: Array
    half_3: Array
    color_3: Array


def _boxes(scene: Scene) -> list[Box]:
    """The cube, two fingers, the palm and the forearm."""

    def on_tool(y: float, z: float, half: list[float], color: list[float]) -> Box:
        center_3 = scene.position_3 + scene.rotation_33 @ [0.0, y, z]
        return Box(center_3, scene.rotation_33, np.array(half), np.array(color))

    apart = scene.width / 2 + 0.006
    return [
        Box(scene.cube_3, scene.cube_33, np.full(3, CUBE_HALF), np.array([205.0, 35.0, 40.0])),
        on_tool(apart, -0.015, [0.01, 0.006, 0.03], [60.0, 62.0, 68.0]),
        on_tool(-apart, -0.015, [0.01, 0.006, 0.03], [60.0, 62.0, 68.0]),
        on_tool(0.0, -0.065, [0.025, 0.065, 0.02], [90.0, 94.0, 102.0]),
        on_tool(0.0, -0.185, [0.035, 0.035, 0.1], [150.0, 154.0, 160.0]),
    ]


def _draw(box: Box, eye_3: Array, rays_3P: Array, depth_P: Array, color_P3: Array) -> None:
    """Draw the box where it is nearer than `depth_P`, in place (the slab method); faces differ in shade."""
    origin_31 = (box.rotation_33.T @ (eye_3 - box.center_3))[:, None]
    rays_3P = box.rotation_33.T @ rays_3P
    half_31 = box.half_3[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        one_3P, other_3P = (-half_31 - origin_31) / rays_3P, (half_31 - origin_31) / rays_3P
    near_3P = np.minimum(one_3P, other_3P)
    enter_P, leave_P = near_3P.max(axis=0), np.maximum(one_3P, other_3P).min(axis=0)
    seen = np.flatnonzero((enter_P > 0) & (enter_P <= leave_P) & (enter_P < depth_P))
    shade = np.array([0.72, 0.86, 1.0])[near_3P[:, seen].argmax(axis=0)]
    depth_P[seen] = enter_P[seen]
    color_P3[seen] = box.color_3 * shade[:, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--size", type=int, default=84)
    given = parser.parse_args()
    print(make(given.path, seed=given.seed, episodes=given.episodes, frames=given.frames, size=given.size))


if __name__ == "__main__":
    main()
