"""Demonstrations of a world's scripted expert, written in one of the formats of `evaluation.recorders`.

Equal arguments give equal demonstrations whatever the format and the number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from robot_foundry import __version__
from robot_foundry.evaluation.appearing import appearing
from robot_foundry.evaluation.recorders.formats import (
    check_options,
    check_place,
    get_format,
    recorder,
    size_of,
)
from robot_foundry.evaluation.recorders.recorder import Common, Demonstration
from robot_foundry.evaluation.seeds import scene_seed
from robot_foundry.evaluation.world import Demonstrator
from robot_foundry.evaluation.worlds.registry import get_demonstrator
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.parallel import unordered_map
from robot_foundry.runtime.progress import Progress

EPISODES_PER_ITEM = 16
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Request:
    """What to record. `cameras` are roles, None for all that the task has; `size` is the image side."""

    task: str
    variant: str
    episodes: int
    seed: int
    cameras: tuple[str, ...] | None = None
    size: int = 64
    world: str = "tabletop"

    def demonstrator(self) -> Demonstrator:
        return get_demonstrator(self.world, self.task, self.variant, cameras=self.cameras, size=self.size)

    def settings(self) -> dict[str, Any]:
        """What was asked of the world, which is named apart from it."""
        return {name: value for name, value in asdict(self).items() if name != "world"}


@dataclass(frozen=True)
class Collection:
    """What was written: counts that add up and where."""

    path: str
    format: str
    episodes: int
    successes: int
    frames: int
    bytes: int


def collect(
    request: Request,
    out: Path,
    *,
    to: str = "hdf5",
    options: Mapping[str, Any] = NO_OPTIONS,
    workers: int = 0,
    quiet: bool = False,
) -> Collection:
    """Record `request.episodes` demonstrations to `out`, which appears whole or not at all.

    `to` names the format and `options` are its own. `out` is a file, which is replaced, or a folder that is
    not there yet. FoundryError where another process writes it.
    """
    if request.episodes < 1:
        raise FoundryError(f"--episodes must be at least 1, got {request.episodes}")
    format, common = get_format(to), _common(request, request.demonstrator())
    check_options(format, options)
    successes = frames = 0
    with (
        appearing(out, partial(check_place, out, format), is_folder=format.is_folder) as place,
        recorder(format, place, common, options) as written,
        Progress(request.episodes, "episodes", f"collect {request.task}", quiet=quiet) as progress,
    ):
        for demonstration in _in_order(request, workers):
            written.add(demonstration)
            success = demonstration.recording.success
            successes += success
            frames += demonstration.num_frames
            progress.advance(1, errors=not success)
    return Collection(str(out), to, request.episodes, successes, frames, size_of(out))


def _record(item: tuple[Request, range]) -> list[Demonstration]:
    request, indices = item
    demonstrator = request.demonstrator()
    seeds = {index: scene_seed("collect", request.seed, index) for index in indices}
    return [Demonstration(index, seed, demonstrator.record(seed)) for index, seed in seeds.items()]


def _in_order(request: Request, workers: int) -> Iterator[Demonstration]:
    starts = range(0, request.episodes, EPISODES_PER_ITEM)
    items = ((request, range(a, min(a + EPISODES_PER_ITEM, request.episodes))) for a in starts)
    waiting: dict[int, list[Demonstration]] = {}
    expected = 0
    for index, group in unordered_map(_record, items, workers=workers):
        waiting[index] = group
        while expected in waiting:
            yield from waiting.pop(expected)
            expected += 1


def _common(request: Request, demonstrator: Demonstrator) -> Common:
    name, cameras = f"{request.world}_{request.task}", dict(demonstrator.cameras)
    return Common(
        name=name,
        embodiment=demonstrator.embodiment,
        control_hz=demonstrator.control_hz,
        columns=tuple(demonstrator.columns),
        cameras=cameras,
        environment={
            "env_name": name,
            "env_version": __version__,
            "env_kwargs": {
                **request.settings(),
                "control_freq": demonstrator.control_hz,
                "cameras": cameras,
            },
        },
    )
