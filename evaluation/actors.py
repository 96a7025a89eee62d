"""What acts in a rollout: a trained policy, or the random control. All speak commands of the world.

Shape suffixes: T steps of a chunk, C numbers of a command, D state dims, S history; HWC image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from robot_foundry.evaluation.worlds.tabletop.commands import canonical_to_commands, encode_targets
from robot_foundry.evaluation.worlds.tabletop.env import CONTROL_HZ
from robot_foundry.evaluation.worlds.tabletop.physics import HOME_ROTATION_33, Target
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.keyed import generator

RANDOM_CHUNK = 16
RANDOM_STEP = 0.028


@dataclass(frozen=True)
class Situation:
    """All that an actor is told when it must act.

    images (S, H, W, 3) uint8 by role and state_SD over `space`, oldest first; `seed` keys whatever the
    actor draws. `arms` and `rotates` say which commands the robot takes.
    """

    images: dict[str, np.ndarray]
    state_SD: np.ndarray
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
    """How to make an actor in whatever process needs one; `run` None is the random control.

    `dataset` says whose dims and statistics a policy uses; where it is left open and the policy knows
    several, the one that was recorded with `embodiment` is taken.
    """

    run: str | None
    device: str = "cpu"
    dataset: str | None = None
    embodiment: str | None = None

    def pinned(self) -> ActorSpec:
        """The same with the very checkpoint: a training run that goes on must not change it midway."""
        if self.run is None:
            return self
        from robot_foundry.trainer import checkpoint

        return replace(self, run=str(checkpoint.find(Path(self.run))))

    def build(self) -> Actor:
        return RandomActor() if self.run is None else _policy_actor(self)


@lru_cache(maxsize=1)
def _policy_actor(spec: ActorSpec) -> Actor:
    # One policy a process: groups of scenes come one after the other and would load it again each time.
    assert spec.run is not None
    return PolicyActor(spec)


class PolicyActor:
    """A trained policy from its checkpoint or run folder; one batch for all situations it is given."""

    def __init__(self, spec: ActorSpec) -> None:
        from robot_foundry.policy.policy import Policy

        run = spec.run
        assert run is not None
        self._policy = Policy.load(run, spec.device)
        datasets = self._policy.spaces.datasets
        alike = [dataset.name for dataset in datasets if dataset.embodiment == spec.embodiment]
        self._dataset = alike[0] if spec.dataset is None and len(alike) == 1 else spec.dataset
        self._own = datasets[self._policy.number(self._dataset)]
        self.roles = self._policy.roles
        # The policy's own rate is kept: its steps are found between those of the world.
        self._pace = self._policy.pace(datasets.index(self._own), CONTROL_HZ)
        self.history = self._pace.moments

    def act(self, situations: Sequence[Situation]) -> list[np.ndarray]:
        observations = [self._observation(situation) for situation in situations]
        chunks = self._policy.act_batch(
            observations,
            [situation.instruction for situation in situations],
            seeds=[situation.seed for situation in situations],
            dataset=self._dataset,
        )
        return [
            canonical_to_commands(
                self._pace.targets(chunk.values_TA, chunk.space),
                chunk.space,
                situation.arms,
                situation.rotates,
            )
            for chunk, situation in zip(chunks, situations, strict=True)
        ]

    def _observation(self, situation: Situation) -> dict[str, Any]:
        images = {role: self._pace.images(image_S) for role, image_S in situation.images.items()}
        return {"images": images, "state": self._pace.states(self._state(situation), self._own.state)}

    def _state(self, situation: Situation) -> np.ndarray:
        """The state (S, d) in the policy's own dims; NaN, which it masks, for what this robot has not."""
        own_Sd = np.full((len(situation.state_SD), len(self._own.state)), np.nan)
        for column, name in enumerate(self._own.state.names):
            if name in situation.space:
                own_Sd[:, column] = situation.state_SD[:, situation.space.index(name)]
        return own_Sd


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
            columns = [situation.space.index(f"{arm}.ee_position.{axis}") for axis in "xyz"]
            start_3 = situation.state_SD[-1, columns]
            goal_3 = rng.uniform((-0.25, -0.25, 0.01), (0.25, 0.25, 0.15))
            opening = float(rng.uniform())
            distance = float(np.linalg.norm(goal_3 - start_3))
            parts_T = np.minimum(1.0, np.arange(1, RANDOM_CHUNK + 1) * RANDOM_STEP / max(distance, 1e-9))
            points_T3 = start_3 + (goal_3 - start_3) * parts_T[:, None]
            targets_T = [(Target(point_3, HOME_ROTATION_33, opening),) for point_3 in points_T3]
            chunks.append(encode_targets(targets_T, situation.rotates))
        return np.concatenate(chunks, axis=1)
