"""Datasets that are of another kind than the layout has: told as what they are, never as absent."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from foundry_testing.ingested import Ingested
from make_robomimic import make

from robot_foundry.cli.foundry_data import group

HERE = Path(__file__).parent
FRAMES = 12
POSITION = "obs/robot0_eef_pos"


def ingested(tmp_path, name, value, mapping=()):
    """A file of two demonstrations, the first with `value` under the name: a group for None."""
    path = make(tmp_path / "in.hdf5", seed=0, episodes=2, frames=FRAMES, size=16)
    with h5py.File(path, "a") as file:
        demo = file["data/demo_0"]
        for held in (name, name.removesuffix("/x")):
            if held in demo:
                del demo[held]
        if value is None:
            demo.create_group(name)
        else:
            demo[name] = value
    return Ingested("robomimic", path, tmp_path / "store", list(mapping))


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


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("actions", np.ones((FRAMES, 7), complex), "'actions' is an array of complex128, not of numbers"),
        ("actions", np.array([b"1"] * FRAMES), "'actions' is an array of texts, not of numbers"),
        ("actions", None, "'actions' is a group, not an array"),
        ("obs", np.zeros((FRAMES, 3)), "'obs' is an array of float64, not a group"),
        (POSITION, np.zeros(FRAMES, [("x", "f8"), ("y", "f8")]), "its type is [('x', '<f8'), ('y', '<f8')]"),
        (POSITION, None, f"'{POSITION}', which is no array here: it is a group that holds nothing"),
        (POSITION, np.array([b"1 2 3"] * FRAMES), "it holds a text a frame"),
        (POSITION, "1 2 3", "it is an attribute or a text"),
        (POSITION, h5py.SoftLink(f"/data/demo_0/{POSITION}"), "it is a soft link in a circle"),
        (f"{POSITION}/x", np.zeros(FRAMES), f"it is a group, of {POSITION}/x"),
    ],
)
def test_another_type_is_told_as_what_it_is(name, value, told, tmp_path):
    made = ingested(tmp_path, name, value)
    (reason,) = made.reasons.values()
    assert told in reason and "did you mean" not in reason
    assert list(made.rows) == ["demo_1"]


@pytest.mark.filterwarnings("error")
def test_an_enumeration_is_stored_as_its_numbers_without_a_warning(tmp_path):
    mode_N = np.arange(FRAMES) % 2
    made = ingested(tmp_path, "obs/mode", mode_N.astype(h5py.enum_dtype({"A": 0, "B": 1}, basetype="i1")))
    np.testing.assert_array_equal(made.source("demo_0")["obs/mode"], mode_N)


def test_texts_of_another_kind_are_no_instructions(tmp_path):
    phase_N = np.array([b"reach"] * 5 + [b"grasp"] * (FRAMES - 5))
    ingested(tmp_path, "obs/phase", phase_N, ["mapping.instruction=[{text: lift it}]"])
    opened = ["--store", str(tmp_path / "store")]
    shown = CliRunner().invoke(group, ["show", "made", *opened]).stdout
    assert "annotation   obs/phase: 2 texts" in shown
    assert [line for line in shown.splitlines() if line.startswith("instruction ")] == [
        "instruction  'lift it' × 2"
    ]
    values = json.loads(CliRunner().invoke(group, ["show", "made", "--json", *opened]).stdout)["episodes"]
    assert values["instructions"] == {"lift it": 2} and values["annotations"] == {"obs/phase": 2}
