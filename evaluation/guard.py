"""Both sides of the contract of a world, proven at every call: its order, and the form of what crosses.

So a world need not check what it is told, and one that shows the wrong thing is named instead of its policy
being judged by it. Shape suffixes as in `world`.
"""

from __future__ import annotations

import math

import numpy as np

from robot_foundry.evaluation.world import (
    Observation,
    Outcome,
    Rewarding,
    Start,
    World,
    WorldFactory,
    WorldInfo,
)
from robot_foundry.runtime.errors import FoundryError, nearest

SEEDS = 2**63


def open_world(
    factory: WorldFactory, task: str, variant: str, *, cameras: tuple[str, ...] = (), size: int = 64
) -> World:
    """A world whose every call is proven."""
    return GuardedWorld(factory.build(task, variant, cameras, size), cameras)


class GuardedWorld:
    """A world that refuses calls out of order and arrays of a wrong form, in a sentence that names it."""

    def __init__(self, world: World, cameras: tuple[str, ...]) -> None:
        self._world = world
        self._cameras = cameras
        self._seed: int | None = None
        self._steps = self._targets = 0
        self._outcome = Outcome.RUNNING

    @property
    def info(self) -> WorldInfo:
        return self._world.info

    def reset(self, seed: int) -> Start:
        if not 0 <= seed < SEEDS:
            raise FoundryError(f"{self._title}: a seed is an integer from 0 to 2**63 - 1, got {seed}")
        self._seed, self._steps, self._targets, self._outcome = seed, 0, 0, Outcome.RUNNING
        return self._world.reset(seed)

    def observe(self) -> Observation:
        self._check_begun("observed")
        observation = self._world.observe()
        self._check_images(observation.images)
        state_D, space = observation.state_D, self.info.state_space
        if state_D.dtype != np.float64 or state_D.shape != (len(space),):
            raise FoundryError(
                f"{self._title}: the state is {state_D.dtype} {list(state_D.shape)}, not float64 "
                f"[{len(space)}]: {', '.join(space.names)}"
            )
        return observation

    def aim(self, target_TA: np.ndarray) -> None:
        self._check_running("aimed")
        space = self.info.action_space
        if target_TA.ndim != 2 or target_TA.shape[1] != len(space) or not np.isfinite(target_TA).all():
            raise FoundryError(
                f"{self._title}: targets are rows of {len(space)} finite numbers ({', '.join(space.names)}), "
                f"got {target_TA}"
            )
        self._world.aim(target_TA)
        self._targets = len(target_TA)

    def step(self) -> Outcome:
        self._check_running("stepped")
        if not self._targets:
            raise FoundryError(
                f"{self._title} has no target to step towards", hint="aim(targets) gives the next ones"
            )
        self._outcome = self._world.step()
        self._targets -= 1
        self._steps += 1
        return self._outcome

    @property
    def reward(self) -> float | None:
        """See `Rewarding`; None where the world says none."""
        reward = self._world.reward if isinstance(self._world, Rewarding) else None
        if reward is not None and not math.isfinite(reward):
            raise FoundryError(f"{self._title}: the reward of step {self._steps} is {reward}, no number")
        return reward

    def picture(self, size: int) -> np.ndarray | None:
        self._check_begun("drawn")
        picture_HWC = self._world.picture(size)
        if picture_HWC is not None and (
            picture_HWC.dtype != np.uint8 or picture_HWC.shape != (size, size, 3)
        ):
            raise FoundryError(
                f"{self._title}: the picture is {picture_HWC.dtype} {list(picture_HWC.shape)}, not uint8 "
                f"[{size}, {size}, 3]"
            )
        return picture_HWC

    def close(self) -> None:
        self._world.close()

    @property
    def _title(self) -> str:
        return f"the world '{self.info.name}'"

    def _check_begun(self, done: str) -> None:
        if self._seed is None:
            raise FoundryError(
                f"{self._title} cannot be {done} before its first episode", hint="reset(seed) begins one"
            )

    def _check_running(self, done: str) -> None:
        self._check_begun(done)
        if self._outcome is not Outcome.RUNNING:
            raise FoundryError(
                f"{self._title}: the episode of seed {self._seed} ended in {self._outcome.value} at step "
                f"{self._steps}",
                hint="reset(seed) begins another one",
            )

    def _check_images(self, images: dict[str, np.ndarray]) -> None:
        for role in self._cameras:
            if role not in images:
                raise FoundryError(f"{self._title} shows no camera '{role}'{nearest(role, images)}")
        for role, image_HWC in images.items():
            if role not in self._cameras:
                raise FoundryError(f"{self._title} shows the camera '{role}', which nobody asked for")
            if image_HWC.dtype != np.uint8 or image_HWC.ndim != 3 or image_HWC.shape[2] != 3:
                raise FoundryError(
                    f"{self._title}: the image '{role}' is {image_HWC.dtype} {list(image_HWC.shape)}, not "
                    "uint8 [height, width, 3]"
                )
