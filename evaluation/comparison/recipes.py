"""Recipes: several runs of one configuration with seeds of their own, each rolled out on the same scenes.

Two runs of one recipe differ by more than chance on scenes allows, so scenes of one run say nothing of what
another training seed would give. What is estimated is the success rate over training seeds *and* scenes,
with the run as the unit: with R runs there are R − 1 degrees of freedom, however many scenes.

With Y_rs the success of run r on scene s, the variance of the mean is estimated from two-way tables,

    V_runs = Σ_r (Ȳ_r· − Ȳ)² / (R(R − 1))      V_scenes = Σ_s (Ȳ_·s − Ȳ)² / (S(S − 1))
    V_both = Σ_rs (Y_rs − Ȳ_r· − Ȳ_·s + Ȳ)² / (RS(R − 1)(S − 1))
    V = max(V_runs, V_scenes, V_runs + V_scenes − V_both),

in which each of the first two holds the noise of single episodes once (Searle, Casella and McCulloch 1992,
ch. 4), and never less than that of as many independent episodes. Near 0 and 100 % few seeds do not show how
far seeds lie apart; `spread` says how far they may, and the more cautious of both holds.

Legend: R runs, S scenes; leading dims are of simulations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, stdtr, stdtrit

from robot_foundry.evaluation.comparison import spread
from robot_foundry.runtime.errors import FoundryError

Floats = NDArray[np.float64]
# The spread of seeds is taken as contradicted where so small a one as is shown has at most this probability;
# in a test of two recipes of as many runs more readily, as both are seldom misjudged at once. Of unlike
# numbers the one of fewer runs decides alone.
IN_INTERVALS, IN_TESTS, IN_UNEQUAL_TESTS = 0.05, 0.1, 0.03


@dataclass(frozen=True)
class Recipe:
    """What was measured of one: successes [..., R, S]; FoundryError with fewer than two runs or scenes."""

    success_RS: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if min(self.success_RS.shape[-2:]) < 2:
            raise FoundryError(
                "a recipe is at least two runs on at least two scenes", hint="roll out with more --episodes"
            )

    @property
    def runs(self) -> int:
        return int(self.success_RS.shape[-2])

    @property
    def scenes(self) -> int:
        return int(self.success_RS.shape[-1])

    @property
    def rate(self) -> Floats:
        return np.asarray(self.success_RS.mean(axis=(-2, -1)))

    @property
    def rate_R(self) -> Floats:
        return np.asarray(self.success_RS.mean(axis=-1))

    @property
    def rate_S(self) -> Floats:
        return np.asarray(self.success_RS.mean(axis=-2))

    @property
    def of_runs(self) -> Floats:
        """V_runs."""
        return np.asarray(self.rate_R.var(axis=-1, ddof=1) / self.runs)

    @property
    def of_both(self) -> Floats:
        """V_both. The sum of squares that is left is the whole less that of runs and of scenes."""
        number = self.runs * self.scenes
        whole = number * self.rate * (1.0 - self.rate)
        left = whole - number * (self.rate_R.var(axis=-1) + self.rate_S.var(axis=-1))
        return np.asarray(np.maximum(left, 0.0) / (number * (self.runs - 1) * (self.scenes - 1)))

    def effective(self) -> Floats:
        """As how many independent episodes it counts [...]: rate (1 − rate) / V, or all."""
        number = self.runs * self.scenes
        of_rate = self.rate * (1.0 - self.rate)
        variance = _variance(self.of_runs, _mean_variance(self.rate_S), self.of_both)
        known = np.divide(of_rate, variance, out=np.full_like(of_rate, number), where=variance > 0)
        return np.asarray(np.minimum(known, number))

    def interval(self, confidence: float = 0.95) -> tuple[Floats, Floats]:
        """Clopper and Pearson's interval for the effective number of episodes [...], and what `spread` adds.

        That number is taken times (t of episodes − 1 / t of R − 1)², for the few degrees of freedom that V is
        known with (Korn and Graubard 1998).
        """
        tail = (1.0 - confidence) / 2.0
        number = self.runs * self.scenes
        few = (stdtrit(number - 1, 1.0 - tail) / stdtrit(self.runs - 1, 1.0 - tail)) ** 2
        episodes = self.effective() * few
        x = np.asarray(self.rate * episodes)
        low, high = np.zeros_like(x), np.ones_like(x)
        betaincinv(x, episodes - x + 1.0, tail, out=low, where=self.rate > 0.0)
        betaincinv(x + 1.0, episodes - x, 1.0 - tail, out=high, where=self.rate < 1.0)
        of_rate = self.rate * (1.0 - self.rate)
        more = np.maximum(_mean_variance(self.rate_S) - self.of_both, 0.0)
        share = np.divide(more, of_rate, out=np.zeros_like(of_rate), where=of_rate > 0)
        episodes_P = 1.0 / (1.0 / self.by_spread(IN_INTERVALS) + share[..., None])
        lowest, highest = spread.ends(self.rate, episodes_P, tail)
        return np.minimum(low, lowest), np.maximum(high, highest)

    def by_spread(self, contradicted: float) -> Floats:
        """As how many independent episodes it counts at each mean rate [..., P], scenes aside."""
        return spread.episodes_of(self.of_runs, self.runs, self.scenes, contradicted)


@dataclass(frozen=True)
class Difference:
    """The second rate less the first [...], its interval, and the p-value of none."""

    value: Floats
    low: Floats
    high: Floats
    p: Floats


def difference(first: Recipe, second: Recipe, *, paired: bool, confidence: float = 0.95) -> Difference:
    """Welch's t of two recipes on run means, with what scenes add, or what `spread` says: the more cautious.

    `paired`: on the same scenes, in order. What makes a scene hard for both cancels then. Degrees of freedom
    are min(R₁, R₂) − 1, which never errs towards significance (Mickey and Brown 1966); with two runs of each
    only differences far larger than those between the runs are seen.
    """
    value = second.rate - first.rate
    of_scenes = _mean_variance(first.rate_S) + _mean_variance(second.rate_S)
    if paired:
        of_scenes = _mean_variance(second.rate_S - first.rate_S)
    numbers = [one.runs * one.scenes for one in (first, second)]
    pooled = (first.rate * numbers[0] + second.rate * numbers[1] + 1.0) / (sum(numbers) + 2.0)
    least = pooled * (1.0 - pooled) * (1.0 / numbers[0] + 1.0 / numbers[1])
    variance = _variance(first.of_runs + second.of_runs, of_scenes, first.of_both + second.of_both)
    error = np.sqrt(np.maximum(variance, least))
    freedom = min(first.runs, second.runs) - 1
    reach = stdtrit(freedom, (1.0 + confidence) / 2.0) * error
    p = 2.0 * stdtr(freedom, -np.abs(value) / error)
    (low_1, high_1), (low_2, high_2) = (
        spread.ends(one.rate, one.by_spread(IN_INTERVALS), (1.0 - confidence) / 2.0)
        for one in (first, second)
    )
    # Distances are squared and added (Zou and Donner 2008).
    down = np.maximum(reach, np.hypot(second.rate - low_2, high_1 - first.rate))
    up = np.maximum(reach, np.hypot(high_2 - second.rate, first.rate - low_1))
    contradicted = IN_TESTS if first.runs == second.runs else IN_UNEQUAL_TESTS
    episodes = first.by_spread(contradicted), second.by_spread(contradicted)
    most = np.maximum(p, spread.p_of_none((first.rate, second.rate), episodes))
    return Difference(value, np.maximum(value - down, -1.0), np.minimum(value + up, 1.0), np.asarray(most))


def _variance(of_runs: Floats, of_scenes: Floats, of_both: Floats) -> Floats:
    return np.asarray(np.maximum(np.maximum(of_runs, of_scenes), of_runs + of_scenes - of_both))


def _mean_variance(values_S: ArrayLike) -> Floats:
    """Of the mean of independent values."""
    values_S = np.asarray(values_S)
    return np.asarray(values_S.var(axis=-1, ddof=1) / values_S.shape[-1])
