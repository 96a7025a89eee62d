"""Times of frames: what tells the rate, and what cannot.

Legend: N frames.
"""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from foundry_testing.ingested import Ingested
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources import Refused
from robot_foundry.ingest.sources.robot.clock import clock_of, rate_in

EPOCH_S = 1.732e9
UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


def clock(times_N, unit="s", **content):
    measured = "clock", np.asarray(times_N), unit, "--set content.skip=[clock]"
    return clock_of(measured, len(times_N), Content(**content), epoch=True)


def test_float32_seconds_since_1970_are_refused_for_what_they_cannot_hold():
    times_N = (EPOCH_S + np.arange(60) / 15).astype(np.float32)
    told = r"'clock' .* they are float32, which at 1.732e\+09 tells no times apart that are less than 128 s"
    for content in ({}, {"fps": 15.0}):
        with pytest.raises(Refused, match=told):
            clock(times_N, **content)


@pytest.mark.parametrize(
    ("times_N", "unit", "told"),
    [
        (np.zeros(9), "s", "all of them are 0"),
        (np.full(9, 3, np.int64), "ns", "all of them are 3"),
        (np.arange(60) // 15 + int(EPOCH_S), "s", "are int64, which at .* less than 1 s from each other"),
        (np.array([0.0, 0.1, np.nan, 0.3]), "s", "the time of frame 2 is not finite"),
        (np.array([0.0, 0.1, 0.05, 0.3]), "s", "the time of frame 2 is before the one of the frame before"),
        (np.zeros((9, 2)), "s", r"it is float64 of shape \[9, 2\], for 9 frames"),
        (np.array(["a"] * 9), "s", "it is <U1 of shape"),
    ],
)
def test_the_reason_is_the_one_that_holds(times_N, unit, told):
    with pytest.raises(Refused, match=told):
        clock(times_N, unit)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([5.0, 10.0, 15.0, 30.0, 50.0, 120.0]),
    st.sampled_from(list(UNITS)),
    st.sampled_from(["float64", "int64"]),
    st.sampled_from([0.0, 1000.0, EPOCH_S]),
)
def test_a_type_that_holds_the_times_gives_the_rate(rate, unit, dtype, start_s):
    scale = UNITS[unit]
    times_N = np.round((start_s + np.arange(200) / rate) * scale, 9).astype(dtype)
    if dtype == "int64" and unit == "s":
        with pytest.raises(Refused, match="less than 1 s"):
            clock(times_N, unit)
        return
    found = clock(times_N, unit)
    assert found.fps == pytest.approx(rate, rel=0.02) and found.fps_source == "clock"
    assert np.abs(found.timestamp_N - np.arange(200) / rate).max() <= 1.0 / scale + 1e-5


def test_float32_seconds_of_a_day_give_the_rate_although_each_step_is_rounded():
    times_N = (86_400 + np.arange(200) / 15).astype(np.float32)
    assert np.unique(np.diff(times_N)).tolist() == [0.0625, 0.0703125]
    assert clock(times_N).fps == pytest.approx(15, rel=0.005)


def test_pairs_of_equal_times_give_the_rate_of_their_mean():
    assert clock(np.repeat(np.arange(3), 3) / 10).fps == pytest.approx(40)


def test_one_frame_has_the_default_rate():
    assert (clock([5.0]).fps, clock([5.0]).fps_source) == (20.0, "default")
    assert clock([5.0], fps=7.0).fps == 7.0


@pytest.mark.parametrize(
    ("stated", "rate"),
    [(15, 15.0), ("15", 15.0), ([15], 15.0), (["12.5"], 12.5)]
    + [(value, None) for value in ("15 Hz", True, 0, -5, float("nan"), "inf", [15, 15], {}, 10**400)],
)
def test_a_rate_is_a_positive_number_or_a_text_or_list_of_one(stated, rate):
    assert rate_in(stated) == rate


@pytest.mark.parametrize(
    ("settings", "fps", "warnings"),
    [
        ({"control_freq": "15"}, 15.0, []),
        (
            {"control_freq": "15 Hz"},
            20.0,
            [
                "1 of 1 episodes: 'env_args.env_kwargs.control_freq' is '15 Hz', which is no rate, so 20 Hz, "
                "the default, is taken: --set content.fps=… says it"
            ],
        ),
        ({}, 20.0, ["1 of 1 episodes tells no rate, so 20 Hz is taken: --set content.fps=… says it"]),
    ],
)
def test_a_rate_that_the_file_does_not_tell_is_told_of(tmp_path, settings, fps, warnings):
    spec = tmp_path / "lab.yaml"
    spec.write_text(
        "{name: lab, layout: robomimic, mapping: {embodiment: arm, "
        "tool_frame: tool, state: {right.ee_position: {key: obs/pos}}}}"
    )
    with h5py.File(tmp_path / "in.hdf5", "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps({"env_kwargs": settings})
        demo = file.create_group("data/demo_0")
        demo["actions"], demo["obs/pos"] = np.zeros((4, 3)), np.ones((4, 3))
    made = Ingested(spec, tmp_path / "in.hdf5", tmp_path / "store")
    assert made.episode("demo_0")["fps"] == fps
    assert [text for text in made.report.warnings if "rate" in text] == warnings
    given = Ingested(spec, tmp_path / "in.hdf5", tmp_path / "given", ["content.fps=15"])
    assert not any("rate" in text for text in given.report.warnings)
