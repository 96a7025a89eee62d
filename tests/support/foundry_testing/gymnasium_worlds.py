"""Worlds of Gymnasium for tests: a tip over a board, with pictures, and a built-in one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from robot_foundry.evaluation.worlds.gymnasium_world import Column, GymnasiumTask, GymnasiumWorlds
from robot_foundry.normalization.space import Dim


class Gantry(gymnasium.Env):
    """A tip over a board of 100 × 100 units that goes where it is told, 8 units a step, to a red mark.

    Below 5 units it has left the board, which ends the episode; `patience` is a time limit of its own.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, patience: int = 10_000) -> None:
        self.render_mode, self.patience = render_mode, patience
        box = gymnasium.spaces.Box
        tip = gymnasium.spaces.Dict({"tip": box(-np.inf, np.inf, (1, 3), np.float32)})
        self.observation_space = gymnasium.spaces.Dict(
            {
                "pixels": box(0, 255, (20, 30, 3), np.uint8),
                "robot": tip,
                "mark": box(0, 100, (2,), np.float32),
            }
        )
        self.action_space = box(0.0, 100.0, (3,), np.float32)
        self.pixels = np.zeros((20, 30, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.tip = self.np_random.uniform(20, 80, 3)
        self.mark = self.np_random.uniform(10, 90, 2)
        self.steps = 0
        return self.observation(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        away = action - self.tip
        self.tip = self.tip + away * min(1.0, 8.0 / max(float(np.linalg.norm(away)), 1e-9))
        self.steps += 1
        reached = bool(np.linalg.norm(self.tip[:2] - self.mark) < 3)
        info = {"is_success": np.bool_(reached), "said": "yes"}
        return self.observation(), 0.0, bool(self.tip[2] < 5), self.steps >= self.patience, info

    def observation(self) -> Any:
        self.pixels[:] = 0  # the buffer is used again, as simulators do
        for (x, y), colour in ((self.mark, (255, 0, 0)), (self.tip[:2], (0, 255, 0))):
            self.pixels[int(y / 5.1), int(x / 3.4)] = colour
        tip_13 = self.tip[None].astype(np.float32)
        return {"pixels": self.pixels, "robot": {"tip": tip_13}, "mark": self.mark.astype(np.float32)}

    def render(self) -> np.ndarray:
        return np.full((40, 80, 3), self.steps, np.uint8)


if "Gantry-v0" not in gymnasium.registry:
    gymnasium.register(
        "Gantry-v0", entry_point=f"{__name__}:Gantry", max_episode_steps=3
    )  # a limit that adapters lift

TIP = tuple(Column(f"right.ee_position.{axis}", k, "robot/tip", 0.01) for k, axis in enumerate("xyz"))
MARK = tuple(Column(f"mark.position.{axis}", k, "mark", 0.01) for k, axis in enumerate("xy"))
GANTRY = GymnasiumWorlds(
    name="gantry",
    embodiment="gantry",
    control_hz=20.0,
    tasks={"touch": GymnasiumTask("Gantry-v0", "touch the red mark", 40, "is_success")},
    state=TIP + MARK,
    action=tuple(replace(column, key="") for column in TIP),
    cameras={"primary": "pixels"},
    random_speed=0.08,
)
HILL = GymnasiumWorlds(
    name="hill",
    embodiment="car",
    control_hz=30.0,
    tasks={"climb": GymnasiumTask("MountainCarContinuous-v0", "drive up the hill", 400, "terminated")},
    state=(Column("base.position.x", 0), Column("base.linear_velocity.x", 1, scale=30.0)),
    action=(Column(Dim("base.throttle", "1", "other"), 0),),
)
