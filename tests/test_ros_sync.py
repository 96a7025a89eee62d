"""Messages at their own times become rows at the times of frames: closed forms, and tables by hand.

Legend: N frames, K messages.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.ros.times.clocks import clocked
from robot_foundry.ingest.sources.ros.times.sync import frame_times, match, rows, slerp
from robot_foundry.normalization.resampling import between
from robot_foundry.normalization.rotation import matrix_to_rot6d, quaternion_to_matrix
from robot_foundry.normalization.space import ActionSpace, dims_for

MS, SECOND = 1_000_000, 1_000_000_000
EVER = np.inf


def ns(seconds):
    return np.rint(np.asarray(seconds, np.float64) * SECOND).astype(np.int64)


def test_a_line_is_met_exactly_between_messages():
    times = ns(np.arange(0, 1, 0.1))
    values = np.stack([3.0 * times / SECOND - 1.0, 7.0 - times / SECOND], axis=1)
    frames = ns(np.arange(0.003, 0.9, 0.0137))
    got = rows(values, match(frames, times, "linear", 0.1 * SECOND), "linear", ())
    expected = np.stack([3.0 * frames / SECOND - 1.0, 7.0 - frames / SECOND], axis=1)
    assert np.abs(got - expected).max() < 1e-12


def test_a_frame_at_a_message_has_its_numbers_bit_for_bit():
    times, values = ns([0.1, 0.2, 0.3]), np.array([[0.1], [1 / 3], [0.7]])
    got = rows(values, match(times, times, "linear", 1), "linear", ())
    assert got.tobytes() == values.tobytes()


@pytest.mark.parametrize("axis", [[0, 0, 1], [1, 0, 0], [0.6, 0.0, 0.8]])
def test_slerp_goes_the_short_way_through_half_a_turn(axis):
    low = Rotation.from_rotvec(np.radians(170) * np.array(axis))
    high = Rotation.from_rotvec(np.radians(-170) * np.array(axis))  # 20 degrees further, through 180
    shares = np.linspace(0, 1, 11)
    expected = Slerp([0, 1], Rotation.concatenate([low, high]))(shares)
    for sign in (1.0, -1.0):
        got = slerp(np.tile(low.as_quat(), (11, 1)), np.tile(sign * high.as_quat(), (11, 1)), shares[:, None])
        assert (expected.inv() * Rotation.from_quat(got)).magnitude().max() < 1e-12
    angles = (Rotation.from_quat(got) * low.inv()).magnitude()
    assert np.degrees(angles) == pytest.approx(20 * shares, abs=1e-9)


def test_slerp_is_that_of_resampling():
    rng = np.random.default_rng(0)
    low, high = (Rotation.random(50, random_state=rng).as_quat() for _ in range(2))
    share = rng.random(50)
    space = ActionSpace(dims_for("right.ee_rot6d", count=6))
    columns = [matrix_to_rot6d(quaternion_to_matrix(q)) for q in (low, high)]
    expected = between(*columns, share, space)
    got = matrix_to_rot6d(quaternion_to_matrix(slerp(low, high, share[:, None])))
    assert np.abs(got - expected).max() < 1e-9


def test_slerp_of_equal_and_of_empty_quaternions():
    one = np.array([[0.0, 0.0, 0.6, 0.8]])
    assert slerp(one, 2 * one, np.array([[0.5]])) == pytest.approx(one)
    assert np.isnan(slerp(one, 0 * one, np.array([[0.5]]))).all()


def test_a_fast_and_a_slow_stream_at_15_hz_by_hand():
    """1 kHz counts milliseconds; 10 Hz counts tenths. Frames are at 0, 66.666667, 133.333333, … ms."""
    fast, slow = np.arange(1000) * MS, np.arange(10) * 100 * MS
    frames = frame_times(0, 400 * MS, 15)
    assert frames.tolist() == [0, 66666667, 133333333, 200000000, 266666667, 333333333, 400000000]
    counted_fast, counted_slow = np.arange(1000.0)[:, None], np.arange(10.0)[:, None]

    def at(values, times, method, within=EVER):
        return rows(values, match(frames, times, method, within), method, ())[:, 0].tolist()

    assert at(counted_fast, fast, "nearest") == [0, 67, 133, 200, 267, 333, 400]
    assert at(counted_fast, fast, "previous") == [0, 66, 133, 200, 266, 333, 400]
    assert at(counted_fast, fast, "linear") == pytest.approx(
        [0, 66.666667, 133.333333, 200, 266.666667, 333.333333, 400], abs=1e-9
    )
    assert at(counted_slow, slow, "nearest") == [0, 1, 1, 2, 3, 3, 4]
    assert at(counted_slow, slow, "previous") == [0, 0, 1, 2, 2, 3, 4]
    assert at(counted_slow, slow, "linear") == pytest.approx(
        [0, 0.66666667, 1.33333333, 2, 2.66666667, 3.33333333, 4], abs=1e-12
    )
    # Within 40 ms: frames 66.7 and 266.7 are 33.3 from the next tenth, but 66.7 from the last one.
    near = at(counted_slow, slow, "previous", 40 * MS)
    assert [v if v == v else None for v in near] == [0, None, 1, 2, None, 3, 4]


def test_of_two_as_near_the_earlier_is_taken_and_of_two_at_one_time_the_later():
    assert match(ns([0.5]), ns([0.0, 1.0]), "nearest", EVER).low.tolist() == [0]
    assert match(ns([0.5]), ns([0.5, 0.5, 1.0]), "linear", EVER).low.tolist() == [1]


def test_a_gap_is_left_empty_and_never_bridged():
    times, values = ns([0.0, 0.1, 0.2, 1.2, 1.3]), np.arange(5.0)[:, None]
    frames = ns([0.15, 0.2, 0.25, 0.7, 1.15, 1.2, 1.25, 1.4])
    for method, expected in (
        ("linear", [1.5, 2, None, None, None, 3, 3.5, None]),
        ("nearest", [1, 2, 2, None, 3, 3, 3, 4]),
        ("previous", [1, 2, 2, None, None, 3, 3, 4]),
    ):
        got = rows(values, match(frames, times, method, 0.101 * SECOND), method, ())[:, 0]
        assert [None if np.isnan(v) else round(v, 9) for v in got] == expected, method


def test_no_frame_is_before_the_first_message_or_after_the_last():
    used = match(ns([-0.1, 2.0]), ns([0.0, 1.0]), "linear", EVER)
    assert used.low.tolist() == [-1, -1]
    assert match(ns([-0.1]), ns([0.0]), "previous", EVER).low.tolist() == [-1]
    assert match(ns([0.0]), ns([]), "nearest", EVER).low.tolist() == [-1]


STAMPS = ns([10.0, 10.1, 10.2, 10.3, 5.0, 5.1, 5.2])  # set back by 5.3 s at message 4
RECEIVED = ns([10.0, 10.1, 10.2, 10.3, 10.4, 10.5, 10.6])


def test_a_clock_that_jumps_back_is_not_gone_by_unless_it_is_asked_for():
    auto = clocked(STAMPS, RECEIVED, "auto", "arm")
    assert auto.measures["clock"] == "receive" and auto.times.tolist() == RECEIVED.tolist()
    assert "set back" in auto.remark
    asked = clocked(STAMPS, RECEIVED, "header", "arm")
    assert asked.places.tolist() == [0, 1, 2, 3]
    assert asked.measures["set_back"] == 3 and "lacks messages" in asked.remark


def test_messages_that_swapped_on_the_way_are_put_in_their_place_and_counted():
    stamps = ns([1.0, 1.2, 1.1, 1.3])
    made = clocked(stamps, stamps + 5 * MS, "auto", "arm")
    assert made.places.tolist() == [0, 2, 1, 3]
    assert made.measures["late"] == 1 and made.measures["clock"] == "header"


def test_headers_without_a_time_and_of_another_clock():
    none = clocked(np.zeros(3, np.int64), ns([1, 2, 3]), "auto", "arm")
    assert none.measures["clock"] == "receive" and none.remark is None
    since_power_on = clocked(ns([1, 2, 3]), ns([1e9 + 1, 1e9 + 2, 1e9 + 3]), "auto", "arm")
    assert "another clock" in since_power_on.remark
    with pytest.raises(Refused, match="2 of 3 messages of its stream 'arm' lack a time"):
        clocked(np.array([SECOND, 0, 0]), ns([1, 2, 3]), "header", "arm")


def test_rate_jitter_losses_and_drift_are_measured():
    stamps = np.delete(np.arange(101) * 10 * MS, [40, 41, 70])  # 100 Hz, three lost
    delays = 2 * MS + np.rint(stamps * 50e-6).astype(np.int64)  # the receiver runs 50 ppm faster
    measured = clocked(SECOND + stamps, SECOND + stamps + delays, "auto", "arm").measures
    assert measured["rate_hz"] == 100.0 and measured["lost"] == 3
    assert measured["longest_step_ms"] == 30.0
    assert measured["drift_ppm"] == pytest.approx(50.0, abs=0.1)
    assert measured["delay_ms"] == [2.0, pytest.approx(2.025, abs=0.001), 2.05]
