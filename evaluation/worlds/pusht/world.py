"""gym-pusht behind the contract of `evaluation.world`: a planar robot of which the tool's place is all.

A pixel of the package is a millimetre: its table of 512 pixels is 0.512 m wide. The frame has its origin in
the upper left corner of the picture, x to the right, y down; z is 0, the plane in which the disc moves.
Shape suffixes: T periods, A dims of the action space.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from robot_foundry.evaluation.world import Observation, Outcome, RandomMotion, Start, WorldInfo
from robot_foundry.evaluation.worlds.pusht.simulation import CONTROL_HZ, SIDE, Simulation, versions
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import UsageError, nearest

TASK, VARIANT, CAMERA = "push-t", "sim", "primary"
INSTRUCTION = "push the T onto its outline"
EMBODIMENT = "pusht_disc"
MAX_STEPS = 300
METRES = 0.001
SIZES = (16, SIDE)
RANDOM_SPEED = 0.015
SPACE = ActionSpace(["right.ee_position"])


@dataclass(frozen=True)
class PushtWorlds:
    """The one task of gym-pusht, as it comes."""

    name: str = "pusht"

    @property
    def versions(self) -> Mapping[str, str]:
        """See `Versioned`."""
        return versions()

    def describe(self, task: str, variant: str) -> WorldInfo:
        check(task, variant)
        high = SIDE * METRES
        return WorldInfo(
            name=self.name,
            embodiment=EMBODIMENT,
            state_space=SPACE,
            action_space=SPACE,
            cameras=(CAMERA,),
            control_hz=CONTROL_HZ,
            max_steps=MAX_STEPS,
            random=RandomMotion((0.0, 0.0, 0.0), (high, high, 0.0), RANDOM_SPEED),
        )

    def build(self, task: str, variant: str, cameras: tuple[str, ...], size: int) -> PushtWorld:
        check(task, variant, cameras, size)
        return PushtWorld(self.describe(task, variant), cameras, size)


class PushtWorld:
    """One table. Of the state the robot knows where its disc is, never where the block is."""

    def __init__(self, info: WorldInfo, cameras: tuple[str, ...], size: int) -> None:
        self.info = info
        self._cameras, self._size = cameras, size
        self._simulation = Simulation()
        self._targets: deque[np.ndarray] = deque()

    @property
    def reward(self) -> float:
        """How much of the outline the T covers after the last step, in parts of what is a success: 0 … 1."""
        return self._simulation.reward

    def reset(self, seed: int) -> Start:
        self._simulation.reset(seed)
        return Start(INSTRUCTION, INSTRUCTION)

    def observe(self) -> Observation:
        images = {role: self.picture(self._size) for role in self._cameras}
        return Observation(images, np.array([*self._simulation.disc_2 * METRES, 0.0]))

    def aim(self, target_TA: np.ndarray) -> None:
        """The height is left out, and the table's edge is where targets end."""
        self._targets = deque(target_TA[:, :2] / METRES)

    def step(self) -> Outcome:
        return Outcome.SUCCESS if self._simulation.drive(self._targets.popleft()) else Outcome.RUNNING

    def picture(self, size: int) -> np.ndarray:
        return self._simulation.picture(size)

    def close(self) -> None:
        self._simulation.close()


def check(task: str, variant: str, cameras: tuple[str, ...] = (), size: int = 96) -> None:
    """UsageError with the nearest name for what is not there."""
    for label, name, there in (("task", task, TASK), ("variant", variant, VARIANT)):
        if name != there:
            raise UsageError(
                f"the world 'pusht' has no {label} '{name}'{nearest(name, [there])}",
                hint=f"{label}s: {there}",
            )
    for role in cameras:
        if role != CAMERA:
            raise UsageError(
                f"the world 'pusht' has no camera '{role}'{nearest(role, [CAMERA])}",
                hint=f"cameras: {CAMERA}",
            )
    if not SIZES[0] <= size <= SIZES[1]:
        raise UsageError(f"image size must be {SIZES[0]} to {SIZES[1]} pixels, got {size}")
