"""What the scorecard counts: questions, right and near answers, chance, controls and intervals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap

from robot_foundry.evaluation.intervals import bootstrap_mean
from robot_foundry.evaluation.vlm.controls import blank, partners
from robot_foundry.evaluation.vlm.questions import ANY, Question, questions_of
from robot_foundry.evaluation.vlm.scores import Marked, chance, how_many_numbers, mark, numbers_in, score
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.pairs.pair import Turn

ASKED, ANSWERED = Turn("user", "<image>what?"), Turn("assistant", "a cat")
MORE = (Turn("user", "where?"), Turn("assistant", "3 4"))
numbers = st.lists(st.integers(-99, 99), min_size=1, max_size=3)


def test_each_answer_is_a_question_behind_the_true_ones() -> None:
    turns = (Turn("system", "be brief"), ASKED, ANSWERED, *MORE)
    assert questions_of(5, turns, {"kinds": ["what", "where"]}) == [
        Question(5, "what", turns[:2], "a cat"),
        Question(5, "where", turns[:4], "3 4"),
    ]


@pytest.mark.parametrize("kinds", [None, "what", ["what"], ["what", 2], ["what", "where", "why"]])
def test_kinds_that_do_not_name_each_answer_name_none(kinds: object) -> None:
    asked = questions_of(0, (ASKED, ANSWERED, *MORE), {"kinds": kinds})
    assert [question.kind for question in asked] == [ANY, ANY]


def test_an_answer_behind_no_user_is_no_question() -> None:
    turns = (ANSWERED, ASKED, ANSWERED, ANSWERED)
    assert questions_of(0, turns, {"kinds": ["a", "b", "c"]}) == [Question(0, "b", turns[:2], "a cat")]
    assert questions_of(0, (), {}) == []


@given(numbers, st.sampled_from([" ", ", ", ",", "  "]))
def test_numbers_are_read_back(values: list[int], between: str) -> None:
    assert numbers_in(f" {between.join(map(str, values))}\n") == tuple(values)


@pytest.mark.parametrize("text", ["", "12 cats", "1.5", "a", "1 2 x", "1,,2", "9" * 16, "- 3", "١"])
def test_what_is_no_list_of_whole_numbers_is_none(text: str) -> None:
    assert numbers_in(text) is None


@given(numbers, st.data())
def test_nearness_is_of_each_number_and_distance_of_points(true: list[int], data: st.DataObject) -> None:
    off = data.draw(st.lists(st.integers(-3, 3), min_size=len(true), max_size=len(true)))
    answer = " ".join(str(value + step) for value, step in zip(true, off, strict=True))
    marked = mark(answer, " ".join(map(str, true)), len(true))
    assert marked.is_exact == (set(off) <= {0})
    assert marked.is_near == (max(map(abs, off)) <= 1)
    assert marked.distance == pytest.approx(math.sqrt(sum(step * step for step in off)))


def test_answers_are_compared_without_case_and_spaces() -> None:
    assert mark(" Left  of\nit ", "left of it", 0).is_exact
    assert not mark("left of", "left of it", 0).is_exact
    # An answer that is no number, or too many of them, is neither near nor at any distance.
    assert mark("three", "3", 1) == mark("3 3", "3", 1) == mark("", "3", 1) == Marked(False)
    assert mark("03", "3", 1) == Marked(True, True, 0.0)


def test_a_kind_is_about_numbers_only_if_all_true_answers_are() -> None:
    assert how_many_numbers(["1 2", "3,4"]) == 2
    assert how_many_numbers(["1 2", "3"]) == how_many_numbers(["1", "one"]) == 0


@given(st.lists(st.tuples(st.booleans(), st.one_of(st.none(), st.integers(0, 5))), min_size=1, max_size=30))
def test_shares_have_the_exact_interval(given_marks: list[tuple[bool, int | None]]) -> None:
    marks = [Marked(e, d is not None and d <= 1, None if d is None else float(d)) for e, d in given_marks]
    scored = score(marks, 1)
    exact = binomtest(sum(item.is_exact for item in marks), len(marks)).proportion_ci(method="exact")
    assert scored["answers"] == len(marks)
    assert scored["exact"] == sum(item.is_exact for item in marks) / len(marks)
    assert scored["exact_95"] == pytest.approx([exact.low, exact.high])
    distances = [item.distance for item in marks if item.distance is not None]
    assert scored["no_numbers"] == len(marks) - len(distances)
    assert scored["mean_distance"] == (pytest.approx(np.mean(distances)) if distances else None)
    assert "near" not in score(marks, 0)


@given(st.lists(st.integers(0, 6).map(str), min_size=1, max_size=12))
def test_chance_is_what_guesses_get(truths: list[str]) -> None:
    found = chance(truths, how_many_numbers(truths))
    answers = sorted(set(truths))
    guessed = [mark(guess, truth, 1) for guess, truth in itertools.product(answers, truths)]
    assert found["different_answers"] == len(answers)
    assert found["uniform"]["exact"] == pytest.approx(np.mean([item.is_exact for item in guessed]))
    assert found["uniform"]["near"] == pytest.approx(np.mean([item.is_near for item in guessed]))
    always = max(truths.count(answer) for answer in answers) / len(truths)
    assert found["commonest"]["exact"] == pytest.approx(always)
    commonest = found["commonest"]["answer"]
    near = np.mean([abs(int(truth) - int(commonest)) <= 1 for truth in truths])
    assert found["commonest"]["near"] == pytest.approx(near)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=40), st.integers(0, 3))
def test_each_pair_is_shown_the_pictures_of_one_other(pairs: list[tuple[int, int]], seed: int) -> None:
    content_n = np.array([content for content, _ in pairs], np.uint64)
    count_n = np.array([count for _, count in pairs], np.int64)
    partner_n = partners(content_n, count_n, seed)
    for count in (0, 1, 2):
        among = np.flatnonzero(count_n == count)
        here = partner_n[among]
        most = max((int((content_n[among] == content).sum()) for content in content_n[among]), default=0)
        if count == 0 or 2 * most > len(among):
            assert (here == -1).all()
            continue
        assert sorted(here.tolist()) == among.tolist()
        assert (content_n[here] != content_n[among]).all()
    assert np.array_equal(partner_n, partners(content_n, count_n, seed))


def test_another_seed_shows_other_pictures() -> None:
    content_n, count_n = np.arange(50, dtype=np.uint64), np.ones(50, np.int64)
    assert not np.array_equal(partners(content_n, count_n, 0), partners(content_n, count_n, 1))


def test_blank_pictures_show_their_size_alone() -> None:
    pictures = [np.random.default_rng(i).integers(0, 256, (4 + i, 6, 3), np.uint8) for i in range(2)]
    shown = blank(pictures)
    assert [picture.shape for picture in shown] == [(4, 6, 3), (5, 6, 3)]
    assert all((picture == 128).all() for picture in shown)


def test_the_bootstrap_agrees_with_that_of_scipy() -> None:
    random = np.random.default_rng(0)
    count_n = random.integers(1, 4, 80)
    sum_n = random.normal(0.5, 1.0, 80) * count_n
    mean, low, high = bootstrap_mean(sum_n, count_n, seed=1, resamples=6000)
    other = bootstrap(
        (sum_n, count_n.astype(float)),
        lambda sums, counts, axis=-1: sums.sum(axis=axis) / counts.sum(axis=axis),
        paired=True, n_resamples=6000, method="percentile", rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    assert mean == sum_n.sum() / count_n.sum()
    assert (low, high) == pytest.approx((other.low, other.high), abs=0.02)


def test_the_bootstrap_is_of_its_arguments_alone() -> None:
    sum_n, weight_n = np.array([1.0, -1.0, 2.0, np.nan]), np.array([1, 2, 3, 0])
    first = bootstrap_mean(sum_n, weight_n, seed=0)
    assert first == bootstrap_mean(sum_n[:3], weight_n[:3], seed=0)
    many_n = np.random.default_rng(0).normal(size=50)
    assert len({bootstrap_mean(many_n, np.ones(50), seed=seed) for seed in (0, 0, 1)}) == 2
    assert bootstrap_mean(np.array([2.0]), np.array([4]), seed=0) == (0.5, 0.5, 0.5)
    with pytest.raises(FoundryError, match="nothing to draw"):
        bootstrap_mean(np.array([1.0]), np.array([0]), seed=0)
