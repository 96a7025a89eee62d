"""TFDS directories of the features that datasets publish, with recordings of robot motion in them.

Legend: T frames, d numbers of a feature.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundry_testing.oxe.published import DTYPES, IMAGES, features_in, published, write_folder
from foundry_testing.oxe.words import Take, numbers
from foundry_testing.rlds_directories import encoded, example_of
from robot_foundry.ingest.spec.yaml_text import parse_yaml

EPISODES = 6
SIDE = 8  # pixels of a picture, so that numbers take the time
# What else an entry of written.yaml may say of a dataset.
ABOUT = ("joints", "tool", "features")
LARGEST = 600  # numbers of a feature that nothing reads: clouds of points and maps of depth are left out

Episode = dict[str, NDArray[Any]]


@cache
def written() -> Mapping[str, Any]:
    """By dataset: what it writes, by the path of the feature, and what ABOUT it says."""
    path = Path(__file__).parent / "written.yaml"
    entries: Mapping[str, Any] = parse_yaml(path.read_text("utf-8"), path.name)
    return entries


def take_of(name: str, seed: int, fps: float, *, degrees: bool = False) -> Take:
    entry = written()[name]
    return Take(seed, fps, int(entry.get("joints", 7)), entry.get("tool") == "home", degrees)


def episode_of(name: str, take: Take) -> Episode:
    """The numbers of the steps of one recording, by path."""
    steps, _ = _features(name)
    kinds = {path: kind for path, kind in steps.items() if _word(kind) in DTYPES}
    return {path: _rows(written()[name], path, kind, take) for path, kind in kinds.items()}


def write_recordings(name: str, root: Path, fps: float, *, degrees: bool = False) -> None:
    """A folder of EPISODES recordings at that rate. `degrees` writes its angles in degrees, which the
    published ones do not."""
    steps, episode = _features(name)
    kinds = {f"steps/{path}": kind for path, kind in steps.items()} | episode
    of_episode = {path: _constant(kind, 1) for path, kind in episode.items()}
    records = []
    for seed in range(EPISODES):
        rows = _steps_of(name, take_of(name, seed, fps, degrees=degrees))
        example = {f"steps/{path}": each for path, each in rows.items()} | of_episode
        records.append(example_of({path: _stored(each, kinds[path]) for path, each in example.items()}))
    write_folder(name, root, steps, episode, records)


def _features(name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Of steps and of the episode, with small pictures and without what is large."""
    found = features_in(written()[name].get("features") or published()[name])
    of_step, of_episode = (
        {path: _small(kind) for path, kind in kinds.items() if _is_kept(kind)} for kinds in found
    )
    return of_step, of_episode


def _steps_of(name: str, take: Take) -> dict[str, Any]:
    return {path: _rows(written()[name], path, kind, take) for path, kind in _features(name)[0].items()}


def _stored(values: Any, kind: str) -> list[Any]:
    """As an Example of TFDS holds a feature of all steps: numbers one after another, else bytes."""
    word = _word(kind)
    if word == "z":
        return [zlib.compress(row.tobytes()) for row in values]
    if word == "s":
        return [text.encode() for text in values]
    if word in IMAGES:
        return list(values)
    return list((values.astype(np.int64) if word == "b" else values).ravel().tolist())


def _rows(entry: Mapping[str, Any], path: str, kind: str, take: Take) -> Any:
    """The rows of a feature in one recording."""
    count = len(take.base.position if "base_" in str(entry) else take.right.joints)
    if path not in entry or path in ABOUT:
        return _pictures(kind, count, take.seed) if _word(kind) in IMAGES else _constant(kind, count)
    dtype, shape = DTYPES[_word(kind)], _shape(kind)
    values_Td = numbers(entry[path], take)
    lacking = math.prod(shape) - values_Td.shape[1]
    values_Td = np.pad(values_Td, ((0, 0), (0, lacking)))
    if dtype in (np.bool_, np.int64, np.int32, np.uint8):
        values_Td = np.round(values_Td)
    return values_Td.reshape(count, *shape).astype(dtype)


def _constant(kind: str, count: int) -> Any:
    if _word(kind) == "s":
        return ["do it"] * count
    return np.zeros((count, *_shape(kind)), DTYPES[_word(kind)])


@cache
def _pictures(kind: str, count: int, seed: int) -> list[bytes]:
    """No two alike, as a camera's noise makes them."""
    channels, dtype, encoding = IMAGES[_word(kind)]
    rng = np.random.default_rng(seed)
    if dtype == np.float32:
        channels, dtype = 4, np.uint8
    shape = (count, SIDE, SIDE) if channels == 1 else (count, SIDE, SIDE, channels)
    return [encoded(picture, encoding) for picture in rng.integers(0, 255, shape).astype(dtype)]


def _small(kind: str) -> str:
    return f"{_word(kind)} {SIDE} {SIDE}" if _word(kind) in IMAGES else kind


def _is_kept(kind: str) -> bool:
    return _word(kind) in ("s", *IMAGES) or math.prod(_shape(kind)) <= LARGEST


def _word(kind: str) -> str:
    return kind.split()[0]


def _shape(kind: str) -> tuple[int, ...]:
    return tuple(map(int, kind.split()[1:]))
