"""Closed-loop rollouts: a policy acts in chunks on scenes that no demonstration has, and is counted.

The scenes are run in groups of a fixed size, formed by scene index and always whole (scenes beyond the
number asked for are run and dropped). So what shares a batch with a scene never depends on the number of
processes or of scenes, and one policy and one seed give one result, with 1 process or with 4.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from robot_foundry import __version__
from robot_foundry.evaluation.actors import Actor, ActorSpec, Situation
from robot_foundry.evaluation.intervals import clopper_pearson
from robot_foundry.evaluation.pictures import Film, contact_sheet, save_gif
from robot_foundry.evaluation.seeds import scene_seed
from robot_foundry.evaluation.worlds.tabletop.commands import decode_targets
from robot_foundry.evaluation.worlds.tabletop.env import Tabletop
from robot_foundry.evaluation.worlds.tabletop.goals import Outcome
from robot_foundry.evaluation.worlds.tabletop.variants import get_variant
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.keyed import key
from robot_foundry.runtime.parallel import unordered_map
from robot_foundry.runtime.progress import Progress
from robot_foundry.runtime.storage.storage import open_storage

GROUP = 8
FILMED = 12
FILM_SIZE = 128
GIFS_EACH = 2


@dataclass(frozen=True)
class RolloutSpec:
    """What to run. `execute` steps of each chunk are executed before the actor is asked again."""

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
        if problems:
            raise FoundryError("; ".join(problems))

    @property
    def condition(self) -> str:
        """`policy` or `random`, with what was taken away from it."""
        parts = ["random" if self.actor.run is None else "policy"]
        parts += ["blank"] if self.blank else []
        parts += ["shuffled"] if self.shuffle_instructions else []
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
    episodes: tuple[RolloutEpisode, ...]
    seconds: float

    @property
    def successes(self) -> int:
        return sum(episode.success for episode in self.episodes)

    def to_json(self) -> dict[str, Any]:
        trials = len(self.episodes)
        low, high = clopper_pearson(self.successes, trials)
        settings = asdict(self.spec)
        settings.update(settings.pop("actor"))
        return {
            "world": "tabletop",
            "condition": self.spec.condition,
            **settings,
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
    embodiment = get_variant(spec.variant).embodiment
    spec = replace(spec, actor=replace(spec.actor.pinned(), embodiment=embodiment))
    groups = range(0, spec.episodes, GROUP)
    done: dict[int, list[RolloutEpisode]] = {}
    processes = 0 if workers == 1 else workers
    label = f"{spec.task} {spec.condition}"
    with Progress(spec.episodes, "scenes", label, quiet=quiet) as progress, _one_thread(spec):
        for index, episodes in unordered_map(
            _run_group, ((spec, start) for start in groups), workers=processes
        ):
            done[index] = episodes
            progress.advance(len(episodes), errors=sum(not episode.success for episode in episodes))
    ordered = tuple(episode for index in sorted(done) for episode in done[index])
    return Rollout(spec, ordered, time.perf_counter() - started)


def save(result: Rollout, out: Path) -> dict[str, Any]:
    """Write `rollout.json`, `contact_sheet.png` and a few GIFs of each outcome to the folder `out`."""
    films = [episode.film for episode in result.episodes if episode.film is not None]
    out.mkdir(parents=True, exist_ok=True)
    contact_sheet(films).save(out / "contact_sheet.png")
    gifs = []
    for success in (True, False):
        for film in [film for film in films if film.success is success][:GIFS_EACH]:
            name = f"scene_{film.index:04d}_{'success' if success else 'failure'}.gif"
            save_gif(film, out / name)
            gifs.append(name)
    report = {**result.to_json(), "files": ["rollout.json", "contact_sheet.png", *gifs]}
    text = json.dumps(report, indent=2, ensure_ascii=False)
    open_storage(str(out)).write("rollout.json", text.encode("utf-8"))
    return report


# -- one group of scenes -----------------------------------------------------------------------------


class _Scene:
    """One running scene: its world, what the actor sees of it, and its film if it is filmed."""

    def __init__(self, spec: RolloutSpec, index: int, actor: Actor) -> None:
        self.spec, self.index = spec, index
        self.world = Tabletop(spec.task, variant=spec.variant, cameras=actor.roles, size=spec.size)
        self.world.reset(seed=scene_seed("rollout", spec.seed, index))
        self.told = self._shuffled() if spec.shuffle_instructions else self.world.instruction
        self.limit = spec.max_steps or self.world.task.max_steps
        self.outcome = Outcome.RUNNING
        self.film: list[np.ndarray] | None = [] if index < min(FILMED, spec.episodes) else None
        self._history = actor.history
        self._seen: deque[tuple[dict[str, np.ndarray], np.ndarray]] = deque(maxlen=actor.history)
        self._look()
        self._shoot()

    @property
    def running(self) -> bool:
        return self.outcome is Outcome.RUNNING and self.world.time < self.limit

    def _shuffled(self) -> str:
        """The instruction of the next scene whose target has another colour."""
        other = Tabletop(self.spec.task, variant=self.spec.variant, cameras=())
        own = self.world.physics.scene.solids[self.world.goal.target].colour
        donor = self.index
        while True:
            donor += 1
            other.reset(seed=scene_seed("rollout", self.spec.seed, donor))
            if other.physics.scene.solids[other.goal.target].colour != own:
                return other.instruction

    def _look(self) -> None:
        images = {role: self.world.image(role) for role in self.world.cameras}
        if self.spec.blank:
            images = {role: np.zeros_like(image_HWC) for role, image_HWC in images.items()}
        self._seen.append((images, self.world.state()))

    def _shoot(self) -> None:
        if self.film is not None:
            self.film.append(self.world.picture(FILM_SIZE))

    def situation(self) -> Situation:
        seen = [self._seen[0]] * (self._history - len(self._seen)) + list(self._seen)
        images = {role: np.stack([images[role] for images, _ in seen]) for role in self.world.cameras}
        state_SD = np.stack([state_D for _, state_D in seen])
        arms, rotates = self.world.task.arms, self.world.variant.rotates
        seed = key("rollout", self.spec.seed, self.index, self.world.time) >> 1
        return Situation(images, state_SD, self.world.state_space, self.told, arms, rotates, seed)

    def execute(self, chunk_TC: np.ndarray) -> None:
        """Execute the first steps of a chunk; render only what the actor will be shown."""
        part_TC = chunk_TC[: self.spec.execute]
        targets_T = decode_targets(part_TC, self.world.physics.arms, self.world.variant.rotates)
        for left, targets in zip(range(len(targets_T) - 1, -1, -1), targets_T, strict=True):
            if not self.running:
                return
            self.outcome = self.world.advance(targets)
            if left < self._history:
                self._look()
            self._shoot()

    def result(self) -> RolloutEpisode:
        film = None
        if self.film is not None:
            success = self.outcome is Outcome.SUCCESS
            film = Film(self.index, tuple(self.film), self.told, success)
        return RolloutEpisode(
            self.index,
            self.world.seed,
            self.world.instruction,
            self.told,
            self.outcome.value,
            self.world.time,
            film,
        )


def _run_group(item: tuple[RolloutSpec, int]) -> list[RolloutEpisode]:
    spec, start = item
    actor = spec.actor.build()
    scenes = [_Scene(spec, index, actor) for index in range(start, start + GROUP)]
    while running := [scene for scene in scenes if scene.running]:
        chunks = actor.act([scene.situation() for scene in running])
        for scene, chunk_TC in zip(running, chunks, strict=True):
            scene.execute(chunk_TC)
    return [scene.result() for scene in scenes if scene.index < spec.episodes]


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
