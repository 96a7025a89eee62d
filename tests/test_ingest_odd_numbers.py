"""Numbers that are none, or far too large, in every array: flagged or refused, and no warning of NumPy's."""

from __future__ import annotations

import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from foundry_testing.ingested import Ingested
from make_robomimic import make

from robot_foundry.catalog.validation.validate import validate

HERE = Path(__file__).parent
SUCCESS = ["mapping.success=[{key: rewards, at_least: 1}]"]
INVALID = 8 | 16


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e39, 1e300])
@pytest.mark.parametrize("rows", ["some", "all"])
def test_odd_numbers_are_flagged_without_a_warning(odd, rows, tmp_path):
    path = make(tmp_path / "in.hdf5", seed=0, episodes=3, frames=30, size=16)
    with h5py.File(path, "a") as file:
        for name in ("obs/robot0_eef_pos", "obs/robot0_eef_quat", "obs/robot0_gripper_qpos", "rewards"):
            values = file[f"data/demo_0/{name}"][()].astype(np.float64)
            values[[3, 9] if rows == "some" else slice(None)] = odd
            values[4 if rows == "some" else slice(1, None, 2)] = -odd
            del file[f"data/demo_0/{name}"]
            file[f"data/demo_0/{name}"] = values
        file["data/demo_1/rewards"][...] = np.nan if odd != odd else 0.0
    made = Ingested("robomimic", path, tmp_path / "store", ["mapping.success=[{key: rewards, at_least: 1}]"])
    if rows == "some":
        flags_N = made.column("demo_0", "flags")
        assert set(np.flatnonzero(flags_N & INVALID)) >= {3, 4, 9}
    else:
        assert list(made.reasons.values()) == ["no frame of it has a finite state and action"]
    assert made.rows["demo_1"]["success"] == (None if np.isnan(odd) else False)
    assert not validate("made", store=tmp_path / "store", deep=True)[0].damage
