"""One table of gym-pusht, by its poses: reset, driven, judged and drawn. Lengths are the package's pixels."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from PIL import Image

from robot_foundry.runtime.errors import FoundryError

CONTROL_HZ = 10.0
SIDE = 512
SEEDS = 2**32
REWARD_DIGITS = 12
PACKAGES = ("gym-pusht", "pymunk", "pygame")


def versions() -> dict[str, str]:
    """Of the packages that decide how an episode goes and looks; FoundryError where one is absent."""
    try:
        return {package: version(package) for package in PACKAGES}
    except PackageNotFoundError as error:
        raise _absent(error) from error


def _absent(error: ImportError) -> FoundryError:
    return FoundryError(
        f"the world 'pusht' needs gym-pusht: {error}", hint="pip install 'robot-foundry[pusht]'"
    )


def _environment() -> Any:
    # pygame looks for a display, and greets on stdout, when it is imported.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        from gym_pusht.envs import PushTEnv
    except ImportError as error:
        raise _absent(error) from error
    return PushTEnv(obs_type="state", observation_width=SIDE, observation_height=SIDE)


class Simulation:
    """The package's environment, without its time limit."""

    def __init__(self) -> None:
        self._env = _environment()
        self.reward = 0.0

    def reset(self, seed: int) -> None:
        """The package's own start of `seed`, of which 32 bits count. Its space is made anew."""
        self._env.reset(seed=seed % SEEDS)
        self.reward = 0.0

    def drive(self, target_2: np.ndarray) -> bool:
        """A tenth of a second towards a target, which is clipped to the table; whether the T is in place."""
        _, reward, done, _, _ = self._env.step(np.clip(target_2, 0.0, SIDE))
        # The last bit of the package's area was seen to depend on what the process had run before.
        self.reward = round(float(reward), REWARD_DIGITS)
        return bool(done)

    @property
    def disc_2(self) -> np.ndarray:
        return np.array(self._env.agent.position, dtype=np.float64)

    @property
    def block_2(self) -> np.ndarray:
        return np.array(self._env.block.position, dtype=np.float64)

    @property
    def angle(self) -> float:
        return float(self._env.block.angle)

    def picture(self, size: int) -> np.ndarray:
        """What the package draws, averaged down to uint8 (size, size, 3).

        The package takes single pixels of its drawing, from which a shift of less than one cannot be told.
        """
        drawn = Image.fromarray(np.ascontiguousarray(self._env._render()))
        return np.asarray(drawn.resize((size, size), Image.Resampling.BOX))

    def close(self) -> None:
        self._env.close()
