"""One running scene of a rollout: its world, what the actor sees of it, and how it went.

Shape suffixes: T periods, A dims of the action space, S history, D dims of the state; HWC image.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from robot_foundry.evaluation.actors import Actor, ContinuingActor, Situation
from robot_foundry.evaluation.execution import Ensemble, Execution
from robot_foundry.evaluation.rollouts.episode import Executed, RolloutEpisode, start_of
from robot_foundry.evaluation.rollouts.open_worlds import OpenWorlds
from robot_foundry.evaluation.rollouts.spec import RolloutSpec
from robot_foundry.evaluation.seeds import scene_seed
from robot_foundry.evaluation.world import Observation, Outcome, Rewarding, Start, World
from robot_foundry.policy.actions import Actions, Underway
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.keyed import generator, key

MOST_DONORS = 1000


class Scene:
    """The scene `index`; `slot` tells those apart that run beside each other."""

    def __init__(self, spec: RolloutSpec, index: int, actor: Actor, worlds: OpenWorlds, slot: int) -> None:
        self.index = index
        self._spec, self._history = spec, actor.history
        self._seed = scene_seed("rollout", spec.seed, index)
        self._world = worlds.running(spec.factory, spec.task, spec.variant, actor.roles, spec.size, slot)
        self._start = self._world.reset(self._seed)
        self._instruction = self._start.instruction
        if spec.shuffle_instructions:
            self._instruction = _other_words(spec, index, self._start, worlds)
        self._limit = spec.max_steps or self._world.info.max_steps
        self._outcome, self._steps = Outcome.RUNNING, 0
        self._reward: float | None = 0.0 if _reward(self._world) is not None else None
        self._told: list[np.ndarray] = []
        self._seen: deque[Observation] = deque(maxlen=actor.history)
        self._execution: Execution | Ensemble = Execution(spec.execute, spec.delay)
        if spec.ensemble is not None:
            space = self._world.info.action_space
            self._execution = Ensemble(space, spec.execute, spec.ensemble, spec.delay)
        self._answer: Actions | None = None
        self._look()
        self._began = start_of(self._seen[0].state_D, self._start.instruction)

    @property
    def running(self) -> bool:
        return self._outcome is Outcome.RUNNING and self._steps < self._limit

    def _look(self) -> None:
        observation = self._world.observe()
        if self._spec.blank:
            images = {role: np.zeros_like(image_HWC) for role, image_HWC in observation.images.items()}
            observation = replace(observation, images=images)
        self._seen.append(observation)

    def situation(self) -> Situation:
        seen = [self._seen[0]] * (self._history - len(self._seen)) + list(self._seen)
        images = {role: np.stack([moment.images[role] for moment in seen]) for role in seen[0].images}
        state_SD = np.stack([moment.state_D for moment in seen])
        seed = key("rollout", self._spec.seed, self.index, self._steps) >> 1
        return Situation(images, state_SD, self._instruction, seed)

    def underway(self, actor: ContinuingActor) -> Underway | None:
        """The answer that the next one is to agree with; None at the start."""
        if self._answer is None:
            return None
        return actor.underway(self._answer, self._execution.executed, self._spec.delay)

    def execute(self, chunk_TA: np.ndarray, answer: Actions | None = None) -> None:
        """Go on to the next observation; observe only what the actor will be shown."""
        self._answer = answer
        part_TA = self._execution.follow(chunk_TA)
        self._world.aim(part_TA)
        before = self._steps
        for left in range(len(part_TA) - 1, -1, -1):
            self._outcome = self._world.step()
            self._steps += 1
            if self._reward is not None:
                self._reward += _reward(self._world) or 0.0
            if not self.running:
                break
            if left < self._history:
                self._look()
        self._told.append(part_TA[: self._steps - before])

    def result(self) -> RolloutEpisode:
        executed = Executed(np.concatenate(self._told), tuple(map(len, self._told)))
        return RolloutEpisode(
            self.index,
            self._seed,
            self._start.instruction,
            self._instruction,
            self._outcome.value,
            self._steps,
            self._began,
            self._reward,
            executed,
        )


def _reward(world: World) -> float | None:
    return world.reward if isinstance(world, Rewarding) else None


def check_words(spec: RolloutSpec) -> None:
    """FoundryError where its first scene cannot be given other words, before any other scene is run."""
    with OpenWorlds() as worlds:
        start = worlds.aside(spec.factory, spec.task, spec.variant).reset(scene_seed("rollout", spec.seed, 0))
        _other_words(spec, 0, start, worlds)


def _other_words(spec: RolloutSpec, index: int, start: Start, worlds: OpenWorlds) -> str:
    """The instruction of the next scene that is about something else, or of one of another task."""
    if tasks := [name for name in spec.words_of if name != spec.task]:
        return _words_of_another_task(spec, index, start, tasks, worlds)
    for donor in range(index + 1, index + 1 + MOST_DONORS):
        other = worlds.aside(spec.factory, spec.task, spec.variant)
        found = other.reset(scene_seed("rollout", spec.seed, donor))
        if found.subject != start.subject:
            return found.instruction
    raise FoundryError(
        f"instructions cannot be shuffled: the {MOST_DONORS} scenes of task '{spec.task}' after scene "
        f"{index} are all about '{start.subject}', as it is itself",
        hint="say of which other tasks of the world the words may be: --words-of TASK",
    )


def _words_of_another_task(
    spec: RolloutSpec, index: int, start: Start, tasks: Sequence[str], worlds: OpenWorlds
) -> str:
    for task in generator("words", spec.seed, index).permutation(sorted(tasks)).tolist():
        other = worlds.aside(spec.factory, task, spec.variant)
        found = other.reset(scene_seed("rollout", spec.seed, index))
        if found.instruction != start.instruction:
            return found.instruction
    raise FoundryError(
        f"instructions cannot be shuffled: {', '.join(tasks)} and {spec.task} all say '{start.instruction}'"
    )
