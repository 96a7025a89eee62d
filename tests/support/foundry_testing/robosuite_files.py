"""robosuite files of any robot and controller, and what their commands ask for by SciPy; tests share them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from foundry_testing.ingested import Ingested
from robot_foundry.ingest.engine import run
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.errors import FoundryError

FRAMES = 12
LIMITS = [0.05, 0.05, 0.05, 0.5, 0.5, 0.5]
OSC: dict[str, Any] = {"type": "OSC_POSE", "input_max": 1, "input_min": -1, "output_max": LIMITS}
OSC |= {"output_min": [-limit for limit in LIMITS], "control_delta": True}
PART: dict[str, Any] = {**OSC, "input_type": "delta", "input_ref_frame": "base", "gripper": {"type": "GRIP"}}
del PART["control_delta"]
Array = NDArray[np.float64]
Arm = dict[str, Array]  # what a file holds of a robot, by name


def make(
    path: Path,
    controller: Mapping[str, Any],
    *,
    robots: Sequence[str] = ("Panda",),
    fingers: int = 2,
    joints: int = 7,
    actions: Array | None = None,
    env: str = "Lift",
    **kwargs: Any,
) -> tuple[list[Arm], Array]:
    """Returns the arrays of each robot of the one demonstration, and its actions."""
    random = np.random.default_rng(5)
    arms = []
    for _ in robots:
        steps_N3 = random.uniform(-0.01, 0.01, (FRAMES, 3))
        turns = Rotation.from_rotvec(random.uniform(-0.05, 0.05, (FRAMES, 3)))
        rotation = Rotation.from_euler("xyz", [3.0, 0.1, 0.2])
        finger_N = random.uniform(0, 0.02, FRAMES)
        arms.append(
            {
                "eef_pos": np.array([0.1, 0.2, 1.0]) + np.cumsum(steps_N3, 0),
                "eef_quat": (turns * rotation).as_quat(),
                "gripper_qpos": np.stack([finger_N * (-1) ** n for n in range(fingers)], 1),
                "joint_pos": np.cumsum(random.uniform(-0.02, 0.02, (FRAMES, joints)), 0),
                "joint_vel": random.uniform(-0.1, 0.1, (FRAMES, joints)),
            }
        )
    action_Nd = random.uniform(-1, 1, (FRAMES, 7 * len(robots))) if actions is None else actions
    settings = {"robots": list(robots), "control_freq": 20, "controller_configs": controller, **kwargs}
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": env, "env_kwargs": settings})
        demo = data.create_group("demo_0")
        demo["actions"], demo["rewards"] = action_Nd, np.eye(FRAMES)[-1]
        for n, arrays in enumerate(arms):
            for name, values in arrays.items():
                demo[f"obs/robot{n}_{name}"] = values
    return arms, action_Nd


def refusal(path: Path, spec: str = "robomimic", overrides: Sequence[str] = ()) -> str:
    with pytest.raises(FoundryError) as caught:
        run(load_spec(spec, overrides), path, store=path.parent / "refused", name="x")
    return caught.value.message


def printed(message: str) -> list[str]:
    """The values of each --set in a message, as a shell would read them."""
    words = shlex.split(message[message.index("--set") :].replace("goes on", "--goes"))
    return [words[n + 1] for n, word in enumerate(words) if word == "--set"]


def taken(path: Path, overrides: Sequence[str] = (), spec: str = "robomimic") -> Ingested:
    return Ingested(spec, path, path.parent / "store", overrides)


def column(made: Ingested, stream: str, name: str) -> Array:
    """The dims of one quantity."""
    at = [n for n, dim in enumerate(made.dims(stream)) if dim.startswith(f"{name}.") or dim == name]
    assert at, f"{stream} has no {name}"
    values = made.column("demo_0", "state" if stream == "state" else f"action.{stream}")
    return values[:, at]


def pose_after(arm: Arm, command_N6: Array, *, limits: Sequence[float] = LIMITS) -> tuple[Array, Array]:
    """Position and first two columns of the rotation that the command asks for, by SciPy."""
    clipped_N6 = np.clip(command_N6, -1, 1) * np.array(limits)
    turned = Rotation.from_rotvec(clipped_N6[:, 3:]) * Rotation.from_quat(arm["eef_quat"])
    return arm["eef_pos"] + clipped_N6[:, :3], turned.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)


def assert_pose(made: Ingested, part: str, arm: Arm, command_N6: Array) -> None:
    position_N3, rot6d_N6 = pose_after(arm, command_N6)
    np.testing.assert_allclose(column(made, "command", f"{part}.ee_position"), position_N3, atol=1e-6)
    np.testing.assert_allclose(column(made, "command", f"{part}.ee_rot6d"), rot6d_N6, atol=1e-5)
