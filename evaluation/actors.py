"""What acts in a rollout: a trained policy, or the random control. All speak commands of the world.

Shape suffixes: T steps of a chunk, C numbers of a command, D state dims, S history; HWC image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from robot_foundry.evaluation.worlds.tabletop.commands import canonical_to_commands, encode_targets
from robot_foundry.evaluation.worlds.tabletop.physics import HOME_ROTATION_33, Target
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.keyed import generator

RANDOM_CHUNK = 16
RANDOM_STEP = 0.028


@dataclass(frozen=True)
class Situation:
    """All that an actor is told when it must act.

    images (S, H, W, 3) uint8 by role, oldest first; state_D over `space`; `seed` keys whatever the actor
    draws. `arms` and `rotates` say which commands the robot takes.
    """

    images: dict[str, np.ndarray]
    state_D: np.ndarray
    space: ActionSpace
    instruction: str
    arms: tuple[str, ...]
    rotates: bool
    seed: int


class Actor(Protocol):
    """Answers situations with chunks of commands (T, C). `roles` and `history` say what it must be shown."""

    roles: tuple[str, ...]
    history: int

    def act(self, situations: Sequence[Situation]) -> list[np.ndarray]: ...


@dataclass(frozen=True)
class ActorSpec:
    """How to make an actor in whatever process needs one; `run` None is the random control."""

    run: str | None
    device: str = "cpu"
    dataset: str | None = None

    def build(self) -> Actor:
        return RandomActor() if self.run is None else _policy_actor(self)


@lru_cache(maxsize=1)
def _policy_actor(spec: ActorSpec) -> Actor:
    # One policy a process: groups of scenes come one after the other and would load it again each time.
    assert spec.run is not None
    return PolicyActor(spec.run, spec.device, spec.dataset)


class RandomActor:
    """Moves straight to a point drawn uniformly over the table, chunk after chunk, seeing nothing."""

    roles: tuple[str, ...] = ()
    history = 1

    def act(self, situations: Sequence[Situation]) -> list[np.ndarray]:
        return [self._chunk(situation) for situation in situations]

    def _chunk(self, situation: Situation) -> np.ndarray:
        rng = generator("tabletop", "random", situation.seed)
        chunks = []
        for arm in situation.arms:
            start_3 = np.array(
                [situation.state_D[situation.space.index(f"{arm}.ee_position.{axis}")] for axis in "xyz"]
            )
            goal_3 = rng.uniform((-0.25, -0.25, 0.01), (0.25, 0.25, 0.15))
            opening = float(rng.uniform())
            distance = float(np.linalg.norm(goal_3 - start_3))
            rows = []
            for k in range(RANDOM_CHUNK):
                part = min(1.0, (k + 1) * RANDOM_STEP / max(distance, 1e-9))
                target = Target(start_3 + (goal_3 - start_3) * part, HOME_ROTATION_33, opening)
                rows.append(encode_targets([target], situation.rotates))
            chunks.append(np.stack(rows))
        return np.concatenate(chunks, axis=1)
