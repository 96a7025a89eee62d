"""meta/info.json: the version of the layout, the rate, and what each column holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.lerobot.json_meta import json_object, whole
from robot_foundry.ingest.sources.lerobot.places import INFO
from robot_foundry.ingest.sources.robot.clock import rate_in

VERSIONS = re.compile(r"v?(2\.[01]|3\.[0-9]+)(\.[0-9]+)?")
VIDEO, IMAGE, AUDIO = "video", "image", "audio"
_RANGE = re.compile(r"([0-9]{1,12}):([0-9]{1,12})")


@dataclass(frozen=True)
class Feature:
    """A column or video. `shape` is that of a row, `names` and `units` of its numbers; None where not told.

    LeRobot knows no units: who writes names of our scheme tells them (`export.lerobot`).
    """

    key: str
    dtype: str
    shape: tuple[int, ...] | None
    names: tuple[str, ...] | None
    is_depth: bool
    units: tuple[str, ...] | None = None

    @property
    def size(self) -> int | None:
        """Numbers in a row."""
        return None if self.shape is None else prod(self.shape)


@dataclass(frozen=True)
class Info:
    """`splits` are (name, first episode, end); `total_…` what it counts, None where it does not.

    `fps` is None where what it states (`stated_fps`, as JSON has it) is no rate.
    """

    version: str
    robot: str | None
    fps: float | None
    stated_fps: Any
    features: Mapping[str, Feature]
    splits: tuple[tuple[str, int, int], ...]
    video_path: str | None
    chunk_size: int
    total_episodes: int | None
    total_frames: int | None

    def split_of(self, episode: int) -> str | None:
        """The split that an episode is in."""
        return next((name for name, start, end in self.splits if start <= episode < end), None)


def read_info(content: bytes) -> Info:
    """Refused if it does not say what is read here."""
    values = json_object(content, INFO)
    version = values.get("codebase_version")
    if not isinstance(version, str) or not VERSIONS.fullmatch(version):
        stated = f"says the version {str(version)[:40]!r}" if version else "says no codebase_version"
        raise Refused(
            f"{INFO} {stated}, and v2.0, v2.1 and v3.0 are read: LeRobot's own scripts convert others"
        )
    features = values.get("features")
    if not isinstance(features, dict) or not features:
        raise Refused(f"{INFO} has no features, so nothing says what the columns hold")
    robot, template = values.get("robot_type"), values.get("video_path")
    return Info(
        version=version.removeprefix("v"),
        robot=robot if isinstance(robot, str) and robot else None,
        fps=rate_in(values.get("fps")),
        stated_fps=values.get("fps"),
        features={str(key): _feature(str(key), value) for key, value in features.items()},
        splits=tuple(_splits(values.get("splits"))),
        video_path=template if isinstance(template, str) else None,
        chunk_size=whole(values.get("chunks_size")) or 1000,
        total_episodes=whole(values.get("total_episodes")),
        total_frames=whole(values.get("total_frames")),
    )


def _splits(values: Any) -> Iterator[tuple[str, int, int]]:
    for name, stated in values.items() if isinstance(values, dict) else ():
        found = _RANGE.fullmatch(stated) if isinstance(stated, str) else None
        if found is not None:
            yield str(name), int(found[1]), int(found[2])


def _feature(key: str, values: Any) -> Feature:
    if not isinstance(values, dict):
        raise Refused(f"{INFO} says of the feature '{key[:80]}' no dtype and shape")
    sides = values.get("shape")
    shape = tuple(map(whole, sides)) if isinstance(sides, list) else (None,)
    about = {**_section(values.get("video_info")), **_section(values.get("info"))}
    return Feature(
        key,
        str(values.get("dtype")),
        None if None in shape else tuple(side for side in shape if side is not None),
        _names(values.get("names")),
        any(about.get(name) is True for name in ("video.is_depth_map", "is_depth_map")),
        _units(values.get("units")),
    )


def _units(values: Any) -> tuple[str, ...] | None:
    is_told = isinstance(values, list) and all(
        isinstance(unit, str) and 0 < len(unit) <= 20 for unit in values
    )
    return tuple(values) if is_told else None


def _section(values: Any) -> Mapping[str, Any]:
    return values if isinstance(values, dict) else {}


def _names(values: Any) -> tuple[str, ...] | None:
    """The names in a list, a list of lists, lists by group, or with their numbers by name."""
    if isinstance(values, dict) and values and all(whole(at) is not None for at in values.values()):
        return tuple(sorted(map(str, values), key=lambda name: values[name]))
    found = tuple(_flat(values))
    return found or None


def _flat(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, list | dict):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _flat(value)
