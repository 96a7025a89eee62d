"""Differences on the same scenes: exact at any number of them, and of strata together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, multinomial

from robot_foundry.evaluation.comparison.differences import mean_of_strata, paired_difference
from robot_foundry.evaluation.intervals import clopper_pearson
from robot_foundry.runtime.errors import FoundryError


def scenes(only_first: int, only_second: int, num: int) -> tuple[list[bool], list[bool]]:
    first = [k < only_first for k in range(num)]
    return first, [only_first <= k < only_first + only_second for k in range(num)]


@pytest.mark.parametrize("num", [3, 8, 15])
def test_the_interval_holds_the_difference_often_enough_and_seldom_sees_one_that_is_not(num: int) -> None:
    """Its law, over every outcome: 95 % cover it, and 2.5 % at most are above 0 where there is none."""
    found = {
        (b, c): paired_difference(*scenes(b, c, num)) for b in range(num + 1) for c in range(num + 1 - b)
    }
    counts = np.array([(b, c, num - b - c) for b, c in found])
    low, high = np.array([(low, high) for _, low, high in found.values()]).T
    for p in np.linspace(0, 1, 11):
        for q in np.linspace(0, 1 - p, 6):
            chance = multinomial.pmf(counts, num, [p, q, max(0.0, 1 - p - q)])
            covers = (low <= p - q + 1e-12) & (p - q <= high + 1e-12)
            assert chance[covers].sum() >= 0.95 - 1e-9
            if abs(p - q) < 1e-12:
                assert chance[low > 0].sum() <= 0.025


@given(st.integers(0, 15), st.integers(0, 15), st.integers(1, 60))
def test_it_is_above_zero_where_the_sign_test_says_so(b: int, c: int, more: int) -> None:
    value, low, high = paired_difference(*scenes(b, c, b + c + more))
    assert low <= value <= high and value == pytest.approx((b - c) / (b + c + more))
    if b + c:
        assert (low > 0) == (binomtest(b, b + c, alternative="greater").pvalue < 0.02)
    mirrored = paired_difference(*scenes(c, b, b + c + more))
    assert mirrored == pytest.approx((-value, -high, -low))


def test_what_is_no_pair_is_refused() -> None:
    for wrong in (([], []), ([True], [True, False])):
        with pytest.raises(FoundryError, match="are no pairs"):
            paired_difference(*wrong)
    with pytest.raises(FoundryError):
        mean_of_strata([])


def test_tasks_are_strata() -> None:
    """How much tasks differ is no uncertainty, and one task has the interval that it has alone."""
    alone = (0.7, *clopper_pearson(14, 20))
    assert mean_of_strata([alone]) == pytest.approx(alone)
    extremes = mean_of_strata([(0.0, *clopper_pearson(0, 50)), (1.0, *clopper_pearson(50, 50))])
    pooled = clopper_pearson(50, 100)
    assert extremes[0] == 0.5 and extremes[2] - extremes[1] < 0.6 * (pooled[1] - pooled[0])


@pytest.mark.parametrize(("tasks", "num"), [(2, 5), (5, 10), (10, 5)])
def test_the_mean_over_tasks_is_held_often_enough(tasks: int, num: int) -> None:
    random = np.random.default_rng(tasks)
    of = [(k / num, *clopper_pearson(k, num)) for k in range(num + 1)]
    covered = drawn = 0
    for _ in range(6):
        rate = random.uniform(0, 1, tasks)
        for successes in random.binomial(num, rate, (400, tasks)):
            _, low, high = mean_of_strata([of[k] for k in successes])
            covered += low <= rate.mean() <= high
            drawn += 1
    assert covered / drawn >= 0.95
