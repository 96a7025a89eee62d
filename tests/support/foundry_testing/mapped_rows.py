"""Canonical rows of arrays in memory, by a spec in memory. Legend: N frames."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from robot_foundry.ingest.robot.content.survey import Surveyed
from robot_foundry.ingest.robot.mapping import canonical
from robot_foundry.ingest.robot.resolve import resolve
from robot_foundry.ingest.robot.spec.spec_reader import spec_from_json

POSITION = {"right.ee_position": {"key": "p"}}


def spec_of(state, actions=None, **mapping):
    values = {"embodiment": "arm", "state": state, "actions": actions or {}, **mapping}
    return spec_from_json({"layout": "robomimic", "mapping": values}, "test")


def episode_of(arrays, *, environment=None, attributes=None):
    return {
        "id": "demo_0",
        "source": {"path": "f.hdf5"},
        "num_frames": len(next(iter(arrays.values()))),
        "fps": 20.0,
        "cameras": {},
        "attributes": attributes or {},
        "environment": environment or {},
    }


def survey_of(arrays, key="demo-0", **episode):
    return Surveyed(key, episode_of(arrays, **episode), {name: a.shape for name, a in arrays.items()})


def rows_of(spec, arrays, **episode):
    """The canonical rows of one episode, and the names of the dims of state and streams."""
    item = survey_of(arrays, **episode)
    found = resolve(spec.mapping, [item])
    assert not found.problems, found.problems
    timed = {**arrays, "timestamp": np.arange(item.episode["num_frames"]) / 20.0}
    return canonical(found.mapping, found.schema, item.episode, timed), found.schema


def rotations(seed, n=6):
    return Rotation.random(n, random_state=seed)
