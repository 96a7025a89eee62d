"""What acts in a rollout: a trained policy, or the random control. Both speak canonical targets of the world.

Shape suffixes: T steps of a chunk, A dims of the world's action space, D dims of its state, d dims of the
policy's state, S history, k coordinates of a point; HWC image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from robot_foundry.evaluation.world import WorldInfo
from robot_foundry.normalization.representation import references
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.policy.actions import Actions, Underway
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.keyed import generator

if TYPE_CHECKING:
    from robot_foundry.policy.policy import Policy

RANDOM_CHUNK = 16


@dataclass(frozen=True)
class Situation:
    """All that an actor is told when it must act.

    images (S, H, W, 3) uint8 by role and state_SD over the world's state space, oldest first; `seed` keys
    whatever the actor draws.
    """

    images: dict[str, np.ndarray]
    state_SD: np.ndarray
    instruction: str
    seed: int


class Actor(Protocol):
    """Answers situations with chunks of absolute targets (T, A) over the action space of its world.

    `roles` and `history` say what it must be shown.
    """

    roles: tuple[str, ...]
    history: int

    def act(self, situations: Sequence[Situation]) -> list[np.ndarray]: ...


@runtime_checkable
class ContinuingActor(Actor, Protocol):
    """An actor that can make its next answer agree with the one under way: `act` in two halves.

    An answer says its steps in its own dims and at its own rate; `targets` are those of the world.
    """

    def answers(
        self, situations: Sequence[Situation], underway: Sequence[Underway | None] = ()
    ) -> list[Actions]: ...

    def targets(self, answer: Actions) -> np.ndarray: ...

    def underway(self, answer: Actions, executed: int, delay: int) -> Underway:
        """An answer of which so many periods of the world are over when the next one is asked for, and so
        many more when that is there."""
        ...


@dataclass(frozen=True)
class ActorSpec:
    """How to make an actor in whatever process needs one; `run` None is the random control.

    `dataset` says whose dims and statistics a policy uses; where it is left open and the policy knows
    several, the one that was recorded with the world's embodiment is taken.
    """

    run: str | None
    device: str = "cpu"
    dataset: str | None = None

    def pinned(self) -> ActorSpec:
        """The same with the very checkpoint: a training run that goes on must not change it midway."""
        if self.run is None:
            return self
        from robot_foundry.trainer.checkpoints import checkpoint

        return replace(self, run=str(checkpoint.find(Path(self.run))))

    def build(self, world: WorldInfo) -> Actor:
        return RandomActor(world) if self.run is None else _policy_actor(self, world)


def _policy_actor(spec: ActorSpec, world: WorldInfo) -> Actor:
    assert spec.run is not None
    return PolicyActor(_policy(spec.run, spec.device), spec.dataset, world)


@lru_cache(maxsize=1)
def _policy(run: str, device: str) -> Policy:
    """One a process: groups of scenes and tasks of a suite follow each other, and each would load it."""
    from robot_foundry.policy.policy import Policy

    return Policy.load(run, device)


class PolicyActor:
    """A trained policy in a world; one batch for all situations it is given."""

    def __init__(self, policy: Policy, dataset: str | None, world: WorldInfo) -> None:
        self._world, self._policy = world, policy
        datasets = self._policy.spaces.datasets
        of_this_robot = [entry.name for entry in datasets if entry.embodiment == world.embodiment]
        self._dataset = of_this_robot[0] if dataset is None and len(of_this_robot) == 1 else dataset
        number = self._policy.number(self._dataset)
        self._state_space = datasets[number].state
        # One name must mean one thing to both: union refuses unlike units, kinds and representations.
        ActionSpace.union(world.state_space, self._state_space)
        ActionSpace.union(world.action_space, datasets[number].action)
        _check_fit(world, datasets[number], self._policy.config.data.window.representation)
        self.roles = self._policy.roles
        # The policy's own rate is kept: its steps lie between those of the world.
        self._pace = self._policy.pace(number, world.control_hz)
        self.history = self._pace.moments

    def act(self, situations: Sequence[Situation]) -> list[np.ndarray]:
        return [self.targets(answer) for answer in self.answers(situations)]

    def answers(
        self, situations: Sequence[Situation], underway: Sequence[Underway | None] = ()
    ) -> list[Actions]:
        return self._policy.act_batch(
            [self._observation(situation) for situation in situations],
            [situation.instruction for situation in situations],
            seeds=[situation.seed for situation in situations],
            dataset=self._dataset,
            underway=underway,
        )

    def targets(self, answer: Actions) -> np.ndarray:
        # Dims that the world has not are left out.
        columns_A = [answer.space.index(name) for name in self._world.action_space.names]
        return self._pace.targets(answer.values_TA, answer.space)[:, columns_A]

    def underway(self, answer: Actions, executed: int, delay: int) -> Underway:
        return Underway(answer, executed / self._pace.step, delay / self._pace.step)

    def _observation(self, situation: Situation) -> dict[str, Any]:
        images = {role: self._pace.images(image_S) for role, image_S in situation.images.items()}
        state_Sd = self._state(situation.state_SD)
        return {"images": images, "state": self._pace.states(state_Sd, self._state_space)}

    def _state(self, state_SD: np.ndarray) -> np.ndarray:
        """The state (S, d) in the policy's dims; NaN, which it masks, for what this world has not."""
        space = self._world.state_space
        state_Sd = np.full((len(state_SD), len(self._state_space)), np.nan)
        for column, name in enumerate(self._state_space.names):
            if name in space:
                state_Sd[:, column] = state_SD[:, space.index(name)]
        return state_Sd


def _check_fit(world: WorldInfo, trained_on: Any, representation: str) -> None:
    """FoundryError where the world needs targets that the policy has not learnt to give, or does not measure
    what they are relative to."""
    ungiven = [name for name in world.action_space.names if name not in trained_on.action]
    relative_to = references(trained_on.state, trained_on.action, representation)
    unmeasured = [name for name in relative_to if name not in world.state_space]
    if ungiven:
        what = f"needs targets that the policy does not give ({', '.join(ungiven)})"
    elif unmeasured:
        what = f"does not measure what the policy's targets are relative to ({', '.join(unmeasured)})"
    else:
        return
    raise FoundryError(
        f"the world '{world.name}' {what}: its robot is '{world.embodiment}', that of the policy's dataset "
        f"'{trained_on.name}' is '{trained_on.embodiment}'",
        hint="another world is --world, another robot of it often --variant",
    )


class RandomActor:
    """Moves as the world's random motion says, chunk after chunk, seeing nothing."""

    roles: tuple[str, ...] = ()
    history = 1

    def __init__(self, world: WorldInfo) -> None:
        self._world = world

    def act(self, situations: Sequence[Situation]) -> list[np.ndarray]:
        return [self._chunk(situation) for situation in situations]

    def _chunk(self, situation: Situation) -> np.ndarray:
        rng, motion = generator(self._world.name, "random", situation.seed), self._world.random
        low_A, high_A = np.array(motion.low), np.array(motion.high)
        drawn_A = low_A < high_A
        draws = RANDOM_CHUNK if motion.speed is None else 1
        target_TA = np.tile(low_A, (RANDOM_CHUNK, 1))
        target_TA[:, drawn_A] = rng.uniform(low_A[drawn_A], high_A[drawn_A], (draws, drawn_A.sum()))
        if motion.speed is None:
            return target_TA
        for names in _points(self._world.action_space):
            columns = [self._world.action_space.index(name) for name in names]
            start_k = situation.state_SD[-1, [self._world.state_space.index(name) for name in names]]
            goal_k = target_TA[-1, columns]
            distance = float(np.linalg.norm(goal_k - start_k))
            parts_T = np.minimum(1.0, np.arange(1, RANDOM_CHUNK + 1) * motion.speed / max(distance, 1e-9))
            target_TA[:, columns] = start_k + (goal_k - start_k) * parts_T[:, None]
        return target_TA


def _points(space: ActionSpace) -> list[list[str]]:
    """The dims of a space that are positions, by the point of the robot that they place."""
    points: dict[tuple[str, str], list[str]] = {}
    for dim in space:
        if dim.kind == "position":
            points.setdefault((dim.part, dim.quantity), []).append(dim.name)
    return list(points.values())
