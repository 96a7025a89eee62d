"""Windows of rows in memory: where their steps fall, and the values between rows.

Legend: n anchors, H history, T horizon, K either, S state dims, A action dims.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from foundry_testing import loader_fixtures
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.normalization.resampling import between
from robot_foundry.normalization.rotation import axis_angle_to_matrix, matrix_to_rot6d, rot6d_to_matrix
from robot_foundry.normalization.space import ActionSpace, dims_for
from robot_foundry.windows.chunks import Anchors, Frames, Window, WindowPlan, windows
from robot_foundry.windows.moments import chunk_moments, history_moments
from robot_foundry.windows.timing import Steps

POSE = ActionSpace(loader_fixtures.POSE)


# --- places -------------------------------------------------------------------------------------------------


def test_places_clamp_and_mask() -> None:
    chunk = chunk_moments([0, 3, 9], [0, 0, 5], [5, 5, 10], horizon=3, step=2)
    assert chunk.low_nK.tolist() == [[0, 2, 4], [3, 4, 4], [9, 9, 9]]
    assert chunk.inside_nK.tolist() == [[True, True, True], [True, False, False], [True, False, False]]
    seen = history_moments([0, 6, 9], [0, 5, 5], history=3)
    assert seen.low_nK.tolist() == [[0, 0, 0], [5, 5, 6], [7, 8, 9]]
    assert seen.inside_nK.tolist() == [[False, False, True], [False, True, True], [True, True, True]]
    assert not chunk.share_nK.any() and not seen.share_nK.any()


def test_places_between_rows() -> None:
    chunk = chunk_moments(2, 0, 7, horizon=5, step=1.5)
    assert chunk.low_nK.tolist() == [[2, 3, 5, 6, 6]] and chunk.share_nK.tolist() == [[0, 0.5, 0, 0, 0]]
    assert chunk.inside_nK.tolist() == [[True, True, True, False, False]]  # 6.5 is past the last row
    seen = history_moments(2, 0, history=4, step=0.75)
    assert seen.low_nK.tolist() == [[0, 0, 1, 2]] and seen.share_nK.tolist() == [[0, 0.5, 0.25, 0]]
    assert seen.inside_nK.tolist() == [[False, True, True, True]]
    thirds = chunk_moments(0, 0, 100, horizon=31, step=20 / 30)
    assert thirds.low_nK[0, 3::3].tolist() == list(range(2, 21, 2)) and not thirds.share_nK[0, ::3].any()


@settings(deadline=None)
@given(
    st.integers(0, 50), st.integers(1, 50), st.integers(1, 8), st.floats(0.05, 4), st.floats(0, 1, width=16)
)
def test_places_stay_inside(start: int, length: int, count: int, step: float, at: float) -> None:
    row = start + min(int(at * length), length - 1)
    chunk = chunk_moments(row, start, start + length, count, step)
    seen = history_moments(row, start, count, step)
    for places in (chunk, seen):
        high = places.low_nK + (places.share_nK > 0)
        assert places.low_nK.min() >= start and high.max() < start + length
        assert ((places.share_nK >= 0) & (places.share_nK < 1)).all()
    ahead, ago = np.arange(count) * step, np.arange(count - 1, -1, -1) * step
    for places, exact in ((chunk, row + ahead), (seen, row - ago)):
        found = (places.low_nK + places.share_nK)[places.inside_nK]
        np.testing.assert_allclose(found, exact[places.inside_nK[0]], atol=1e-6)


# --- values -------------------------------------------------------------------------------------------------


def window_at(state: Any, target: Any, row: int, steps: Steps, rate: float, flags: Any = None) -> Window:
    """The window of one anchor in an episode of these rows."""
    length = len(state)
    flags = np.zeros(length, np.uint32) if flags is None else flags
    bounds = (np.array([value]) for value in (row, 0, length, 0))
    anchors = Anchors(np.zeros(1, np.int32), *bounds, steps.rows(np.array([rate])))
    plan = WindowPlan(POSE, POSE, "absolute", steps, steps.horizon, steps.history)
    return windows(anchors, {0: Frames(state, target, flags)}, plan)


def screw(time: Any, seed: int) -> np.ndarray:
    """A tool that turns about an axis through itself and moves along it, both at constant speed: float64."""
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    speed, spin = rng.uniform(-0.3, 0.3), rng.uniform(-8, 8)
    first = axis_angle_to_matrix(rng.normal(size=3))
    turned = axis_angle_to_matrix(np.asarray(time)[:, None] * spin * axis) @ first
    position = rng.uniform(-0.4, 0.4, 3) + np.asarray(time)[:, None] * speed * axis
    opening = 0.2 + 0.1 * np.asarray(time)
    return np.concatenate([position, matrix_to_rot6d(turned), opening[:, None]], axis=1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(5, 60), st.floats(5, 60), st.integers(8, 20))
def test_a_screw_of_constant_velocity_is_resampled_exactly(
    seed: int, rate: float, control_hz: float, row: int
) -> None:
    rows = screw(np.arange(30) / rate, seed).astype(np.float32)
    found = window_at(rows, rows, row, Steps(9, 4, 1, control_hz), rate)
    inside = found.inside_nT[0]
    ahead = row / rate + np.arange(9) / control_hz
    np.testing.assert_allclose(found.target_nTA[0][inside], screw(ahead, seed)[inside], atol=1e-6)
    ago = row / rate - np.arange(3, -1, -1) / control_hz
    seen = ago > -1e-9
    np.testing.assert_allclose(found.state_nHS[0][seen], screw(ago, seed)[seen], atol=1e-6)


def test_rotations_turn_as_scipy_turns_them() -> None:
    rng = np.random.default_rng(0)
    ends = Rotation.random(2000, random_state=1)
    rows = rng.normal(size=(2000, 10))
    rows[:, 3:9] = matrix_to_rot6d(ends.as_matrix())
    share = rng.random(1000)
    found = rot6d_to_matrix(between(rows[:1000], rows[1000:], share, POSE)[:, 3:9])
    for i in range(1000):
        expected = Slerp([0, 1], Rotation.concatenate([ends[i], ends[1000 + i]]))(share[i])
        np.testing.assert_allclose(found[i], expected.as_matrix(), atol=1e-9)


def test_a_yaw_takes_the_shorter_way_round() -> None:
    space = ActionSpace([*dims_for("base.position"), *dims_for("base.yaw")])
    low, high = np.array([[0.0, 0, 3.0]]), np.array([[1.0, 2, -3.0]])
    middle = between(low, high, np.array([0.5]), space)[0]
    assert middle[:2].tolist() == [0.5, 1] and abs(middle[2]) == pytest.approx(np.pi)


def test_a_value_between_rows_counts_if_both_rows_are_valid() -> None:
    rows = screw(np.arange(6) / 10, 1).astype(np.float32)
    flags = np.zeros(6, np.uint32)
    flags[2] = Flag.INVALID_ACTION
    found = window_at(rows, rows, 0, Steps(10, 1, 1, 20), 10, flags)  # targets at rows 0, 0.5, 1, …
    assert found.usable_nT[0].tolist() == [True] * 3 + [False] * 3 + [True] * 4
    flags[2] = Flag.INVALID_STATE
    assert window_at(rows, rows, 3, Steps(1, 2, 1, 15), 10, flags).state_mask_nS.sum() == 0  # at 2.33
