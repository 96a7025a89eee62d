"""Closed-loop rollouts: a policy acts in chunks on scenes that no demonstration has, and is counted.

The scenes are run in groups of a fixed size, formed by scene index and always whole (scenes beyond the
number asked for are run and dropped). So what shares a batch with a scene never depends on the number of
processes or of scenes, and one policy and one seed give one result, with 1 process or with 4.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from robot_foundry import __version__
from robot_foundry.evaluation.actors import Actor, ActorSpec, ContinuingActor, Situation
from robot_foundry.evaluation.contact_sheets import Film, contact_sheet, save_gif
from robot_foundry.evaluation.execution import Execution
from robot_foundry.evaluation.guard import open_world
from robot_foundry.evaluation.intervals import clopper_pearson
from robot_foundry.evaluation.seeds import scene_seed
from robot_foundry.evaluation.world import Observation, Outcome, WorldFactory, WorldInfo
from robot_foundry.evaluation.worlds.registry import get_world
from robot_foundry.policy.actions import Actions, Underway
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.runtime.keyed import key
from robot_foundry.runtime.parallel import unordered_map
from robot_foundry.runtime.progress import Progress
from robot_foundry.runtime.storage.storage import open_storage

GROUP = 8
FILMED = 12
FILM_SIZE = 128
GIFS_EACH = 2
MOST_DONORS = 1000


@dataclass(frozen=True)
class RolloutSpec:
    """What to run. `execute` steps are executed before the actor is asked again.

    An answer takes `delay` steps, in which the chunk before it goes on; with `rtc` the policy makes it agree
    with that chunk. `world` is the name of one that is built in, or makes worlds of another kind.
    """

    actor: ActorSpec
    task: str
    variant: str = "sim"
    episodes: int = 100
    seed: int = 0
    execute: int = 8
    size: int = 64
    max_steps: int | None = None
    blank: bool = False
    shuffle_instructions: bool = False
    delay: int = 0
    rtc: bool = False
    world: str | WorldFactory = "tabletop"

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be at least 1, got {value}"
            for name, value in (
                ("episodes", self.episodes),
                ("execute", self.execute),
                ("max_steps", self.max_steps),
            )
            if value is not None and value < 1
        ]
        if not 0 <= self.delay <= self.execute:
            problems.append(f"delay must lie in 0 … execute ({self.execute}), got {self.delay}")
        if problems:
            raise UsageError("; ".join(problems))

    @property
    def factory(self) -> WorldFactory:
        return get_world(self.world) if isinstance(self.world, str) else self.world

    @property
    def condition(self) -> str:
        """`policy` or `random`, with what was taken away from it."""
        parts = ["random" if self.actor.run is None else "policy"]
        parts += ["blank"] if self.blank else []
        parts += ["shuffled"] if self.shuffle_instructions else []
        parts += [f"delay{self.delay}"] if self.delay else []
        parts += ["rtc"] if self.rtc else []
        return "-".join(parts)


@dataclass(frozen=True)
class RolloutEpisode:
    """How one scene went. `asked` is the scene's own instruction, `told` what the actor was given."""

    index: int
    seed: int
    asked: str
    told: str
    outcome: str
    steps: int
    film: Film | None = field(default=None, compare=False, repr=False)

    @property
    def success(self) -> bool:
        return self.outcome == Outcome.SUCCESS.value


@dataclass(frozen=True)
class Rollout:
    """All episodes of one condition, in the order of their scenes."""

    spec: RolloutSpec
    world: WorldInfo
    episodes: tuple[RolloutEpisode, ...]
    seconds: float

    @property
    def successes(self) -> int:
        return sum(episode.success for episode in self.episodes)

    def to_json(self) -> dict[str, Any]:
        trials = len(self.episodes)
        low, high = clopper_pearson(self.successes, trials)
        names = [entry.name for entry in fields(self.spec) if entry.name not in ("actor", "world")]
        return {
            "world": self.world.name,
            "condition": self.spec.condition,
            **{name: getattr(self.spec, name) for name in names},
            **asdict(self.spec.actor),
            "embodiment": self.world.embodiment,
            "successes": self.successes,
            "trials": trials,
            "rate": self.successes / trials,
            "interval_95": [low, high],
            "mean_steps": float(np.mean([episode.steps for episode in self.episodes])),
            "outcomes": {
                outcome.value: sum(episode.outcome == outcome.value for episode in self.episodes)
                for outcome in Outcome
            },
            "seconds": self.seconds,
            "version": __version__,
            "scenes": [
                {name: value for name, value in vars(episode).items() if name != "film"}
                for episode in self.episodes
            ],
        }


def rollout(spec: RolloutSpec, *, workers: int = 0, quiet: bool = False) -> Rollout:
    """Run `spec.episodes` scenes and count. `workers` processes share the groups; 0 and 1 run inline."""
    started = time.perf_counter()
    spec = replace(spec, actor=spec.actor.pinned())
    world = spec.factory.describe(spec.task, spec.variant)
    groups = range(0, spec.episodes, GROUP)
    done: dict[int, list[RolloutEpisode]] = {}
    processes = 0 if workers == 1 else workers
    label = f"{spec.task} {spec.condition}"
    with Progress(spec.episodes, "scenes", label, quiet=quiet) as progress, _one_thread(spec):
        for index, episodes in unordered_map(
            _run_group, ((spec, world, first) for first in groups), workers=processes
        ):
            done[index] = episodes
            progress.advance(len(episodes), errors=sum(not episode.success for episode in episodes))
    ordered = tuple(episode for index in sorted(done) for episode in done[index])
    return Rollout(spec, world, ordered, time.perf_counter() - started)


def save(result: Rollout, out: Path, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write `rollout.json`, `contact_sheet.png` and a few GIFs of each outcome to the folder `out`.

    Where the world draws no pictures there is the report alone. `about` is what it says besides.
    """
    films = [episode.film for episode in result.episodes if episode.film is not None]
    out.mkdir(parents=True, exist_ok=True)
    pictures = []
    if films:
        contact_sheet(films).save(out / "contact_sheet.png")
        pictures.append("contact_sheet.png")
    for success in (True, False):
        for film in [film for film in films if film.success is success][:GIFS_EACH]:
            name = f"scene_{film.index:04d}_{'success' if success else 'failure'}.gif"
            save_gif(film, out / name, result.world.control_hz)
            pictures.append(name)
    report = {**(about or {}), **result.to_json(), "files": ["rollout.json", *pictures]}
    text = json.dumps(report, indent=2, ensure_ascii=False)
    open_storage(str(out)).write("rollout.json", text.encode("utf-8"))
    return report


# -- one group of scenes -----------------------------------------------------------------------------


class _Scene:
    """One running scene: its world, what the actor sees of it, and its film if it is filmed."""

    def __init__(self, spec: RolloutSpec, index: int, actor: Actor) -> None:
        self.index = index
        self._spec, self._history = spec, actor.history
        self._seed = scene_seed("rollout", spec.seed, index)
        self._world = open_world(spec.factory, spec.task, spec.variant, cameras=actor.roles, size=spec.size)
        self._start = self._world.reset(self._seed)
        self._instruction = self._shuffled() if spec.shuffle_instructions else self._start.instruction
        self._limit = spec.max_steps or self._world.info.max_steps
        self._outcome, self._steps = Outcome.RUNNING, 0
        self._filmed = index < min(FILMED, spec.episodes)
        self._film: list[np.ndarray] = []
        self._seen: deque[Observation] = deque(maxlen=actor.history)
        self._execution = Execution(spec.execute, spec.delay)
        self._answer: Actions | None = None
        self._look()
        self._shoot()

    @property
    def running(self) -> bool:
        return self._outcome is Outcome.RUNNING and self._steps < self._limit

    def close(self) -> None:
        self._world.close()

    def _shuffled(self) -> str:
        """The instruction of the next scene that is about something else."""
        spec = self._spec
        with closing(open_world(spec.factory, spec.task, spec.variant)) as other:
            for donor in range(self.index + 1, self.index + 1 + MOST_DONORS):
                start = other.reset(scene_seed("rollout", spec.seed, donor))
                if start.subject != self._start.subject:
                    return start.instruction
        raise FoundryError(
            f"instructions cannot be shuffled: the {MOST_DONORS} scenes of task '{spec.task}' after scene "
            f"{self.index} are all about '{self._start.subject}', as it is itself"
        )

    def _look(self) -> None:
        observation = self._world.observe()
        if self._spec.blank:
            images = {role: np.zeros_like(image_HWC) for role, image_HWC in observation.images.items()}
            observation = replace(observation, images=images)
        self._seen.append(observation)

    def _shoot(self) -> None:
        if self._filmed and (picture_HWC := self._world.picture(FILM_SIZE)) is not None:
            self._film.append(picture_HWC)

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
        for left in range(len(part_TA) - 1, -1, -1):
            if not self.running:
                return
            self._outcome = self._world.step()
            self._steps += 1
            if left < self._history:
                self._look()
            self._shoot()

    def result(self) -> RolloutEpisode:
        film = None
        if self._film:
            success = self._outcome is Outcome.SUCCESS
            film = Film(self.index, tuple(self._film), self._instruction, success)
        return RolloutEpisode(
            self.index,
            self._seed,
            self._start.instruction,
            self._instruction,
            self._outcome.value,
            self._steps,
            film,
        )


def _run_group(item: tuple[RolloutSpec, WorldInfo, int]) -> list[RolloutEpisode]:
    spec, world, first = item
    actor = spec.actor.build(world)
    with ExitStack() as stack:
        scenes = []
        for index in range(first, first + GROUP):
            scene = _Scene(spec, index, actor)
            stack.callback(scene.close)
            scenes.append(scene)
        while running := [scene for scene in scenes if scene.running]:
            if spec.rtc:
                _continue(running, actor)
                continue
            chunks = actor.act([scene.situation() for scene in running])
            for scene, chunk_TA in zip(running, chunks, strict=True):
                scene.execute(chunk_TA)
        return [scene.result() for scene in scenes if scene.index < spec.episodes]


def _continue(scenes: Sequence[_Scene], actor: Actor) -> None:
    """Ask and execute with every answer made to agree with the one under way."""
    if not isinstance(actor, ContinuingActor):
        raise FoundryError("rtc: what acts here makes no chunks that can be continued; a policy does")
    answers = actor.answers(
        [scene.situation() for scene in scenes], [scene.underway(actor) for scene in scenes]
    )
    for scene, answer in zip(scenes, answers, strict=True):
        scene.execute(actor.targets(answer), answer)


@contextmanager
def _one_thread(spec: RolloutSpec) -> Iterator[None]:
    """Inline rollouts compute with one thread like worker processes do, so that sums come out the same."""
    if spec.actor.run is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
