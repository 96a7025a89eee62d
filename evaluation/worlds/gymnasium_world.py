"""Any Gymnasium environment as a world, by maps from its keys and columns to camera roles and named dims.

    hill = GymnasiumWorlds(
        name="hill",
        embodiment="car",
        control_hz=30.0,
        tasks={"climb": GymnasiumTask("MountainCarContinuous-v0", "drive up the hill", 999, TERMINATED)},
        state=(Column("base.position.x", 0), Column("base.linear_velocity.x", 1, scale=30.0)),
        action=(Column(Dim("base.throttle", "1", "other"), 0),),
    )
    rollout(RolloutSpec(ActorSpec("runs/hill"), "climb", world=hill))

Shape suffixes: T periods, A dims of the action space, C numbers of the environment's action; HWC image.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.spaces import Dict as DictSpace
from PIL import Image, ImageOps

from robot_foundry.evaluation.world import Observation, Outcome, RandomMotion, Start, WorldInfo
from robot_foundry.normalization.space import ActionSpace, Dim
from robot_foundry.runtime.errors import FoundryError, UsageError, nearest

VARIANT = "sim"
TERMINATED = "terminated"
SEEDS = 2**32


@dataclass(frozen=True)
class Column:
    """One number of an environment as a canonical dim, which is number * scale + offset in the dim's unit.

    It is number `index` of the flattened array at `key` of the observation: "a/b" in nested dicts, "" where
    the observation is one array. An action is one array, so its columns have no key.
    """

    dim: Dim | str
    index: int
    key: str = ""
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.scale == 0:
            raise FoundryError(f"the scale of {self.dim} is 0: no number could be told from another")


@dataclass(frozen=True)
class GymnasiumTask:
    """One task: an id for `gymnasium.make` with its `options`, what it is in words, and when it is done.

    `success` is the key of `info` whose truth is success, or "terminated" where the environment ends on
    success alone. An episode that the environment itself ends in another way is a failure.
    """

    env: str
    instruction: str
    max_steps: int
    success: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GymnasiumWorlds:
    """Tasks of one robot in Gymnasium; the one variant is "sim".

    `cameras` gives the observation's key by role; None is what the environment renders. `random_speed` is the
    speed (m a step) of random motion where actions are positions that the state has; else each step is drawn.
    """

    name: str
    embodiment: str
    control_hz: float
    tasks: Mapping[str, GymnasiumTask]
    state: tuple[Column, ...]
    action: tuple[Column, ...]
    cameras: Mapping[str, str | None] = field(default_factory=dict)
    random_speed: float | None = None

    @property
    def versions(self) -> Mapping[str, str]:
        """See `Versioned`."""
        return {"gymnasium": gymnasium.__version__}

    def describe(self, task: str, variant: str) -> WorldInfo:
        with closing(self.build(task, variant, (), 0)) as world:
            return world.info

    def build(self, task: str, variant: str, cameras: tuple[str, ...], size: int) -> GymnasiumWorld:
        for label, name, names in (("task", task, self.tasks), ("variant", variant, [VARIANT])):
            if name not in names:
                raise UsageError(
                    f"the world '{self.name}' has no {label} '{name}'{nearest(name, names)}",
                    hint=f"{label}s: {', '.join(names)}",
                )
        for role in cameras:
            if role not in self.cameras:
                raise UsageError(
                    f"the world '{self.name}' has no camera '{role}'{nearest(role, self.cameras)}",
                    hint=f"cameras: {', '.join(self.cameras) or 'none'}",
                )
        return GymnasiumWorld(self, self.tasks[task], cameras)


class GymnasiumWorld:
    """One environment behind the contract of a world, without its time limit: rollouts keep the time."""

    def __init__(self, worlds: GymnasiumWorlds, task: GymnasiumTask, cameras: tuple[str, ...]) -> None:
        self._worlds, self._task = worlds, task
        self._keys = {role: worlds.cameras[role] for role in cameras}
        try:
            self._env = gymnasium.make(
                task.env, max_episode_steps=-1, disable_env_checker=True, **task.options
            )
        except Exception as error:  # whatever the environment's own code may raise
            raise FoundryError(f"Gymnasium does not make the environment '{task.env}': {error}") from error
        try:
            self._box = self._action_box()
            self._check_observation()
            self.info = self._described()
        except FoundryError:
            self._env.close()
            raise
        self._observation: Any = None
        self._actions: deque[np.ndarray] = deque()
        self._steps, self._over = 0, False
        self.reward = 0.0

    def reset(self, seed: int) -> Start:
        # Many simulators take seeds of 32 bits.
        self._observation, _ = self._env.reset(seed=seed % SEEDS)
        self._steps, self._over, self.reward = 0, False, 0.0
        return Start(self._task.instruction, self._task.instruction)

    def observe(self) -> Observation:
        images = {role: self._image(key) for role, key in self._keys.items()}
        return Observation(images, np.array([self._number(column) for column in self._worlds.state]))

    def aim(self, target_TA: np.ndarray) -> None:
        """Targets beyond the environment's bounds are clipped to them, as a robot's controller does."""
        number_TC = np.empty((len(target_TA), len(self._worlds.action)))
        for column, target_T in zip(self._worlds.action, target_TA.T, strict=True):
            number_TC[:, column.index] = (target_T - column.offset) / column.scale
        action_TC = np.clip(number_TC, self._box.low, self._box.high).astype(self._box.dtype)
        self._actions = deque(action_TC)

    def step(self) -> Outcome:
        if self._over:
            raise FoundryError(
                f"the environment '{self._task.env}' ended its episode itself after {self._steps} steps",
                hint=f"run at most {self._steps} steps",
            )
        self._observation, reward, terminated, truncated, info = self._env.step(self._actions.popleft())
        self.reward = float(reward)
        self._steps += 1
        self._over = terminated or truncated
        if self._succeeded(terminated, info):
            return Outcome.SUCCESS
        out_of_time = truncated and self._steps >= self._task.max_steps
        return Outcome.FAILURE if self._over and not out_of_time else Outcome.RUNNING

    def picture(self, size: int) -> np.ndarray | None:
        """What the environment renders, else its first camera, with bars where it is not square."""
        keys: list[str | None] = [None] if self._env.render_mode == "rgb_array" else []
        keys += self._worlds.cameras.values()
        if not keys:
            return None
        return np.asarray(ImageOps.pad(Image.fromarray(self._image(keys[0])), (size, size)))

    def close(self) -> None:
        self._env.close()

    # -- reading what the environment says -----------------------------------------------------------

    def _number(self, column: Column) -> float:
        number = np.asarray(_at(self._observation, column.key)).reshape(-1)[column.index]
        return float(number) * column.scale + column.offset

    def _image(self, key: str | None) -> np.ndarray:
        return np.array(self._env.render() if key is None else _at(self._observation, key))

    def _succeeded(self, terminated: bool, info: Mapping[str, Any]) -> bool:
        key = self._task.success
        if key == TERMINATED:
            return terminated
        if key not in info:
            raise FoundryError(
                f"the environment '{self._task.env}' does not say '{key}'{nearest(key, info)}, by which the "
                "task is judged",
                hint=f"info has {', '.join(map(str, info)) or 'nothing'}",
            )
        if not isinstance(info[key], bool | int | float | np.bool_ | np.number):
            raise FoundryError(
                f"the environment '{self._task.env}' says {info[key]!r} for '{key}', neither yes nor no"
            )
        return bool(info[key])

    # -- maps against the environment's spaces -------------------------------------------------------

    def _described(self) -> WorldInfo:
        worlds = self._worlds
        low, high = (
            [float(bound[column.index]) * column.scale + column.offset for column in worlds.action]
            for bound in (self._box.low, self._box.high)
        )
        return WorldInfo(
            name=worlds.name,
            embodiment=worlds.embodiment,
            state_space=_space_of(worlds.state),
            action_space=_space_of(worlds.action),
            cameras=tuple(worlds.cameras),
            control_hz=worlds.control_hz,
            max_steps=self._task.max_steps,
            random=RandomMotion(tuple(map(min, low, high)), tuple(map(max, low, high)), worlds.random_speed),
        )

    def _action_box(self) -> Box:
        env, box = self._task.env, self._env.action_space
        if not isinstance(box, Box) or len(box.shape) != 1:
            raise FoundryError(f"an action of '{env}' is {box}, not a row of numbers (a Box of one axis)")
        placed = sorted(column.index for column in self._worlds.action)
        if placed != list(range(box.shape[0])):
            raise FoundryError(
                f"an action of '{env}' is {box.shape[0]} numbers, each of which needs one column; there are "
                f"columns for {placed}"
            )
        return box

    def _check_observation(self) -> None:
        env = self._task.env
        for column in self._worlds.state:
            space = self._space(column.key)
            if not isinstance(space, Box) or not 0 <= column.index < np.prod(space.shape):
                what = f"'{column.key}' in the observation" if column.key else "the observation"
                name = column.dim if isinstance(column.dim, str) else column.dim.name
                raise FoundryError(
                    f"{name}: {what} of '{env}' is {space}, which has no number {column.index}"
                )
        for role, key in self._worlds.cameras.items():
            if key is None and self._env.render_mode != "rgb_array":
                raise FoundryError(
                    f"the camera '{role}' is what '{env}' renders, which is nothing",
                    hint='give the task the options {"render_mode": "rgb_array"}',
                )
            image = None if key is None else self._space(key)
            if image is not None and (
                image.dtype != np.uint8 or image.shape is None or image.shape[2:] != (3,)
            ):
                raise FoundryError(f"'{key}' of '{env}' is {image}, not an image (uint8 [height, width, 3])")

    def _space(self, key: str) -> gymnasium.Space[Any]:
        """The space of what lies at a key of the observation."""
        space: gymnasium.Space[Any] = self._env.observation_space
        for part in key.split("/") if key else ():
            parts = dict(space.spaces) if isinstance(space, DictSpace) else {}
            if part not in parts:
                raise FoundryError(
                    f"the observation of '{self._task.env}' has no '{key}'{nearest(part, parts)}",
                    hint=f"it has {', '.join(parts) or 'no keys'}",
                )
            space = parts[part]
        return space


def _space_of(columns: tuple[Column, ...]) -> ActionSpace:
    space = ActionSpace(column.dim for column in columns)
    if len(space) != len(columns):
        raise FoundryError(
            f"{len(columns)} columns name {len(space)} dims: name one each",
            hint=f"dims: {', '.join(space.names)}",
        )
    return space


def _at(observation: Any, key: str) -> Any:
    for part in key.split("/") if key else ():
        observation = observation[part]
    return observation
