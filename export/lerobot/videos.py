"""One video of the plan: what has to be known to write it, also in another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from robot_foundry.catalog.components import Component
from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.store import Store
from robot_foundry.export.lerobot.clips import Clip, Source
from robot_foundry.export.lerobot.dataset.pictures import Sampled
from robot_foundry.export.lerobot.dataset.statistics import ImageTotals, Stats
from robot_foundry.export.lerobot.dataset.video import VideoFile


@dataclass(frozen=True)
class VideoJob:
    """A video of the camera `name` (its own), whose feature is `key`; `size` is (height, width).

    `clips` are shown one behind the other, `places` name them in messages.
    """

    store: Store
    component: Component
    key: str
    name: str
    size: tuple[int, int]
    codec: str
    fps: float
    clips: tuple[Clip, ...]
    places: tuple[str, ...]


def write_video(place: Path, job: VideoJob) -> Mapping[str, Any]:
    """Write it to a local path. The facts are statistics of each clip and of all."""
    source, stats, totals = _source(job), list[Stats](), ImageTotals()
    with VideoFile(place, job.codec, job.fps, job.size) as video:
        for clip, where in zip(job.clips, job.places, strict=True):
            sampled = Sampled(source.images(clip, job.name), clip.num_frames, job.size, where)
            for rgb_hw3 in sampled.pixels():
                video.add(rgb_hw3)
            stats.append(sampled.totals.stats())
            totals.merge(sampled.totals)
    return {"stats": {job.key: stats}, "totals": {job.key: totals.to_json()}}


def _source(job: VideoJob) -> Source:
    """The version, opened once in a process and not for every video."""
    versions = _versions(job.store.url)
    return Source(versions.open_part(job.component))


@lru_cache(maxsize=1)
def _versions(url: str) -> OpenVersions:
    return OpenVersions(Store(url))
