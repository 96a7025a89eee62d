"""Intervals of the difference of two success rates, of scenes that both acted on or of any.

Legend: counts of the unpaired interval may be arrays that broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_foundry.evaluation.intervals import clopper_pearson
from robot_foundry.runtime.errors import FoundryError

Floats = NDArray[np.float64]
# The difference, and the two ends of its interval.
Difference = tuple[float, float, float]


def paired_difference(first: Sequence[bool], second: Sequence[bool], confidence: float = 0.95) -> Difference:
    """first's rate less second's, over scenes in the same order, with an interval that is exact.

    FoundryError where there is no scene, or not the same number.
    """
    if len(first) != len(second) or not first:
        raise FoundryError(f"{len(first)} and {len(second)} scenes are no pairs")
    only_first = sum(one and not other for one, other in zip(first, second, strict=True))
    only_second = sum(other and not one for one, other in zip(first, second, strict=True))
    low, high = paired_interval(only_first, only_second, len(first), confidence)
    return (only_first - only_second) / len(first), low, high


def paired_interval(b: int, c: int, scenes: int, confidence: float = 0.95) -> tuple[float, float]:
    """That of the first rate less the second, where of `scenes` only the first succeeded on b, only the
    second on c.

    Let ψ be the probability that only one of the two succeeds, and π that it is the first, where it is one:
    the difference is ψ (2π − 1). b + c is binomial in (scenes, ψ) and, given it, b in (b + c, π). With a
    risk α = 1 − confidence, Clopper and Pearson's intervals miss ψ with at most α/5 and π, given any b + c,
    with at most 4α/5; so ψ (2π − 1) over both holds the difference with at least `confidence`, for any
    number of scenes and however the two depend on each other. It is above 0 where the sign test of π = ½
    (McNemar's exact test) says so at 2α/5 to one side.
    """
    risk = 1.0 - confidence
    one_low, one_high = clopper_pearson(b + c, scenes, 1.0 - risk / 5)
    first_low, first_high = clopper_pearson(b, b + c, 1.0 - 4 * risk / 5)
    low, high = 2 * first_low - 1, 2 * first_high - 1
    low *= one_low if low > 0 else one_high
    high *= one_high if high > 0 else one_low
    return low, high


def difference_interval(
    successes: tuple[ArrayLike, ArrayLike], trials: tuple[int, int], confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """That of the second rate less the first, of episodes that have nothing to do with each other.

    Newcombe (1998, method 10): p₂ − p₁ − √((p₂ − l₂)² + (u₁ − p₁)²), and likewise above, with Clopper and
    Pearson's limits (l, u) of each rate where he has Wilson's. It is no exact interval:
    benchmarks/comparison.py has what it covers.
    """
    x1, x2 = (np.asarray(x, np.float64) for x in successes)
    n1, n2 = trials
    tail = (1.0 - confidence) / 2.0
    (low1, high1), (low2, high2) = _limits(x1, n1, tail), _limits(x2, n2, tail)
    rate1, rate2 = x1 / n1, x2 / n2
    gap = rate2 - rate1
    return gap - np.hypot(rate2 - low2, high1 - rate1), gap + np.hypot(high2 - rate2, rate1 - low1)


def _limits(x: Floats, n: int, tail: float) -> tuple[Floats, Floats]:
    """Clopper and Pearson's, of arrays; each count is computed once."""
    counts, where = np.unique(x, return_inverse=True)
    ends = np.array([clopper_pearson(int(count), n, 1.0 - 2.0 * tail) for count in counts])
    return ends[where, 0].reshape(x.shape), ends[where, 1].reshape(x.shape)


def mean_of_strata(parts: Sequence[Difference]) -> Difference:
    """The mean of independent figures, each (value, low, high), as of the tasks of a suite: all weigh alike.

    Its interval is that of the method of variance estimates recovery (Zou and Donner 2008): from the mean go
    √Σ (w (value − low))² down and √Σ (w (high − value))² up, with w = 1 / the number of parts. So how much
    the parts differ from each other is no uncertainty, and each keeps what its own interval knows of its
    ends. FoundryError where there is none.
    """
    if not parts:
        raise FoundryError("there is nothing to take the mean of")
    weight = 1 / len(parts)
    mean = weight * sum(value for value, _, _ in parts)
    down = sqrt(sum((weight * (value - low)) ** 2 for value, low, _ in parts))
    up = sqrt(sum((weight * (high - value)) ** 2 for value, _, high in parts))
    return mean, mean - down, mean + up
