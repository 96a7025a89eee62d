"""The expert at work: what its recordings hold, in robomimic's names.

    actions              (N, C) absolute targets, columns named by `Tabletop.command_names`; metres, radians
    obs/eef_pos          (N, 3) m, table frame          obs/eef_quat  (N, 4) xyzw
    obs/gripper          (N, 1) 0 closed … 1 open       obs/<camera>_image  (N, H, W, 3) uint8

With two arms the three robot datasets exist per arm, `obs/right_eef_pos` and so on, so that a mapping made
for one arm fails on them instead of reading half of the robot. Row t holds what was seen at t and the clean
command given at t; what was executed carries the hand's noise.
Shape suffixes: N frames, C numbers of a command.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robot_foundry.evaluation.world import Outcome, Recording
from robot_foundry.evaluation.worlds.tabletop.commands import encode_targets
from robot_foundry.evaluation.worlds.tabletop.env import CONTROL_HZ, Tabletop
from robot_foundry.evaluation.worlds.tabletop.experts import Expert, HandNoise
from robot_foundry.evaluation.worlds.tabletop.physics import Arm, Target
from robot_foundry.normalization.rotation import matrix_to_quaternion
from robot_foundry.runtime.keyed import generator

CAMERA_NAMES = {"primary": "front", "secondary": "side", "wrist_right": "wrist", "wrist_left": "wrist_left"}
DWELL_STEPS = 2
SLOWEST, FASTEST = 0.024, 0.028


class TabletopDemonstrator:
    """The expert of one task in one variant. `cameras` are roles, None for all that the task has."""

    control_hz = CONTROL_HZ

    def __init__(self, task: str, variant: str, cameras: tuple[str, ...] | None, size: int) -> None:
        self._env = Tabletop(task, variant=variant, cameras=cameras, size=size)
        self.columns = self._env.command_names
        self.embodiment = self._env.variant.embodiment
        self.spec: str | None = "tabletop"
        if len(self._env.task.arms) == 2:
            self.embodiment += "_two_arms"
            self.spec = None

    @property
    def cameras(self) -> Mapping[str, str]:
        return {CAMERA_NAMES[role]: role for role in self._env.cameras}

    def record(self, seed: int) -> Recording:
        arrays = demonstrate(self._env, seed)
        outcome = self._env.task.judge(self._env.physics, self._env.goal, False)
        return Recording(self._env.instruction, outcome is Outcome.SUCCESS, arrays)


def demonstrate(env: Tabletop, seed: int) -> dict[str, np.ndarray]:
    """Let the expert solve the episode of `seed`, watched; the arrays of the layout above.

    The episode ends two steps after the strict goal is met, or after the task's longest time. Afterwards the
    environment's state says whether it succeeded.
    """
    env.begin(seed)
    variant = env.variant
    rng = generator("tabletop", "hand", variant.name, seed)
    expert = Expert(env.task, env.goal, variant.rotates, float(rng.uniform(SLOWEST, FASTEST)))
    noise = HandNoise(rng, rotates=variant.rotates)
    commands: list[tuple[Target, ...]] = []
    measured: list[list[Arm]] = []
    images: dict[str, list[np.ndarray]] = {role: [] for role in env.cameras}
    dwell = 0
    while dwell < DWELL_STEPS and env.time < env.task.max_steps:
        commands.append(expert.command(env.physics))
        measured.append(env.measured())
        for role, frames in images.items():
            frames.append(env.image(role))
        env.advance(noise.apply(commands[-1]))
        dwell += expert.done(env.physics)
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
