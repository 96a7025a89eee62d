"""Demonstrations of a world's scripted expert, written as robomimic-style HDF5.

Layout: `/data` with attributes `total` (frames) and `env_args` (JSON); `/data/demo_<i>` with attributes
num_samples, instruction, success, embodiment and seed, and the arrays that the world's expert recorded, of
equal length: `actions`, with the attribute `columns`, and `obs/…`. Equal arguments give equal arrays whatever
the number of workers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py

from robot_foundry import __version__
from robot_foundry.evaluation.seeds import scene_seed
from robot_foundry.evaluation.world import Demonstrator, Recording
from robot_foundry.evaluation.worlds.registry import get_demonstrator
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.parallel import unordered_map
from robot_foundry.runtime.progress import Progress

EPISODES_PER_ITEM = 16


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
class Demonstration:
    """One recorded episode: what goes into its HDF5 group."""

    index: int
    seed: int
    recording: Recording

    @property
    def num_frames(self) -> int:
        return len(self.recording.arrays["actions"])


@dataclass(frozen=True)
class Collection:
    """What was written: counts that add up and where."""

    path: str
    episodes: int
    successes: int
    frames: int
    bytes: int


def collect(request: Request, out: Path, *, workers: int = 0, quiet: bool = False) -> Collection:
    """Record `request.episodes` demonstrations into the file `out`, which appears whole or not at all."""
    if request.episodes < 1:
        raise FoundryError(f"--episodes must be at least 1, got {request.episodes}")
    demonstrator = request.demonstrator()
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    successes = frames = 0
    try:
        with (
            h5py.File(partial, "w") as file,
            Progress(request.episodes, "episodes", f"collect {request.task}", quiet=quiet) as progress,
        ):
            data = file.create_group("data")
            for demonstration in _in_order(request, workers):
                _write(data, demonstration, demonstrator)
                success = demonstration.recording.success
                successes += success
                frames += demonstration.num_frames
                progress.advance(1, errors=not success)
            data.attrs["total"] = frames
            data.attrs["env_args"] = json.dumps(_env_args(request, demonstrator), sort_keys=True)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return Collection(str(out), request.episodes, successes, frames, out.stat().st_size)


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


def _env_args(request: Request, demonstrator: Demonstrator) -> dict[str, object]:
    return {
        "env_name": f"{request.world}_{request.task}",
        "env_version": __version__,
        "env_kwargs": {
            **request.settings(),
            "control_freq": demonstrator.control_hz,
            "cameras": dict(demonstrator.cameras),
        },
    }


def _write(data: h5py.Group, demonstration: Demonstration, demonstrator: Demonstrator) -> None:
    group = data.create_group(f"demo_{demonstration.index}")
    recording = demonstration.recording
    group.attrs["num_samples"] = demonstration.num_frames
    group.attrs["instruction"] = recording.instruction
    group.attrs["success"] = recording.success
    group.attrs["embodiment"] = demonstrator.embodiment
    group.attrs["seed"] = demonstration.seed
    for name, array in recording.arrays.items():
        if array.ndim == 4:
            # One frame a chunk: readers go frame by frame, and rendered pictures deflate about tenfold.
            group.create_dataset(
                name, data=array, chunks=(1, *array.shape[1:]), compression="gzip", compression_opts=1
            )
        else:
            group.create_dataset(name, data=array)
    group["actions"].attrs["columns"] = list(demonstrator.columns)
