"""The expert at work: what its recordings hold.

    actions                (N, 3) where the disc is to go: x, y, z in metres
    obs/eef_pos            (N, 3) where it is, m         obs/front_image  (N, H, W, 3) uint8

Row t holds what was seen at t and the clean command given at t; what was executed carries a hand's noise, so
that demonstrations leave the rails and show the way back. An episode ends where the T is in place, or after
the longest time; `success` says which.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robot_foundry.evaluation.world import Recording
from robot_foundry.evaluation.worlds.pusht.expert import Expert
from robot_foundry.evaluation.worlds.pusht.simulation import CONTROL_HZ, SIDE, Simulation
from robot_foundry.evaluation.worlds.pusht.world import (
    CAMERA,
    EMBODIMENT,
    INSTRUCTION,
    MAX_STEPS,
    METRES,
    check,
)
from robot_foundry.runtime.keyed import generator

FRONT = "front"
TREMOR = 2.0  # px


class PushtDemonstrator:
    """The expert of the task. `cameras` are roles, None for all that there are."""

    control_hz = CONTROL_HZ
    columns = ("x", "y", "z")
    embodiment = EMBODIMENT
    spec: str | None = "pusht"

    def __init__(self, task: str, variant: str, cameras: tuple[str, ...] | None, size: int) -> None:
        roles = (CAMERA,) if cameras is None else cameras
        check(task, variant, roles, size)
        self._roles, self._size = roles, size
        self._simulation, self._expert = Simulation(), Expert()

    @property
    def cameras(self) -> Mapping[str, str]:
        return {FRONT: CAMERA} if self._roles else {}

    def record(self, seed: int) -> Recording:
        simulation, rng = self._simulation, generator("pusht", "hand", seed)
        simulation.reset(seed)
        commands, places, pictures = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
        success = False
        while not success and len(commands) < MAX_STEPS:
            target_2 = self._expert.target(simulation.disc_2, simulation.block_2, simulation.angle)
            target_2 = np.clip(target_2, 0.0, SIDE)
            commands.append(np.array([*target_2 * METRES, 0.0]))
            places.append(np.array([*simulation.disc_2 * METRES, 0.0]))
            if self._roles:
                pictures.append(simulation.picture(self._size))
            success = simulation.drive(target_2 + rng.normal(0.0, TREMOR, 2))
        arrays = {"actions": np.stack(commands), "obs/eef_pos": np.stack(places)}
        if pictures:
            arrays[f"obs/{FRONT}_image"] = np.stack(pictures)
        return Recording(INSTRUCTION, success, arrays)
