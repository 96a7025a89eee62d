"""What a world is to an evaluation: anything in which a robot acts and is judged.

A factory describes a world before it is made, and makes it with the cameras that somebody looks through. A
world is reset from a seed, observed by camera role and by named dim, told canonical targets by the chunk, and
stepped. All that crosses is arrays, numbers and text, so a world may live in another process.

Shape suffixes: T periods, A dims of the action space, D dims of the state; HWC image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

import numpy as np

from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import FoundryError


class Outcome(Enum):
    """How an episode stands. Out of time it is still running: how long it may take, its rollout decides."""

    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True)
class RandomMotion:
    """How the control moves that sees nothing: what a policy's rate is held against.

    Targets are drawn uniformly between `low` and `high`, over the action space; where the two are equal
    nothing is drawn. With `speed`, one target is drawn a chunk and its points are approached in a straight
    line from where the state says that they are, at `speed` metres a step; without, every step is drawn anew.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    speed: float | None = None


@dataclass(frozen=True)
class WorldInfo:
    """What is fixed about a task in a variant of a world.

    name          that of the world
    embodiment    the robot, by the name that recordings of it have
    state_space   what the robot measures of itself
    action_space  the absolute targets that it takes
    cameras       the roles of all cameras there are
    control_hz    steps a second
    max_steps     the longest episode, unless a rollout says otherwise
    random        the control that sees nothing
    """

    name: str
    embodiment: str
    state_space: ActionSpace
    action_space: ActionSpace
    cameras: tuple[str, ...]
    control_hz: float
    max_steps: int
    random: RandomMotion

    def __post_init__(self) -> None:
        if not 0 < self.control_hz < math.inf or self.max_steps < 1:
            raise FoundryError(
                f"the world '{self.name}' needs a finite rate above 0 Hz and at least 1 step, got "
                f"{self.control_hz} Hz and {self.max_steps} steps"
            )
        low, high, size = self.random.low, self.random.high, len(self.action_space)
        fits = len(low) == len(high) == size and np.isfinite([*low, *high]).all()
        if not fits or np.any(np.greater(low, high)):
            raise FoundryError(
                f"random motion in the world '{self.name}' needs a finite low <= high for each of its {size} "
                f"action dims, got {list(low)} and {list(high)}"
            )
        if (speed := self.random.speed) is None:
            return
        positions = [dim.name for dim in self.action_space if dim.kind == "position"]
        unmeasured = [name for name in positions if name not in self.state_space]
        if not 0 < speed < math.inf or unmeasured:
            raise FoundryError(
                f"random motion at a speed of {speed} m a step in the world '{self.name}' needs a finite one "
                f"above 0, and a state that says where it is"
                + (f": that of {', '.join(unmeasured)} is not in it" if unmeasured else "")
            )


@dataclass(frozen=True)
class Start:
    """The beginning of an episode: what is asked in words, and what the words are about.

    Two episodes with unlike `subject` need unlike instructions; with the same one, one may serve for both.
    """

    instruction: str
    subject: str


@dataclass(frozen=True)
class Observation:
    """What is seen and measured now: uint8 (H, W, 3) by camera role, and float64 over the state space.

    What is not known of the state is NaN. The arrays are the caller's to keep.
    """

    images: dict[str, np.ndarray]
    state_D: np.ndarray


class World(Protocol):
    """One task in one variant. The same seed and targets give the same episode, whatever ran before."""

    @property
    def info(self) -> WorldInfo: ...

    def reset(self, seed: int) -> Start:
        """Begin the episode of `seed`, any integer from 0 to 2**63 - 1."""
        ...

    def observe(self) -> Observation:
        """The images of the cameras it was made with, and the state. Called only when somebody looks."""
        ...

    def aim(self, target_TA: np.ndarray) -> None:
        """Take absolute targets over the action space for the next T periods, in place of those left."""
        ...

    def step(self) -> Outcome:
        """Go towards the next target for one period of `control_hz`."""
        ...

    def picture(self, size: int) -> np.ndarray | None:
        """The scene as it is now, for people: uint8 (size, size, 3); None where a world cannot be drawn."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Rewarding(Protocol):
    """What a world may say besides: the reward of its last step, 0 before the first; None if it has none."""

    @property
    def reward(self) -> float | None: ...


@runtime_checkable
class Versioned(Protocol):
    """What a factory may say besides: versions, by name, of the packages that decide how its worlds go."""

    @property
    def versions(self) -> Mapping[str, str]: ...


class WorldFactory(Protocol):
    """Makes worlds in whatever process needs one, so it must pickle."""

    @property
    def name(self) -> str: ...

    def describe(self, task: str, variant: str) -> WorldInfo:
        """FoundryError names the nearest task or variant where there is none of that name."""
        ...

    def build(self, task: str, variant: str, cameras: tuple[str, ...], size: int) -> World:
        """A world that shows `cameras`, which may be none.

        `size` is the side in pixels of the images that it renders; cameras of a fixed size keep theirs.
        """
        ...


@dataclass(frozen=True)
class Recording:
    """A demonstration: arrays of N rows by their names in an episode's HDF5 group, "actions" among them."""

    instruction: str
    success: bool
    arrays: dict[str, np.ndarray]


class Demonstrator(Protocol):
    """The scripted expert of one task in one variant, watched while it works.

    `columns` names the numbers of "actions", `cameras` are roles by the names that recordings give them.
    """

    @property
    def columns(self) -> tuple[str, ...]: ...

    @property
    def cameras(self) -> Mapping[str, str]: ...

    @property
    def embodiment(self) -> str: ...

    @property
    def control_hz(self) -> float: ...

    @property
    def spec(self) -> str | None:
        """The spec of the package that reads its recordings in any format; None if none does."""
        ...

    def record(self, seed: int) -> Recording:
        """The demonstration of `seed`: equal seeds give equal arrays."""
        ...
