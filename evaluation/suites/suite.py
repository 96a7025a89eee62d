"""A suite: which tasks of a world are run, how often, by which categories, and beside which controls.

YAML, by packaged name or as a file:

    world: tabletop            # as foundry-eval rollout --world
    variant: sim
    episodes: 50               # scenes a task
    seed: 0
    execute: 8
    size: 64
    controls: [blank, shuffled, random]
    words: task                # shuffled words are of other scenes of the task; suite: of its other tasks
    tasks:
      reach: {category: reach}
      reach_real: {category: reach, task: reach, variant: real, episodes: 100, max_steps: 32}
      push: {words: [reach]}   # shuffled words are of these tasks of the world
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from robot_foundry.evaluation.actors import ActorSpec
from robot_foundry.evaluation.rollouts.spec import CONTROLS, EXECUTE, RolloutSpec
from robot_foundry.evaluation.worlds.registry import get_world
from robot_foundry.runtime.errors import FoundryError, UsageError, nearest
from robot_foundry.runtime.files import read_utf8
from robot_foundry.trainer.recipes.decoding import Decoding
from robot_foundry.trainer.recipes.yaml_text import read_yaml

PACKAGED = Path(__file__).parent
OF_TASK, OF_SUITE = WORDS = ("task", "suite")


@dataclass(frozen=True)
class SuiteTask:
    """One task; `task` is the world's name for it where the suite calls it otherwise. None: as the suite."""

    category: str = "all"
    task: str | None = None
    variant: str | None = None
    episodes: int | None = None
    max_steps: int | None = None
    words: tuple[str, ...] | None = None  # the tasks whose words shuffled ones are; (): of its other scenes


@dataclass(frozen=True)
class Suite:
    """See the module. `tasks` are by the suite's names, in their order."""

    name: str = ""
    world: str = "tabletop"
    variant: str = "sim"
    episodes: int = 50
    seed: int = 0
    execute: int = EXECUTE
    size: int = 64
    controls: tuple[str, ...] = ()
    words: str = OF_TASK
    tasks: Mapping[str, SuiteTask] = field(default_factory=dict)

    @property
    def categories(self) -> dict[str, list[str]]:
        """Names of tasks by category, in the order in which they come."""
        found: dict[str, list[str]] = {}
        for name, task in self.tasks.items():
            found.setdefault(task.category, []).append(name)
        return found

    def spec(self, name: str, actor: ActorSpec, **settings: Any) -> RolloutSpec:
        """The rollout of one of its tasks; `settings` take the place of the suite's own."""
        task = self.tasks[name]
        own = task.task or name
        words = task.words
        if words is None:
            every = {other.task or key for key, other in self.tasks.items()}
            words = tuple(sorted(every - {own})) if self.words == OF_SUITE else ()
        return RolloutSpec(
            actor,
            own,
            **{
                "variant": task.variant or self.variant,
                "episodes": self.episodes if task.episodes is None else task.episodes,
                "seed": self.seed,
                "execute": self.execute,
                "size": self.size,
                "max_steps": task.max_steps,
                "world": self.world,
                "words_of": words,
                **settings,
            },
        )


def read_suite(place: str) -> Suite:
    """The suite of a YAML file, or of the packaged name `place`.

    UsageError lists every problem at once: unknown keys with the nearest, values of a wrong type or out of
    range, and tasks that the world has not.
    """
    path = _path(place)
    values = read_yaml(read_utf8(path), str(path))
    decoding = Decoding({})
    tasks = _tasks(decoding, values.pop("tasks", {}))
    names = [item.name for item in fields(Suite)]
    for key in set(values) - set(names):
        decoding.problems.append(f"{key}: is not a key{nearest(str(key), names)} (keys: {', '.join(names)})")
    suite = decoding.decode(Suite, {"name": path.stem} | {k: v for k, v in values.items() if k in names})
    suite = Suite(**{**{name: getattr(suite, name) for name in names}, "tasks": tasks})
    if problems := list(dict.fromkeys([*decoding.problems, *_problems(suite)])):
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        listed = "".join(f"\n  {line}" for line in problems)
        raise UsageError(f"the suite {path} has {count}:{listed}", hint="docs/rollouts.md lists every key")
    return suite


def packaged_suites() -> list[str]:
    return sorted(path.stem for path in PACKAGED.glob("*.yaml"))


def _path(place: str) -> Path:
    packaged = PACKAGED / f"{place}.yaml"
    if Path(place).is_file():
        return Path(place)
    if packaged.parent == PACKAGED and packaged.is_file():
        return packaged
    names = packaged_suites()
    raise UsageError(
        f"there is no suite '{place}'{nearest(place, names)}",
        hint=f"give a YAML file or one of {', '.join(names)}",
    )


def _tasks(decoding: Decoding, values: Any) -> dict[str, SuiteTask]:
    if not isinstance(values, Mapping) or not values:
        decoding.problems.append("tasks: needs the names of tasks, each with keys of its own, as reach: {}")
        return {}
    found = {}
    for name, keys in values.items():
        path = f"tasks.{name}."
        if not isinstance(keys, Mapping | None):
            decoding.problems.append(f"{path[:-1]}: needs keys of its own, not {keys!r}")
            continue
        decoding.check_names(SuiteTask, keys or {}, path)
        found[str(name)] = decoding.decode(SuiteTask, keys or {}, path)
    return found


def _problems(suite: Suite) -> Iterator[str]:
    for control in suite.controls:
        if control not in CONTROLS:
            near = nearest(control, CONTROLS)
            yield f"controls: {control!r} is none{near} (there are {', '.join(CONTROLS)})"
    if suite.words not in WORDS:
        yield f"words: needs one of {', '.join(WORDS)}, not {suite.words!r}"
    if suite.seed < 0:
        yield f"seed: must be at least 0, got {suite.seed}"
    try:
        world = get_world(suite.world)
    except FoundryError as error:
        yield f"world: {error.message}"
        return
    places: dict[tuple[str, str], str] = {}
    for name in suite.tasks:
        try:
            spec = suite.spec(name, ActorSpec(None))
            for asked in (spec.task, *(suite.tasks[name].words or ())):
                world.describe(asked, spec.variant)
        except FoundryError as error:
            yield f"tasks.{name}: {error.message}"
            continue
        if spec.task in (suite.tasks[name].words or ()):
            yield f"tasks.{name}.words: {spec.task} is the task itself, name others"
        other = places.setdefault((spec.task, spec.variant), name)
        if other != name:
            same = f"is the same task in the same variant as tasks.{other}"
            yield f"tasks.{name}: {same}, whose report it would take the place of"
