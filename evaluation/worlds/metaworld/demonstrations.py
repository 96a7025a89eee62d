"""Meta-World's scripted experts at work: what their recordings hold, in robomimic's names.

    actions              (N, 4) absolute targets: position of the mocap body after the step (m), opening
    obs/eef_pos          (N, 3) of the hand, m          obs/gripper  (N, 1) 0 closed … 1 open
    obs/<camera>_image   (N, H, W, 3) uint8

Row t holds what was seen at t and the clean command given at t; what was executed carries the hand's noise.
Shape suffixes: N frames, 3 position.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robot_foundry.evaluation.world import Recording
from robot_foundry.evaluation.worlds.metaworld.packages import make_expert
from robot_foundry.evaluation.worlds.metaworld.sawyer import CONTROL_HZ, Sawyer
from robot_foundry.evaluation.worlds.metaworld.tasks import INSTRUCTIONS, check_task
from robot_foundry.evaluation.worlds.metaworld.views import get_look
from robot_foundry.evaluation.worlds.metaworld.world import EMBODIMENT, MAX_STEPS, check_cameras
from robot_foundry.runtime.keyed import generator

CAMERA_NAMES = {"primary": "front", "secondary": "side", "wrist_right": "wrist"}
DWELL_STEPS = 10  # that the expert goes on after success: an eighth of a second
TREMOR = 0.002  # m a step, standard deviation along each axis
MEMORY = 0.8  # of a step's noise that is left in the next one
CAREFUL, FREE = 0.05, 0.12  # m between the fingertips and the thing: within no noise, beyond all of it


class MetaWorldDemonstrator:
    """The expert of one task in one variant. `cameras` are roles, None for all of the variant."""

    control_hz = CONTROL_HZ
    embodiment = EMBODIMENT
    columns = ("right.x", "right.y", "right.z", "right.gripper")
    spec: str | None = "metaworld"

    def __init__(self, task: str, variant: str, cameras: tuple[str, ...] | None, size: int) -> None:
        look = get_look(variant)
        roles = tuple(look.views) if cameras is None else cameras
        check_cameras(look, roles, size)
        self._views = {role: look.views[role] for role in roles}
        self._variant, self._size = variant, size
        self._sawyer = Sawyer(check_task(task), look.shadows)

    @property
    def cameras(self) -> Mapping[str, str]:
        return {CAMERA_NAMES[role]: role for role in self._views}

    def record(self, seed: int) -> Recording:
        """Ends DWELL_STEPS after the task was done first, or after MAX_STEPS."""
        sawyer, expert = self._sawyer, make_expert(self._sawyer.task)
        sawyer.begin(seed)
        hand = HandNoise(generator("metaworld", "hand", sawyer.task, seed))
        commands: list[np.ndarray] = []
        positions: list[np.ndarray] = []
        openings: list[list[float]] = []
        images: dict[str, list[np.ndarray]] = {role: [] for role in self._views}
        dwell = 0
        while dwell <= DWELL_STEPS and len(commands) < MAX_STEPS:
            commands.append(sawyer.command(expert))
            positions.append(sawyer.hand_3)
            openings.append([sawyer.opening])
            for role, frames in images.items():
                frames.append(sawyer.image(self._views[role], self._size))
            distance = float(np.linalg.norm(sawyer.thing_3 - sawyer.tip_3))
            done = sawyer.advance(hand.apply(commands[-1], distance))
            dwell += done or dwell > 0
        arrays = {
            "actions": np.stack(commands),
            "obs/eef_pos": np.stack(positions),
            "obs/gripper": np.array(openings),
            **{f"obs/{CAMERA_NAMES[role]}_image": np.stack(frames) for role, frames in images.items()},
        }
        return Recording(INSTRUCTIONS[sawyer.task], dwell > 0, arrays)


class HandNoise:
    """Noise on executed positions that fades from step to step, an AR(1) process; `rng` alone decides it.

    The nearer the thing, the less; and from when the gripper is first told another opening there is none.
    What was knocked away or lost would have to be sought anew, and by the clean commands alone it would not.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._noise_3 = rng.normal(0.0, TREMOR, 3)
        self._opening: float | None = None
        self._steady = False

    def apply(self, target_4: np.ndarray, distance: float) -> np.ndarray:
        """The target (4,) that is executed in place of a clean one, `distance` metres from the thing."""
        opening = float(target_4[3])
        self._steady |= self._opening not in (None, opening)
        self._opening = opening
        fresh_3 = self._rng.normal(0.0, TREMOR, 3)
        self._noise_3 = MEMORY * self._noise_3 + np.sqrt(1.0 - MEMORY**2) * fresh_3
        share = 0.0 if self._steady else float(np.clip((distance - CAREFUL) / (FREE - CAREFUL), 0.0, 1.0))
        return target_4 + [*(share * self._noise_3), 0.0]
