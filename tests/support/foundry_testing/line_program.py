"""A world for `ChildWorlds`: a dot that goes where it is told, at most 0.2 a step, to the right.

y above 5 makes the process die. Numpy alone, as in an interpreter that has no more.
"""

import os
import sys
from typing import Any

import numpy as np


class Line:
    reward: float | np.floating[Any] = 0.0

    def describe(self, task: str, variant: str) -> dict[str, Any]:
        for word, there in ((task, "go"), (variant, "sim")):
            if word != there:
                raise LookupError(f"there is no '{word}', did you mean '{there}'?", f"there is {there}")
        return {
            "embodiment": "dot",
            "state": ["right.ee_position"],
            "action": ["right.ee_position"],
            "cameras": ["primary"],
            "control_hz": 10,
            "max_steps": 9,
            "random": {"low": [0, 0, 0], "high": [1, 1, 1]},
        }

    def build(self, task: str, variant: str, cameras: tuple[str, ...], size: int) -> "Line":
        self.cameras, self.size = cameras, size
        print("printing does no harm", sys.stdin.read())  # nor does reading
        return self

    def reset(self, seed: int) -> tuple[str, str]:
        self.place, self.reward = np.random.default_rng(seed).uniform(0, 0.5, 3), 0.0
        return "go right", "right"

    def observe(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        image = np.full((self.size, self.size, 3), int(self.place[0] * 255), np.uint8)
        return {role: image for role in self.cameras}, self.place

    def aim(self, targets: np.ndarray) -> None:
        self.targets = list(targets)

    def step(self) -> str:
        target = self.targets.pop(0)
        if target[1] > 5:
            print("last words", file=sys.stderr, flush=True)
            os._exit(3)
        self.place = self.place + np.clip(target - self.place, -0.2, 0.2)
        self.reward = np.float32(self.place[0])  # as simulators say it
        return "success" if self.place[0] > 0.9 else "running"

    def picture(self, size: int) -> None:
        return None

    def close(self) -> None:
        pass
