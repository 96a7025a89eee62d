"""Demonstrations of the scripted expert, written as robomimic-style HDF5.

Layout: `/data` with attributes `total` (frames) and `env_args` (JSON); `/data/demo_<i>` with attributes
num_samples, instruction, success, embodiment and seed, and the datasets

    actions              (N, C) absolute targets, columns named by the attribute `columns`; metres, radians
    obs/eef_pos          (N, 3) m, table frame          obs/eef_quat  (N, 4) xyzw
    obs/gripper          (N, 1) 0 closed … 1 open       obs/<camera>_image  (N, H, W, 3) uint8

With two arms the three robot datasets exist per arm, `obs/right_eef_pos` and so on, so that a mapping made
for one arm fails on them instead of reading half of the robot. Row t holds what was seen at t and the clean
command given at t; what was executed carries the hand's noise. Equal arguments give equal arrays whatever
the number of workers. Shape suffixes: N frames, C numbers of a command.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np

from robot_foundry import __version__
from robot_foundry.evaluation.seeds import scene_seed
from robot_foundry.evaluation.worlds.tabletop.commands import encode_targets
from robot_foundry.evaluation.worlds.tabletop.env import CONTROL_HZ, Tabletop
from robot_foundry.evaluation.worlds.tabletop.experts import Expert, HandNoise
from robot_foundry.evaluation.worlds.tabletop.goals import Outcome
from robot_foundry.evaluation.worlds.tabletop.physics import Arm, Target
from robot_foundry.normalization.rotation import matrix_to_quaternion
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.keyed import generator
from robot_foundry.runtime.parallel import unordered_map
from robot_foundry.runtime.progress import Progress

CAMERA_NAMES = {"primary": "front", "secondary": "side", "wrist_right": "wrist", "wrist_left": "wrist_left"}
DWELL_STEPS = 2
EPISODES_PER_ITEM = 16
SLOWEST, FASTEST = 0.024, 0.028


@dataclass(frozen=True)
class Request:
    """What to record. `cameras` are roles, None for all that the task has; `size` is the image side."""

    task: str
    variant: str
    episodes: int
    seed: int
    cameras: tuple[str, ...] | None = None
    size: int = 64

    def world(self) -> Tabletop:
        return Tabletop(self.task, variant=self.variant, cameras=self.cameras, size=self.size)


@dataclass(frozen=True)
class Demonstration:
    """One recorded episode: what goes into its HDF5 group."""

    index: int
    seed: int
    instruction: str
    success: bool
    arrays: dict[str, np.ndarray]

    @property
    def num_frames(self) -> int:
        return len(self.arrays["actions"])


@dataclass(frozen=True)
class Collection:
    """What was written: counts that add up and where."""

    path: str
    episodes: int
    successes: int
    frames: int
    bytes: int


def demonstrate(world: Tabletop, seed: int) -> dict[str, np.ndarray]:
    """Let the expert solve the episode of `seed`, watched; the arrays of the layout above.

    The episode ends two steps after the strict goal is met, or after the task's longest time. Afterwards the
    world's state says whether it succeeded.
    """
    world.reset(seed=seed)
    variant = world.variant
    rng = generator("tabletop", "hand", variant.name, seed)
    expert = Expert(world.task, world.goal, variant.rotates, float(rng.uniform(SLOWEST, FASTEST)))
    noise = HandNoise(rng, rotates=variant.rotates)
    commands: list[tuple[Target, ...]] = []
    measured: list[list[Arm]] = []
    images: dict[str, list[np.ndarray]] = {role: [] for role in world.cameras}
    dwell = 0
    while dwell < DWELL_STEPS and world.time < world.task.max_steps:
        commands.append(expert.command(world.physics))
        measured.append(world.measured())
        for role, frames in images.items():
            frames.append(world.image(role))
        world.advance(noise.apply(commands[-1]))
        dwell += expert.done(world.physics)
    return {
        "actions": encode_targets(commands, variant.rotates),
        **_robot(measured),
        **{f"obs/{CAMERA_NAMES[role]}_image": np.stack(frames) for role, frames in images.items()},
    }


def _robot(measured: list[list[Arm]]) -> dict[str, np.ndarray]:
    arrays = {}
    for index, first in enumerate(measured[0]):
        arm_N = [arms[index] for arms in measured]
        prefix = "obs/" if len(measured[0]) == 1 else f"obs/{first.name}_"
        arrays[f"{prefix}eef_pos"] = np.stack([arm.position_3 for arm in arm_N])
        rotation_N33 = np.stack([arm.rotation_33 for arm in arm_N])
        arrays[f"{prefix}eef_quat"] = matrix_to_quaternion(rotation_N33, order="xyzw")
        arrays[f"{prefix}gripper"] = np.array([[arm.opening] for arm in arm_N])
    return arrays


def _record(item: tuple[Request, range]) -> list[Demonstration]:
    request, indices = item
    world = request.world()
    demonstrations = []
    for index in indices:
        seed = scene_seed("collect", request.seed, index)
        arrays = demonstrate(world, seed)
        success = world.task.judge(world.physics, world.goal, False) is Outcome.SUCCESS
        demonstrations.append(Demonstration(index, seed, world.instruction, success, arrays))
    return demonstrations


def collect(request: Request, out: Path, *, workers: int = 0, quiet: bool = False) -> Collection:
    """Record `request.episodes` demonstrations into the file `out`, which appears whole or not at all."""
    if request.episodes < 1:
        raise FoundryError(f"--episodes must be at least 1, got {request.episodes}")
    world = request.world()
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    successes = frames = 0
    try:
        with (
            h5py.File(partial, "w") as file,
            Progress(request.episodes, "episodes", f"collect {request.task}", quiet=quiet) as progress,
        ):
            data = file.create_group("data")
            for demonstration in _in_order(request, workers):
                _write(data, demonstration, world)
                successes += demonstration.success
                frames += demonstration.num_frames
                progress.advance(1, errors=not demonstration.success)
            data.attrs["total"] = frames
            data.attrs["env_args"] = json.dumps(_env_args(request, world), sort_keys=True)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return Collection(str(out), request.episodes, successes, frames, out.stat().st_size)


def _in_order(request: Request, workers: int) -> Iterator[Demonstration]:
    starts = range(0, request.episodes, EPISODES_PER_ITEM)
    items = ((request, range(a, min(a + EPISODES_PER_ITEM, request.episodes))) for a in starts)
    waiting: dict[int, list[Demonstration]] = {}
    expected = 0
    for index, group in unordered_map(_record, items, workers=workers):
        waiting[index] = group
        while expected in waiting:
            yield from waiting.pop(expected)
            expected += 1


def _env_args(request: Request, world: Tabletop) -> dict[str, object]:
    return {
        "env_name": f"tabletop_{request.task}",
        "env_version": __version__,
        "env_kwargs": {
            "control_freq": CONTROL_HZ,
            "cameras": {CAMERA_NAMES[role]: role for role in world.cameras},
            **{name: value for name, value in asdict(request).items() if name != "cameras"},
        },
    }


def _write(data: h5py.Group, demonstration: Demonstration, world: Tabletop) -> None:
    group = data.create_group(f"demo_{demonstration.index}")
    group.attrs["num_samples"] = demonstration.num_frames
    group.attrs["instruction"] = demonstration.instruction
    group.attrs["success"] = demonstration.success
    group.attrs["embodiment"] = world.variant.embodiment + ("_two_arms" if len(world.task.arms) == 2 else "")
    group.attrs["seed"] = demonstration.seed
    for name, array in demonstration.arrays.items():
        if array.ndim == 4:
            # One frame a chunk: readers go frame by frame, and rendered pictures deflate about tenfold.
            group.create_dataset(
                name, data=array, chunks=(1, *array.shape[1:]), compression="gzip", compression_opts=1
            )
        else:
            group.create_dataset(name, data=array)
    group["actions"].attrs["columns"] = list(world.command_names)
