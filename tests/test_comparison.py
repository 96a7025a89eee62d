"""Tests, letters and intervals of comparisons, against second sources and the laws that they obey."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import barnard_exact, binom, binomtest

from robot_foundry.evaluation.comparison.differences import difference_interval
from robot_foundry.evaluation.comparison.exact import Barnard, McNemar
from robot_foundry.evaluation.comparison.least import least_paired, least_sequential
from robot_foundry.evaluation.comparison.multiple import holm, letters
from robot_foundry.evaluation.comparison.plan import plan
from robot_foundry.evaluation.comparison.recipes import Recipe, difference
from robot_foundry.evaluation.comparison.sequential import anytime_p, log_e, stopped_by
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.runtime.keyed import generator

P_VALUES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8)
COUNTS = st.tuples(st.integers(0, 60), st.integers(0, 60))


@pytest.mark.parametrize(
    ("x", "n", "y", "m"), [(7, 15, 12, 16), (50, 100, 70, 100), (0, 5, 5, 5), (3, 20, 9, 25), (1, 9, 1, 30)]
)
def test_barnard_is_that_of_scipy(x: int, n: int, y: int, m: int) -> None:
    second = barnard_exact([[x, y], [n - x, m - y]], n=128).pvalue
    assert Barnard(n, m).p_value(x, y) == pytest.approx(second, rel=1e-6)
    assert Barnard(m, n).p_value(y, x) == pytest.approx(second, rel=1e-6)


@given(COUNTS, st.integers(0, 30))
def test_mcnemar_is_symmetric_and_never_above_the_conditional_test(
    counts: tuple[int, int], alike: int
) -> None:
    b, c = counts
    if b + c:
        p = McNemar(b + c + alike).p_value(b, c)
        assert p == McNemar(b + c + alike).p_value(c, b)
        assert p <= binomtest(b, b + c).pvalue * (1 + 1e-9)


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_level_of_exact_tests_holds_at_every_rate(alpha: float) -> None:
    rate_G = np.linspace(0.0, 1.0, 400)
    for n, m in ((13, 13), (40, 25)):
        test = Barnard(n, m)
        assert test.reaches(test.bound(alpha), rate_G, rate_G).max() <= alpha + 1e-9
    for differs in rate_G[::20]:
        assert McNemar(60).power(alpha, differs / 2, differs / 2) <= alpha + 1e-9


def test_power_is_what_counting_outcomes_gives() -> None:
    n, one, other = 12, 0.3, 0.8
    chance = np.outer(binom.pmf(np.arange(n + 1), n, one), binom.pmf(np.arange(n + 1), n, other))
    test = Barnard(n, n)
    significant = [[test.p_value(x, y) <= 0.05 for y in range(n + 1)] for x in range(n + 1)]
    assert test.power(0.05, one, other) == pytest.approx(chance[np.array(significant)].sum())


@given(COUNTS)
def test_bets_are_fair_against_a_fair_coin(counts: tuple[int, int]) -> None:
    """The martingale itself: what is owned is the mean of what may be owned next."""
    b, c = counts
    for one_sided in (False, True):
        after = np.exp(log_e([b + 1, b], [c, c + 1], one_sided=one_sided)).mean()
        assert after == pytest.approx(np.exp(log_e(b, c, one_sided=one_sided)))
    assert log_e(b, c) == pytest.approx(log_e(c, b))
    assert log_e(0, 0) == pytest.approx(0.0)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_sequential_p_values(outcomes: list[tuple[bool, bool]]) -> None:
    """They never rise, do not care which policy is first, and scenes that end alike change nothing."""
    first, second = np.array(outcomes).T
    p_n = anytime_p(first, second)
    assert np.all(np.diff(p_n) <= 0) and np.all(p_n > 0) and np.all(p_n <= 1)
    assert np.allclose(p_n, anytime_p(second, first))
    unlike = first != second
    if unlike.any():
        assert p_n[-1] == pytest.approx(anytime_p(first[unlike], second[unlike])[-1])
    more = np.append(first, np.ones(5, bool)), np.append(second, np.zeros(5, bool))
    assert anytime_p(*more, one_sided=True)[-1] <= anytime_p(first, second, one_sided=True)[-1]


def test_where_the_sequential_test_stops_is_what_simulation_finds() -> None:
    random = generator("stops")
    first, second = random.random((2, 2000, 80)) < np.array([0.4, 0.8])[:, None, None]
    found = (anytime_p(first, second) <= 0.05).mean(axis=0)
    exact = stopped_by(0.4 * 0.2, 0.6 * 0.8, 80, 0.05)[1:]
    assert np.abs(found - exact).max() < 0.04


def test_looking_at_every_scene_errs_no_more_than_said() -> None:
    """Exact, of 300 looks, also where policies are alike on most scenes."""
    for differs in (0.05, 0.5, 1.0):
        assert stopped_by(differs / 2, differs / 2, 300, 0.05)[-1] <= 0.05


@pytest.mark.parametrize("scenes", [2, 5, 6, 13])
def test_no_smaller_difference_is_shown_by_so_many_scenes(scenes: int) -> None:
    counts = [(b, c) for b in range(scenes + 1) for c in range(scenes + 1 - b) if b != c]
    paired = [abs(b - c) / scenes for b, c in counts if McNemar(scenes).p_value(b, c) <= 0.05]
    assert least_paired(scenes, 0.05) == min(paired, default=None)
    looked = [abs(b - c) / scenes for b, c in counts if log_e(b, c) >= -np.log(0.05)]
    assert least_sequential(scenes, 0.05) == min(looked, default=None)
    test, rates = Barnard(3, scenes), [(x, y) for x in range(4) for y in range(scenes + 1)]
    apart = [abs(x / 3 - y / scenes) for x, y in rates if test.p_value(x, y) <= 0.05]
    assert test.least(0.05) == min(apart, default=None)


@given(P_VALUES)
def test_holm_is_its_definition(p: list[float]) -> None:
    """The smallest level at which the step-down procedure rejects, by brute force over the order."""
    adjusted = holm(p)
    order = sorted(range(len(p)), key=lambda k: p[k])
    for rank, k in enumerate(order):
        assert adjusted[k] == min(1.0, max((len(p) - i) * p[order[i]] for i in range(rank + 1)))


def test_holm_of_a_published_example() -> None:
    """statsmodels' multipletests(method="holm") of these."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.sampled_from(pairs_of(n))))))
def test_two_share_a_letter_only_if_they_do_not_differ(graph: tuple[int, set[tuple[int, int]]]) -> None:
    number, chosen = graph
    differ = {pair for pair in chosen if pair[0] != pair[1]}
    given_letters = letters(number, differ)
    assert all(given_letters)
    for pair in combinations(range(number), 2):
        assert bool(set(given_letters[pair[0]]) & set(given_letters[pair[1]])) == (pair not in differ)


def pairs_of(number: int) -> list[tuple[int, int]]:
    return list(combinations(range(number), 2)) or [(0, 0)]


def test_letters_of_a_chain_and_of_many() -> None:
    assert letters(3, [(0, 2)]) == ["a", "ab", "b"]
    assert letters(30, list(combinations(range(30), 2)))[-1] == "D"


def test_the_interval_of_a_difference_covers_it() -> None:
    """Exact, over a grid of rates."""
    n, m = 40, 25
    low, high = difference_interval(tuple(np.ogrid[: n + 1, : m + 1]), (n, m))
    for one, other in permutations((0.02, 0.2, 0.5, 0.9), 2):
        covers = (low <= other - one) & (other - one <= high)
        chance = np.outer(binom.pmf(np.arange(n + 1), n, one), binom.pmf(np.arange(m + 1), m, other))
        assert chance[covers].sum() >= 0.95


@pytest.mark.parametrize(
    ("runs", "rate", "sd", "of_other", "other_runs"),
    [
        (3, 0.02, 0.4, 0.4, 3),
        (3, 0.5, 0.4, 0.4, 3),
        (5, 0.9, 0.4, 0.4, 5),
        # Near 0 and 100 % few seeds do not show how far they lie apart.
        (5, 0.9, 1.0, 0.1, 5),
        (10, 0.1, 1.0, 0.1, 10),
        (10, 0.05, 1.0, 0.1, 10),
        # Neither do three where they stand alone against ten that agree.
        (3, 0.3, 1.0, 0.1, 10),
    ],
)
def test_recipes_cover_and_do_not_alarm(
    runs: int, rate: float, sd: float, of_other: float, other_runs: int
) -> None:
    """500 simulated experiments; benchmarks/comparison.py has 10,000 of many kinds."""
    random = generator("recipes", runs, str(rate))
    tables = []
    for apart, number in ((sd, runs), (of_other, other_runs)):
        seed = apart * random.standard_normal((500, number, 1))
        tables.append(random.standard_normal((500, number, 40)) < ndtri(rate) * np.sqrt(1 + apart**2) + seed)
    one, other = map(Recipe, tables)
    low, high = one.interval()
    assert ((low <= rate) & (rate <= high)).mean() >= 0.95
    between = difference(one, other, paired=True)
    assert (between.p <= 0.05).mean() <= 0.05
    assert ((between.low <= 0.0) & (between.high >= 0.0)).mean() >= 0.95


def test_seeds_that_disagree_are_no_difference_of_recipes() -> None:
    """Thousands of episodes cannot make up for two seeds; pooled, Barnard's test would be sure."""
    one = np.repeat([[True], [False]], 1000, axis=1)
    other = np.repeat([[True], [True]], 1000, axis=1)
    found = difference(Recipe(one), Recipe(other), paired=True)
    assert found.p > 0.5 and found.low < 0 < found.high
    assert Barnard(200, 200).p_value(100, 200) < 1e-6
    with pytest.raises(FoundryError, match="at least two runs"):
        Recipe(one[:1])


@given(st.integers(2, 4), st.integers(2, 12), st.integers(0, 10_000))
def test_a_difference_of_recipes_turns_with_their_order(runs: int, scenes: int, seed: int) -> None:
    table = generator("turned", seed).random((2, runs, scenes)) < 0.6
    there = difference(Recipe(table[0]), Recipe(table[1]), paired=True)
    back = difference(Recipe(table[1]), Recipe(table[0]), paired=True)
    assert there.p == pytest.approx(back.p) and there.low == pytest.approx(-back.high)


def test_the_plan_of_the_docs() -> None:
    planned = plan(0.5, 0.7)
    assert (planned.barnard, planned.mcnemar, planned.exact) == (95, 97, True)
    assert planned.sequential_mean < min(planned.barnard, planned.mcnemar) < planned.sequential_most
    assert plan(0.7, 0.5).barnard == planned.barnard
    for wrong in ((0.5, 0.5), (0.5, 1.2), (0.5, 0.501)):
        with pytest.raises(UsageError):
            plan(*wrong)
