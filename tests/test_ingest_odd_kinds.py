"""Datasets that are of another kind than the layout has: told as what they are, never as absent."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

HERE = Path(__file__).parent
h: Any = SimpleNamespace(**runpy.run_path(str(HERE / "ingested.py")))
make = runpy.run_path(str(HERE.parent / "examples" / "make_robomimic.py"))["make"]
FRAMES = 12
POSITION = "obs/robot0_eef_pos"


def ingested(tmp_path, name, value, mapping=()):
    """A file of two demonstrations, the first with `value` under the name: a group for None."""
    path = make(tmp_path / "in.hdf5", seed=0, episodes=2, frames=FRAMES, size=16)
    with h5py.File(path, "a") as file:
        demo = file["data/demo_0"]
        if name in demo:
            del demo[name]
        if value is None:
            demo.create_group(name)
        else:
            demo[name] = value
    return h.Ingested("robomimic", path, tmp_path / "store", list(mapping))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("obs/scalar", 3.0, "it has one number, not one a frame"),
        ("obs/one", np.ones((1, 1)), "it has one number, not one a frame"),
        ("obs/none", h5py.Empty("f8"), "it is empty"),
        ("obs/no_text", h5py.Empty(h5py.string_dtype()), "it is empty"),
        ("rewards", 1.0, "it has one number, not one a frame"),
    ],
)
def test_what_is_not_one_a_frame_is_left_out_and_refuses_nothing(name, value, reason, tmp_path):
    made = ingested(tmp_path, name, value)
    assert not made.reasons
    assert made.episode("demo_0")["left_out"][name] == reason


@pytest.mark.parametrize("value", ["pick it up", np.array([b"pick it up"])])
def test_one_text_among_the_observations_is_an_attribute(value, tmp_path):
    made = ingested(tmp_path, "obs/language_instruction", value)
    assert not made.reasons
    assert made.episode("demo_0")["attributes"]["obs/language_instruction"] == "pick it up"


def test_an_array_of_another_length_stays_refused(tmp_path):
    made = ingested(tmp_path, "obs/short", np.zeros((FRAMES - 2, 3)))
    (reason,) = made.reasons.values()
    assert f"actions has {FRAMES} frames, obs/short has {FRAMES - 2}" in reason
