"""Exact tests of two success rates, of a number of episodes that was fixed before.

Both are two-sided and *unconditional*: what is not asked about (the common rate; how often two policies
differ on a scene) is set to the value at which the test would err most. So the chance of a false alarm is at
most the level, whatever that value is.

    barnard   episodes of one policy have nothing to do with those of the other
    mcnemar   both policies acted on the same scenes

Legend: G values of the nuisance, x successes of the first, m scenes on which two policies differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import bdtr, betaln, xlog1py, xlogy

from robot_foundry.runtime.errors import FoundryError, UsageError

Floats = NDArray[np.float64]
LEAST_ALPHA = 1e-12  # 1 - alpha is known to a few digits
_GRID = np.sin(np.linspace(0.0, np.pi / 2, 129)) ** 2  # even where binomials are equally sharp
_TIE = 1e-9  # relative; statistics that differ by less are of equal evidence


@dataclass(frozen=True)
class Barnard:
    """Barnard's test (1945) of `first` and `second` episodes, by the pooled score statistic.

    The statistic is T² = (x₁n₂ − x₂n₁)² / ((x₁ + x₂)(n₁ + n₂ − x₁ − x₂)), up to a factor the square of the
    Wald statistic with pooled variance. Numerator and denominator are integers, so equal evidence ties.
    """

    first: int
    second: int

    def p_value(self, x_first: int, x_second: int) -> float:
        """The largest probability, over the common rate, of a table at least as extreme."""
        _check_count(x_first, self.first)
        _check_count(x_second, self.second)
        return self.level(float(self._statistic_xy[x_first, x_second]))

    def level(self, bound: float) -> float:
        """The largest probability that T² reaches `bound` where both rates are equal."""
        return 1.0 if bound <= 0.0 else _supremum(lambda rate_G: self.reaches(bound, rate_G, rate_G))

    def bound(self, alpha: float) -> float:
        """The smallest value of T² that is significant at level `alpha`; infinity where none is."""
        values = np.unique(self._statistic_xy)
        return _first(values, lambda value: self.level(float(value)) <= alpha)

    def least(self, alpha: float) -> float | None:
        """The smallest difference of two rates that is significant at level `alpha`; None where none is."""
        x, y = np.ogrid[: self.first + 1, : self.second + 1]
        apart_xy = np.abs(x / self.first - y / self.second)
        shown = apart_xy[self._statistic_xy >= self.bound(alpha) * (1.0 - _TIE)]
        return float(shown.min()) if shown.size else None

    def power(self, alpha: float, rate_first: float, rate_second: float) -> float:
        """The probability of significance at level `alpha` for these rates."""
        return float(self.reaches(self.bound(alpha), np.array([rate_first]), np.array([rate_second]))[0])

    def reaches(self, bound: float, first_G: Floats, second_G: Floats) -> Floats:
        """P(T² ≥ bound) [G] for pairs of rates.

        For each x₁ the tables that reach it are x₂ below one number and from another on, as T² grows to both
        sides of x₂ = x₁n₂/n₁.
        """
        above_xy = self._statistic_xy >= bound * (1.0 - _TIE)
        x, y = np.ogrid[: self.first + 1, : self.second + 1]
        right_xy = y * self.first > x * self.second
        low_x = (above_xy & ~right_xy).sum(axis=1)
        high_x = self.second + 1 - (above_xy & right_xy).sum(axis=1)
        weight_Gx = _binomial(self.first, first_G)
        below_Gx = _below(low_x, self.second, second_G[:, None])
        beyond_Gx = 1.0 - _below(high_x, self.second, second_G[:, None])
        return np.asarray((weight_Gx * (below_Gx + beyond_Gx)).sum(axis=1))

    @cached_property
    def _statistic_xy(self) -> Floats:
        """T² of every table [x₁, x₂]; 0 where all or none succeed."""
        x, y = np.ogrid[: self.first + 1, : self.second + 1]
        gap = (x * self.second - y * self.first).astype(np.float64) ** 2
        spread = ((x + y) * (self.first + self.second - x - y)).astype(np.float64)
        return np.divide(gap, spread, out=np.zeros_like(gap), where=spread > 0)


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of `scenes` pairs of episodes, unconditional, by the exact conditional p-value.

    On m scenes just one policy succeeded, on b of these the first. Given m, b is Binomial(m, ½) where the
    policies are equally good; p(b, m) = 2 P(X ≤ min(b, m − b)) is the exact test of that. It is taken as the
    statistic, as Boschloo (1970) does with Fisher's p, and its level maximised over the rate of m (Suissa and
    Shuster 1991). As P(p ≤ t | m) ≤ t for every m, the result is never larger than the conditional p.
    """

    scenes: int

    def p_value(self, only_first: int, only_second: int) -> float:
        """The largest probability, over how often the policies differ, of evidence at least as strong."""
        differing = only_first + only_second
        _check_count(differing, self.scenes)
        _check_count(only_first, differing)
        return self.level(float(_conditional(min(only_first, only_second), differing)))

    def level(self, bound: float) -> float:
        """The largest probability that the conditional p is at most `bound` for equally good policies."""
        if bound >= 1.0:
            return 1.0
        least_m = self._least(bound)
        tail_m = np.where(least_m < 0, 0.0, _conditional(np.maximum(least_m, 0), np.arange(self.scenes + 1)))
        return _supremum(lambda rate_G: _binomial(self.scenes, rate_G) @ tail_m)

    def bound(self, alpha: float) -> float:
        """The largest conditional p that is significant at level `alpha`, to within a millionth of it."""
        low, high = alpha, 1.0
        while high - low > 1e-6 * low:
            middle = (low + high) / 2
            low, high = (middle, high) if self.level(middle) <= alpha else (low, middle)
        return low

    def power(self, alpha: float, only_first: float, only_second: float) -> float:
        """The probability of significance where just one policy succeeds with these probabilities."""
        differs = only_first + only_second
        if differs == 0.0:
            return 0.0
        m, least_m = np.arange(self.scenes + 1), self._least(self.bound(alpha))
        share = only_first / differs
        tails_m = _below(least_m + 1, m, share) + _below(least_m + 1, m, 1.0 - share)
        return float(_binomial(self.scenes, np.array([differs]))[0] @ tails_m)

    def _least(self, bound: float) -> NDArray[np.int64]:
        """For each m the largest min(b, m − b) whose conditional p is at most `bound`; −1 where none is."""
        m = np.arange(self.scenes + 1)
        low_m, high_m = np.full_like(m, -1), (m + 1) // 2  # p of the higher is 1
        while np.any(high_m - low_m > 1):
            middle_m = (low_m + high_m) // 2
            holds_m = _conditional(np.maximum(middle_m, 0), m) <= bound * (1.0 + _TIE)
            holds_m |= middle_m < 0
            low_m, high_m = np.where(holds_m, middle_m, low_m), np.where(holds_m, high_m, middle_m)
        return low_m


def _conditional(least: NDArray[np.int64] | int, m: NDArray[np.int64] | int) -> Floats:
    """2 P(X ≤ least) for X of Binomial(m, ½), at most 1."""
    return np.asarray(np.minimum(1.0, 2.0 * _below(np.asarray(least) + 1, m, 0.5)))


def _binomial(trials: int, rate_G: Floats) -> Floats:
    """Probabilities of 0 … trials successes [G, trials + 1]."""
    x = np.arange(trials + 1)
    choose = -betaln(x + 1, trials - x + 1) - np.log(trials + 1)
    return np.asarray(np.exp(choose + xlogy(x, rate_G[:, None]) + xlog1py(trials - x, -rate_G[:, None])))


def _below(count: NDArray[np.int64], trials: NDArray[np.int64] | int, rate: Floats | float) -> Floats:
    """P(X < count) for X of Binomial(trials, rate), broadcast."""
    inside = np.minimum(np.maximum(count - 1, 0), trials)
    known = bdtr(inside.astype(np.float64), trials, rate)
    return np.asarray(np.where(count <= 0, 0.0, np.where(count > trials, 1.0, known)))


def _supremum(probability: Callable[[Floats], Floats]) -> float:
    """The largest value over the nuisance in [0, 1]: of a grid, then around its best point."""
    values_G = probability(_GRID)
    best = int(values_G.argmax())
    low, high = _GRID[max(best - 1, 0)], _GRID[min(best + 1, len(_GRID) - 1)]
    found = minimize_scalar(
        lambda rate: -float(probability(np.array([rate]))[0]), bounds=(low, high), method="bounded"
    )
    return min(1.0, max(float(values_G[best]), -float(found.fun)))


def _first(values: Floats, holds: Callable[[float], bool]) -> float:
    """The first of ascending values from which on it holds; infinity where it never does."""
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(float(values[middle])) else (middle + 1, high)
    return float(values[low]) if low < len(values) else float("inf")


def check_alpha(alpha: float) -> None:
    """UsageError where it is no level, or one that 1 - alpha does not know."""
    if not LEAST_ALPHA <= alpha < 1.0:
        raise UsageError(
            f"alpha must lie between 0 and 1, and be at least {LEAST_ALPHA:g}, got {alpha:g}",
            hint="--alpha 0.05",
        )


def _check_count(part: int, whole: int) -> None:
    if not 0 <= part <= whole:
        raise FoundryError(f"{part} of {whole} is no count")
