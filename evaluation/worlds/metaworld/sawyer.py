"""One task of Meta-World, moved by absolute targets and started from a seed.

Positions are those of the hand, metres in the frame of the room: x to the robot's right, y away from it, z
up. A target is where the *mocap* body goes that pulls the hand, and how far the gripper is open (0 closed … 1
open). Meta-World's own action is the step of that body in centimetres and the gripper's effort, each -1 … 1.
Shape suffixes: 3 position, 4 target.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from robot_foundry.evaluation.worlds.metaworld.eye import Eye
from robot_foundry.evaluation.worlds.metaworld.packages import make_env, mujoco
from robot_foundry.evaluation.worlds.metaworld.rendering import canvas
from robot_foundry.evaluation.worlds.metaworld.views import View

CONTROL_HZ = 80.0
STEP = 0.01  # m, the longest of the target along each axis in one period


class Sawyer:
    """The arm at one task. Each episode is a new environment, so none depends on what ran before."""

    def __init__(self, task: str, shadows: bool) -> None:
        self.task = task
        self._shadows = shadows
        self._env: Any = None

    def begin(self, seed: int, start_3: np.ndarray | None = None) -> None:
        """Start the episode of `seed`, any non-negative integer, with the hand at `start_3` or as ever."""
        env = make_env(self.task)
        env.seed(seed)
        if start_3 is not None:
            env.hand_init_pos = start_3
        self.seen, _ = env.reset()
        mujoco().mj_forward(env.model, env.data)  # the goal is shown where it was put
        self._env = env

    @property
    def tip_3(self) -> np.ndarray:
        """The point between the fingertips."""
        return np.array(self._env.tcp_center, dtype=np.float64)

    @property
    def thing_3(self) -> np.ndarray:
        """Where the thing is that the task is about. Only the simulation knows."""
        return np.array(self._env._get_pos_objects()[:3], dtype=np.float64)

    @property
    def goal_3(self) -> np.ndarray:
        """Where that thing, or the hand, is to be. Only the simulation knows."""
        return np.array(self._env._target_pos[:3], dtype=np.float64)

    @property
    def target_3(self) -> np.ndarray:
        """Where the mocap body is now."""
        position_3: np.ndarray = self._env.data.mocap_pos[0].copy()
        return position_3

    @property
    def hand_3(self) -> np.ndarray:
        """Where the hand is now, measured."""
        return np.array(self._env.get_endeff_pos(), dtype=np.float64)

    @property
    def opening(self) -> float:
        """How far the gripper is open, measured: the distance of its fingers in tenths of a metre."""
        fingers = [self._env.data.body(name).xpos for name in ("rightclaw", "leftclaw")]
        return float(np.clip(np.linalg.norm(fingers[0] - fingers[1]) / 0.1, 0.0, 1.0))

    def target_of(self, action_4: np.ndarray) -> np.ndarray:
        """The target (4,) that one of Meta-World's own actions leads to from here."""
        clipped_4 = np.clip(np.asarray(action_4, dtype=np.float64), -1.0, 1.0)
        position_3 = self.target_3 + clipped_4[:3] * STEP
        within_3 = np.clip(position_3, self._env.mocap_low, self._env.mocap_high)
        return np.array([*within_3, (1.0 - clipped_4[3]) / 2.0])

    def advance(self, target_4: np.ndarray) -> bool:
        """Go towards a target for one period, as far as one period leads; whether the task is done now."""
        effort = 1.0 - 2.0 * target_4[3]
        action_4 = np.clip([*((target_4[:3] - self.target_3) / STEP), effort], -1.0, 1.0)
        self.seen, _, _, _, info = self._env.step(action_4)
        return bool(info["success"])

    def image(self, view: View, size: int) -> np.ndarray:
        """uint8 (size, size, 3)."""
        return canvas(self._env.fullpath, self._shadows).draw(self._env.model, self._env.data, view, size)

    def eye(self, view: View) -> Eye:
        """Where points of the room are in an image of a view."""
        return Eye.of(view, self._env.model, self._env.data)

    def command(self, expert: Any) -> np.ndarray:
        """What Meta-World's scripted policy of the task does now, as a target (4,)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that its commands are clipped
            return self.target_of(expert.get_action(self.seen))
