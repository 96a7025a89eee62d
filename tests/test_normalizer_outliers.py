"""No single frame decides a scale: bounded, continuous, equivariant; constants stay constants.

Legend: N samples, T steps of a chunk.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.normalization.normalizer import Normalizer, Scaling
from robot_foundry.normalization.normalizer_report import report
from robot_foundry.normalization.space import ActionSpace, Dim
from robot_foundry.normalization.statistics import Statistics

HEIGHT = ActionSpace(["right.height"])  # m
FREE = ActionSpace([Dim("right.suction_pressure", "Pa", "other")])
SHAPES = ("normal", "uniform", "laplace", "bimodal", "quantised", "steps that are mostly small")


def samples(shape: str, seed: int, count: int) -> Any:
    """A continuous dimension of about 0.1 m, float64 [N]."""
    rng = np.random.default_rng(seed)
    drawn = {
        "normal": lambda: rng.normal(0, 0.1, count),
        "uniform": lambda: rng.uniform(-0.2, 0.3, count),
        "laplace": lambda: rng.laplace(0, 0.05, count),
        "bimodal": lambda: rng.choice([-0.3, 0.3], count) + rng.normal(0, 0.01, count),
        "quantised": lambda: np.round(rng.normal(0, 0.1, count), 3),
        "steps that are mostly small": lambda: rng.normal(0, 0.1, count) * rng.random(count) ** 3,
    }
    return drawn[shape]()


def scaling(values: Any, space: ActionSpace = HEIGHT, **how: Any) -> Scaling:
    return Normalizer.fit(Statistics.of(np.asarray(values)[:, None], None, space), **how).scalings[0]


outliers = st.floats(-12, 12).map(lambda power: 10.0**power) | st.just(1e30)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 2**32), st.integers(200, 1500), outliers, st.booleans())
def test_one_outlier_of_any_magnitude_changes_a_scale_by_less_than_twice(shape, seed, count, far, below):
    values = samples(shape, seed, count)
    right = scaling(values)
    values[seed % count] = -far if below else far
    spoilt = scaling(values)
    assert 0.5 <= spoilt.scale / right.scale <= 2
    assert abs(spoilt.centre - right.centre) <= right.scale
    assert (spoilt.outlier is None) == (far < 10 * spoilt.scale) or 5 < far / spoilt.scale < 20


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 2**32), st.sampled_from([4, 16, 50]), outliers)
def test_a_bad_frame_is_one_frame_in_chunks_too(shape, seed, horizon, far):
    """A frame that is off by `far`: every step of its own chunk, and one step of each chunk before it."""
    values_NT = samples(shape, seed, 720 * horizon).reshape(720, horizon)
    right = scaling(values_NT.ravel(), values_per_frame=horizon)
    row = 100
    values_NT[row] -= far
    for step in range(horizon):
        values_NT[row - step - 1, step] += far
    pooled = scaling(values_NT.ravel(), values_per_frame=horizon)
    assert 0.5 <= pooled.scale / right.scale <= 2
    by_step = [scaling(values_NT[:, step]) for step in range(horizon)]
    assert all(0.5 <= one.scale / right.scale <= 2 for one in by_step)


def test_two_metres_and_five_hundred_leave_a_dimension_of_small_steps_alone():
    rng = np.random.default_rng(0)
    steps = rng.normal(0, 0.002, 720)
    expected = (np.percentile(steps, 99) - np.percentile(steps, 1)) / 2
    for far in (2.0, 500.0):
        spoilt = steps.copy()
        spoilt[360], spoilt[361] = far, -far
        found = scaling(spoilt)
        assert found.rule == "percentiles" and found.scale == pytest.approx(expected, rel=0.15)
        assert abs(found.outlier) == far and 0 < found.clipped < 0.01


def rows_that_rest(share, noise, seed):
    """Moves by half a metre in a share of the samples, and rests with some noise in the others."""
    rng = np.random.default_rng(seed)
    moves = rng.permutation(4000) < round(4000 * share)
    return np.where(moves, rng.uniform(-0.5, 0.5, 4000), rng.normal(0, 1, 4000) * noise)


@settings(max_examples=150, deadline=None)
@given(
    st.floats(0, 0.08),
    st.floats(-9, -1).map(lambda power: 10.0**power),
    st.integers(0, 2**32),
    st.floats(-3, 0).map(lambda power: 10.0**power),
)
def test_scales_change_without_a_jump(share, noise, seed, part):
    """However the rules change over, moving every value by a little moves the scale by little."""
    values = rows_that_rest(share, noise, seed)
    least = 1e-6
    # Where the noise is near the least spread, a change of `least` goes from one rule to the other.
    moved = part * 0.01 * max(least, 5 * noise)
    nudged = values + np.random.default_rng(seed + 1).uniform(-moved, moved, len(values))
    first, second = scaling(values), scaling(nudged)
    reach = max(first.scale, second.scale, 0.5 * least)
    if "constant" in (first.rule, second.rule):
        assert reach <= least
    else:
        assert abs(first.scale - second.scale) <= 0.05 * part * reach + 25 * moved


@pytest.mark.parametrize("noise", [5e-7, 1e-6, 1e-4, 1e-2])
def test_a_dimension_that_seldom_moves_has_a_scale_between_its_noise_and_its_motion(noise):
    resting, *moving, much = (
        scaling(rows_that_rest(share, noise, 0)).scale for share in (0.0, 0.004, 0.012, 0.03, 0.08)
    )
    assert resting == pytest.approx(2.33 * noise, rel=0.1) and 0.3 < much < 0.5
    if noise <= 1e-4:  # of 0.4 % on either side one in two is further out than 0.1 %
        assert all(0.15 < scale < 0.5 for scale in moving)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(SHAPES),
    st.integers(0, 2**32),
    st.integers(10, 900),
    st.sampled_from([2.0**-6, 0.5, 4.0, 1024.0]),
    st.sampled_from([-8.0, 0.0, 0.25, 64.0]),
)
def test_scaling_and_shifting_the_data_scales_and_shifts_the_band(shape, seed, count, factor, shift):
    # Of numbers with so few bits that factor and shift are exact.
    values = np.round(samples(shape, seed, count) * 2**16) / 2**16
    one, other = scaling(values), scaling(values * factor + shift)
    assert other.rule == one.rule and other.levels == one.levels
    assert other.scale == pytest.approx(one.scale * factor, rel=1e-9)
    assert other.centre == pytest.approx(one.centre * factor + shift, rel=1e-9, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(-50, 50), min_size=2, max_size=12, unique=True),
    st.integers(0, 2**32),
    st.integers(100, 3000),
)
def test_levels_of_a_discrete_dimension_stay_inside_the_clip(levels, seed, count):
    rng = np.random.default_rng(seed)
    values = rng.choice(np.array(levels, float), count, p=rng.dirichlet(np.ones(len(levels)) * 0.3))
    found = scaling(values, FREE)
    seen = [level for level in levels if (values == level).sum() >= 3]
    if len(seen) > 1:
        assert all(abs(level - found.centre) <= 1.5 * found.scale for level in seen)
        assert found.rule == "range"


def test_a_flag_that_is_seldom_set_is_kept_and_one_frame_is_not():
    def flags(ones, count=20_000, value=1.0):
        return np.where(np.arange(count) < ones, value, 0.0)

    for ones in (3, 20, 10_000, 19_997):
        found = scaling(flags(ones))
        assert (found.rule, found.centre, found.scale) == ("range", 0.5, 0.5)
    alone = scaling(flags(1, value=500.0))
    assert (alone.rule, alone.centre, alone.scale, alone.outlier) == ("constant", 0.0, 0.0, 500.0)
    assert alone.clipped == pytest.approx(1 / 20_000)
    # An outlier beside a flag leaves the flag what it was.
    beside = scaling(np.append(flags(50), 500.0))
    assert (beside.rule, beside.scale, beside.outlier) == ("range", 0.5, 500.0)
    # Of few frames each may be all that there is.
    few = scaling([0.0] * 9 + [1.0])
    assert (few.centre, few.scale) == (0.5, 0.5)


@pytest.mark.parametrize("times", [1, 7, 1000])
def test_weights_that_count_each_frame_often_change_no_scale(times):
    values = rows_that_rest(0.01, 1e-4, 5)
    values[17] = 40.0
    statistics = Statistics.of(values[:, None], None, HEIGHT)
    plain = Normalizer.fit(statistics).scalings[0]
    weighted = Normalizer.fit(statistics.scaled(times), values_per_frame=times).scalings[0]
    assert weighted.scale == pytest.approx(plain.scale) and weighted.rule == plain.rule


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("values", "space"),
    [
        (np.random.default_rng(0).normal(0.3, 1e-7, 5000), HEIGHT),  # of a pose made relative to itself
        (0.3 + np.spacing(np.float32(0.3)) * np.random.default_rng(1).integers(-1, 2, 5000), FREE),
        (1e5 + np.spacing(np.float32(1e5)) * np.random.default_rng(2).integers(-1, 2, 5000), HEIGHT),
        (np.random.default_rng(3).uniform(-1e-42, 1e-42, 5000), FREE),
        (np.random.default_rng(4).choice([0.0, 1e-45], 5000), FREE),
        (np.random.default_rng(5).uniform(0, 1e-39, 5000), HEIGHT),
    ],
)  # fmt: skip
def test_rounding_and_denormal_numbers_are_constants(values, space, dtype):
    normalizer = Normalizer.fit(Statistics.of(values.astype(np.float32)[:, None], None, space))
    assert normalizer.scalings[0].rule == "constant"
    assert not normalizer.normalize(values.astype(dtype)[:, None]).any()
    back = normalizer.denormalize(np.ones((3, 1), dtype))
    np.testing.assert_allclose(back, np.median(values), rtol=1e-6, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40),
    st.sampled_from([HEIGHT, FREE]),
)
def test_no_finite_value_becomes_nan_in_float32(values, space):
    column = np.array(values, np.float32)[:, None]
    normalizer = Normalizer.fit(Statistics.of(column, None, space))
    found = normalizer.normalize(column)
    assert found.dtype == np.float32 and np.isfinite(found).all() and (np.abs(found) <= 1.5).all()


def test_the_smallest_motion_of_a_robot_is_no_constant():
    rng = np.random.default_rng(0)
    assert scaling(rng.normal(0.5, 2e-6, 1000)).rule == "percentiles"
    assert scaling(rng.normal(1e-9, 1e-10, 1000), FREE).rule == "percentiles"


def test_an_outlier_is_told_in_the_table():
    values = np.random.default_rng(0).normal(size=(720, 1)) * 0.01
    values[300] = 2.0
    [row] = report(Normalizer.fit(Statistics.of(values, None, HEIGHT)))
    assert row["note"] == "outlier 2"
