"""Canonical rows of arrays in memory, by a spec in memory. Legend: N frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot_foundry.catalog.robot.schema import Schema
from robot_foundry.ingest.robot.content.survey import Surveyed
from robot_foundry.ingest.robot.mapping import Canonical, canonical
from robot_foundry.ingest.robot.resolve import resolve
from robot_foundry.ingest.robot.spec.spec import Spec
from robot_foundry.ingest.robot.spec.spec_reader import spec_from_json

POSITION = {"right.ee_position": {"key": "p"}}
Arrays = Mapping[str, NDArray[Any]]


def spec_of(state: Mapping[str, Any], actions: Mapping[str, Any] | None = None, **mapping: Any) -> Spec:
    values = {"embodiment": "arm", "state": state, "actions": actions or {}, **mapping}
    return spec_from_json({"layout": "robomimic", "mapping": values}, "test")


def episode_of(
    arrays: Arrays,
    *,
    environment: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "id": "demo_0",
        "source": {"path": "f.hdf5"},
        "num_frames": len(next(iter(arrays.values()))),
        "fps": 20.0,
        "cameras": {},
        "attributes": attributes or {},
        "environment": environment or {},
    }


def survey_of(arrays: Arrays, key: str = "demo-0", **episode: Any) -> Surveyed:
    return Surveyed(key, episode_of(arrays, **episode), {name: a.shape for name, a in arrays.items()})


def rows_of(spec: Spec, arrays: Arrays, **episode: Any) -> tuple[Canonical, Schema]:
    """The canonical rows of one episode, and their schema."""
    item = survey_of(arrays, **episode)
    found = resolve(spec.mapping, [item])
    assert not found.problems, found.problems
    timed = {**arrays, "timestamp": np.arange(item.episode["num_frames"]) / 20.0}
    return canonical(found.mapping, found.schema, item.episode, timed), found.schema


def rotations(seed: int, n: int = 6) -> Rotation:
    return Rotation.random(n, random_state=seed)
