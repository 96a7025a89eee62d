"""Closed-loop rollouts: a policy acts in chunks on scenes that no demonstration has, and is counted.

The scenes are run in groups of a fixed size, formed by scene index and always whole (scenes beyond the
number asked for are run and dropped). So what shares a batch with a scene never depends on the number of
processes or of scenes, nor on when a rollout was stopped and went on, and one policy and one seed give one
result.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from robot_foundry import __version__
from robot_foundry.evaluation.actors import Actor, ContinuingActor
from robot_foundry.evaluation.rollouts.episode import RolloutEpisode
from robot_foundry.evaluation.rollouts.films import film, filmed
from robot_foundry.evaluation.rollouts.kept_rows import KeptRows
from robot_foundry.evaluation.rollouts.open_worlds import OpenWorlds, worlds_of_this_process
from robot_foundry.evaluation.rollouts.report import Rollout, save
from robot_foundry.evaluation.rollouts.scene import Scene
from robot_foundry.evaluation.rollouts.spec import GROUP, RolloutSpec
from robot_foundry.evaluation.world import Versioned, WorldInfo
from robot_foundry.runtime.errors import FoundryError, FoundryWarning
from robot_foundry.runtime.later import without_later
from robot_foundry.runtime.parallel import Workers
from robot_foundry.runtime.progress import Progress

__all__ = ["GROUP", "Rollout", "RolloutEpisode", "RolloutSpec", "decided_by", "rollout", "save"]

FILMED = 12
Item = tuple[RolloutSpec, WorldInfo, int]


def rollout(
    spec: RolloutSpec,
    *,
    workers: int | Workers = 0,
    quiet: bool = False,
    films: int = FILMED,
    keep: Path | None = None,
    again: bool = False,
) -> Rollout:
    """Run `spec.episodes` scenes and count. `workers` processes share the groups; 0 and 1 run inline.

    `films` of the scenes are filmed. In the folder `keep` the rows of all scenes are kept as they are
    finished, and those that are there already are not run again unless `again`; so a rollout that was stopped
    goes on.
    """
    started = time.perf_counter()
    spec = replace(spec, actor=spec.actor.pinned())
    world = spec.factory.describe(spec.task, spec.variant)
    with ExitStack() as stack:
        if not isinstance(workers, Workers):
            workers = stack.enter_context(Workers(0 if workers == 1 else workers))
        kept = None if keep is None else stack.enter_context(KeptRows(keep, decided_by(spec), again=again))
        found = {} if kept is None else {i: row for i, row in kept.rows.items() if i < spec.episodes}
        before = len(found)
        runner = stack.enter_context(_Runner(spec, world, workers))
        label = f"{spec.task} {spec.condition}"
        progress = Progress(spec.episodes, "scenes", label, quiet=quiet, done=before)
        with progress:
            for episodes in runner.groups(_missing(spec, found)):
                if kept is not None:
                    kept.add(episodes)
                new = [episode for episode in episodes if episode.index not in found]
                found |= {episode.index: episode for episode in episodes}
                progress.advance(len(new), errors=sum(not episode.success for episode in new))
        _tell_short_chunks(spec, found.values())
        ordered = runner.filmed([found[index] for index in range(spec.episodes)], films)
    return Rollout(spec, world, ordered, time.perf_counter() - started, before)


def decided_by(spec: RolloutSpec) -> dict[str, Any]:
    """All that decides how a scene of `spec` goes, as JSON; how many scenes there are does not."""
    # Whose words may be others' decides nothing where none are shuffled.
    words_of = spec.words_of if spec.shuffle_instructions else ()
    spec = replace(spec, actor=spec.actor.pinned(), words_of=words_of)
    names = [item.name for item in fields(spec) if item.name not in ("actor", "world", "episodes")]
    factory = spec.factory
    described = repr(factory.describe(spec.task, spec.variant))
    # A class that says nothing of its instances is known by its name: an address would not come again.
    said = repr(factory) if type(factory).__repr__ is not object.__repr__ else type(factory).__qualname__
    of_world = dict(factory.versions) if isinstance(factory, Versioned) else {}
    packages = ("numpy",) if spec.actor.run is None else ("numpy", "torch")
    return {
        "actor": _acting(spec),
        "spec": without_later({name: getattr(spec, name) for name in names}, spec),
        "world": {"name": factory.name, "is": said, "info": described},
        "versions": {"robot_foundry": __version__, **{name: version(name) for name in packages}, **of_world},
    }


def _acting(spec: RolloutSpec) -> dict[str, Any]:
    told = {"kind": type(spec.actor).__name__, **asdict(spec.actor)}
    if spec.actor.run is not None:
        from robot_foundry.trainer.checkpoints import checkpoint

        # Equal weights are the same policy, wherever they lie.
        state = checkpoint.read_json(Path(spec.actor.run), checkpoint.STATE)
        told["run"] = checkpoint.weights_id(state)
    return told


def _tell_short_chunks(spec: RolloutSpec, episodes: Iterable[RolloutEpisode]) -> None:
    """A FoundryWarning where every chunk was shorter than what was to be executed of it."""
    told = [episode.executed.aims for episode in episodes if episode.executed is not None]
    longest = max((max(aims) for aims in told if len(aims) > 1), default=spec.execute)
    if longest < spec.execute:
        warnings.warn(
            f"chunks of what acts in {spec.task} are {longest} steps long: it was asked again after these, "
            f"not after {spec.execute} (execute)",
            FoundryWarning,
            stacklevel=3,
        )


def _missing(spec: RolloutSpec, found: dict[int, RolloutEpisode]) -> list[int]:
    """The first scenes of the groups that are not whole."""
    firsts, size = range(0, spec.episodes, spec.together), spec.together
    return [k for k in firsts if any(i not in found for i in range(k, min(k + size, spec.episodes)))]


# -- groups of scenes --------------------------------------------------------------------------------


class _Runner:
    """Runs groups and films scenes, here or on workers; a context manager."""

    def __init__(self, spec: RolloutSpec, world: WorldInfo, workers: Workers) -> None:
        self._spec, self._world, self._workers = spec, world, workers
        self._open, self._stack = OpenWorlds(), ExitStack()

    def __enter__(self) -> _Runner:
        self._stack.enter_context(self._open)
        self._stack.enter_context(_one_thread(self._spec))
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.close()

    def groups(self, firsts: Sequence[int]) -> Iterator[list[RolloutEpisode]]:
        run = partial(_run_group, worlds=self._open) if self._workers.inline else _run_group_in_worker
        for _, episodes in self._workers.map(run, [(self._spec, self._world, first) for first in firsts]):
            yield episodes

    def filmed(self, episodes: Sequence[RolloutEpisode], most: int) -> tuple[RolloutEpisode, ...]:
        if self._workers.inline:
            return filmed(
                self._spec,
                episodes,
                most,
                lambda _, items: [(k, film(*item, self._open)) for k, item in enumerate(items)],
            )
        return filmed(self._spec, episodes, most, self._workers.map)


def _run_group_in_worker(item: Item) -> list[RolloutEpisode]:
    return _run_group(item, worlds_of_this_process())


def _run_group(item: Item, worlds: OpenWorlds) -> list[RolloutEpisode]:
    spec, world, first = item
    actor = spec.actor.build(world)
    scenes = [Scene(spec, first + slot, actor, worlds, slot) for slot in range(spec.together)]
    while running := [scene for scene in scenes if scene.running]:
        if spec.rtc:
            _continue(running, actor)
            continue
        chunks = actor.act([scene.situation() for scene in running])
        for scene, chunk_TA in zip(running, chunks, strict=True):
            scene.execute(chunk_TA)
    return [scene.result() for scene in scenes if scene.index < spec.episodes]


def _continue(scenes: Sequence[Scene], actor: Actor) -> None:
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
