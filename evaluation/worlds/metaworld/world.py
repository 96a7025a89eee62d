"""Meta-World behind the contract of `evaluation.world`.

Shape suffixes: T periods, A dims of the action space.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from robot_foundry.evaluation.world import Observation, Outcome, RandomMotion, Start, WorldInfo
from robot_foundry.evaluation.worlds.metaworld.packages import check_installed, versions
from robot_foundry.evaluation.worlds.metaworld.sawyer import CONTROL_HZ, STEP, Sawyer
from robot_foundry.evaluation.worlds.metaworld.tasks import INSTRUCTIONS, check_task
from robot_foundry.evaluation.worlds.metaworld.views import Look, get_look
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import UsageError, nearest

EMBODIMENT = "sawyer"
SPACE = ("right.ee_position", "right.gripper_opening")
MAX_STEPS = 500
# Over the table, as far as the experts reach.
RANDOM_LOW_3, RANDOM_HIGH_3 = (-0.3, 0.5, 0.05), (0.3, 0.9, 0.3)
SMALLEST, LARGEST = 16, 1024


def check_cameras(look: Look, roles: tuple[str, ...], size: int) -> None:
    """UsageError where there is no such camera, or no picture of that size."""
    for role in roles:
        if role not in look.views:
            raise UsageError(
                f"Meta-World has no camera '{role}' in this variant{nearest(role, look.views)}",
                hint=f"cameras: {', '.join(look.views) or 'none'}",
            )
    if not SMALLEST <= size <= LARGEST:
        raise UsageError(f"image size must be {SMALLEST} to {LARGEST} pixels, got {size}")


@dataclass(frozen=True)
class MetaWorlds:
    """Every task of Meta-World; variants are those of `views`."""

    name: str = "metaworld"

    @property
    def versions(self) -> Mapping[str, str]:
        """See `Versioned`."""
        return versions()

    def describe(self, task: str, variant: str) -> WorldInfo:
        check_task(task)
        look = get_look(variant)
        check_installed()
        return WorldInfo(
            name=self.name,
            embodiment=EMBODIMENT,
            state_space=ActionSpace(SPACE),
            action_space=ActionSpace(SPACE),
            cameras=tuple(look.views),
            control_hz=CONTROL_HZ,
            max_steps=MAX_STEPS,
            random=RandomMotion((*RANDOM_LOW_3, 0.0), (*RANDOM_HIGH_3, 1.0), STEP),
        )

    def build(self, task: str, variant: str, cameras: tuple[str, ...], size: int) -> MetaWorld:
        info, look = self.describe(task, variant), get_look(variant)
        check_cameras(look, cameras, size)
        return MetaWorld(info, task, look, cameras, size)


class MetaWorld:
    """One task, which a policy tells canonical targets."""

    def __init__(self, info: WorldInfo, task: str, look: Look, cameras: tuple[str, ...], size: int) -> None:
        self.info = info
        self._look, self._cameras, self._size = look, cameras, size
        self._robot = Sawyer(task, look.shadows)
        self._pending: int | None = None
        self._targets: deque[np.ndarray] = deque()

    def reset(self, seed: int) -> Start:
        self._pending = seed
        self._targets.clear()
        instruction = INSTRUCTIONS[self._robot.task]
        return Start(instruction, instruction)

    @property
    def _sawyer(self) -> Sawyer:
        # An episode that is begun for its words alone costs nothing.
        if self._pending is not None:
            self._robot.begin(self._pending)
            self._pending = None
        return self._robot

    def observe(self) -> Observation:
        images = {role: self._image(role, self._size) for role in self._cameras}
        return Observation(images, np.array([*self._sawyer.hand_3, self._sawyer.opening]))

    def aim(self, target_TA: np.ndarray) -> None:
        self._targets = deque(target_TA.astype(np.float64))

    def step(self) -> Outcome:
        return Outcome.SUCCESS if self._sawyer.advance(self._targets.popleft()) else Outcome.RUNNING

    def picture(self, size: int) -> np.ndarray | None:
        """What the first camera of the variant sees; None where it has none."""
        first = next(iter(self._look.views), None)
        return None if first is None else self._image(first, size)

    def close(self) -> None:
        """The canvas is shared by all worlds of the process, and stays."""

    def _image(self, role: str, size: int) -> np.ndarray:
        return self._sawyer.image(self._look.views[role], size)
