"""The tabletop behind the contract of `evaluation.world`: canonical targets in, roles and named dims out.

Shape suffixes: T periods, A dims of the action space, C numbers of a command.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from robot_foundry.evaluation.world import Observation, Outcome, RandomMotion, Start, WorldInfo
from robot_foundry.evaluation.worlds.tabletop.commands import (
    action_space,
    canonical_to_commands,
    decode_targets,
    state_space,
)
from robot_foundry.evaluation.worlds.tabletop.env import CONTROL_HZ, Tabletop, roles_for
from robot_foundry.evaluation.worlds.tabletop.goals import get_task
from robot_foundry.evaluation.worlds.tabletop.physics import HOME_ROTATION_33, Target
from robot_foundry.evaluation.worlds.tabletop.variants import get_variant
from robot_foundry.normalization.rotation import matrix_to_rot6d

RANDOM_LOW_3, RANDOM_HIGH_3 = (-0.25, -0.25, 0.01), (0.25, 0.25, 0.15)
RANDOM_SPEED = 0.028


@dataclass(frozen=True)
class TabletopWorlds:
    """Every task of the tabletop, as `sim` and as `real`."""

    name: str = "tabletop"

    def describe(self, task: str, variant: str) -> WorldInfo:
        arms, look = get_task(task).arms, get_variant(variant)
        return WorldInfo(
            name=self.name,
            embodiment=look.embodiment,
            state_space=state_space(arms),
            action_space=action_space(arms, look.rotates),
            cameras=roles_for(arms),
            control_hz=CONTROL_HZ,
            max_steps=get_task(task).max_steps,
            random=_random_motion(len(arms), look.rotates),
        )

    def build(self, task: str, variant: str, cameras: tuple[str, ...], size: int) -> TabletopWorld:
        env = Tabletop(task, variant=variant, cameras=cameras, size=size)
        return TabletopWorld(self.describe(task, variant), env)


class TabletopWorld:
    """One table, which a policy tells canonical targets as it would tell the arm's controller."""

    def __init__(self, info: WorldInfo, env: Tabletop) -> None:
        self.info = info
        self._env = env
        self._targets: deque[tuple[Target, ...]] = deque()

    def reset(self, seed: int) -> Start:
        self._env.begin(seed)
        # In one scene all colours differ, so the colour of the target is what an instruction is about.
        target = self._env.physics.scene.solids[self._env.goal.target]
        return Start(self._env.instruction, target.colour)

    def observe(self) -> Observation:
        images = {role: self._env.image(role) for role in self._env.cameras}
        return Observation(images, self._env.state())

    def aim(self, target_TA: np.ndarray) -> None:
        arms, rotates = self._env.task.arms, self._env.variant.rotates
        command_TC = canonical_to_commands(target_TA, self.info.action_space, arms, rotates)
        self._targets = deque(decode_targets(command_TC, self._env.physics.arms, rotates))

    def step(self) -> Outcome:
        return self._env.advance(self._targets.popleft())

    def picture(self, size: int) -> np.ndarray:
        return self._env.picture(size)

    def close(self) -> None:
        self._env.close()


def _random_motion(arms: int, rotates: bool) -> RandomMotion:
    """Straight to points over the table with a random opening, looking down."""
    down = tuple(matrix_to_rot6d(HOME_ROTATION_33).tolist()) if rotates else ()
    return RandomMotion((*RANDOM_LOW_3, *down, 0.0) * arms, (*RANDOM_HIGH_3, *down, 1.0) * arms, RANDOM_SPEED)
