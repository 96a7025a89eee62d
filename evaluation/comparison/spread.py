"""How far training seeds may lie apart that the few which were run do not show.

Near 0 and 100 % most seeds of a recipe look alike, and the rare one that does not is what moves its mean
rate, so the spread that R runs show says little there. Here a run's rate is Φ(b + σx) with x standard normal
and σ at most `WIDEST`. For each mean rate p the largest σ is taken that the runs do not contradict, as they
do where so small a variance has at most a probability that is an argument. The variance of R means is taken
as gamma distributed with its mean and variance, which follow from the second and fourth central moment of a
run's mean (Kenney and Keeping 1951, §7.7), found by Gauss-Hermite quadrature.

Legend: P mean rates, G spreads, X nodes; leading dims are of simulations.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray
from scipy.special import betainc, gammaincinv, ndtr, ndtri

Floats = NDArray[np.float64]
WIDEST = 1.0  # on the probit scale: two of three seeds lie between 16 and 84 %, where their mean is 50 %
_PROBIT_P = np.linspace(-3.5, 3.5, 141)
RATE_P = ndtr(_PROBIT_P)
# One step beyond, towards 0 and 1: an end that lies between two rates of the grid is given as the outer one.
_BELOW_P, _ABOVE_P = ndtr(_PROBIT_P - 0.05), ndtr(_PROBIT_P + 0.05)
_SPREAD_G = np.linspace(0.0, WIDEST, 11)


def episodes_of(of_runs: Floats, runs: int, scenes: int, contradicted: float) -> Floats:
    """As how many independent episodes the runs count at each mean rate [..., P].

    `of_runs` is the variance that the runs show of their mean, of which `runs` act on `scenes` each.
    """
    variance_PG, least_PG = _variances(runs, scenes, contradicted)
    shown = (of_runs * runs)[..., None, None] >= least_PG * (1 - 1e-9)
    shown[..., 0] = True
    last = _SPREAD_G.size - 1 - shown[..., ::-1].argmax(axis=-1)
    variance = np.take_along_axis(np.broadcast_to(variance_PG, shown.shape), last[..., None], axis=-1)[..., 0]
    return np.asarray(np.minimum(RATE_P * (1.0 - RATE_P) * runs / variance, runs * scenes))


def ends(rate: Floats, episodes: Floats, tail: float) -> tuple[Floats, Floats]:
    """The lowest and the highest mean rate at which neither tail is below `tail` (Clopper and Pearson)."""
    x = rate[..., None] * episodes
    low = np.where(_at_least(x, episodes) >= tail, _BELOW_P, 1.0).min(axis=-1)
    high = np.where(1.0 - _at_least(x + 1.0, episodes) >= tail, _ABOVE_P, 0.0).max(axis=-1)
    return np.where(rate > 0.0, np.minimum(low, rate), 0.0), np.where(rate < 1.0, np.maximum(high, rate), 1.0)


def p_of_none(rates: tuple[Floats, Floats], episodes: tuple[Floats, Floats]) -> Floats:
    """Two-sided p of one mean rate for both [...]: the most that any has.

    How far each is from it, by a tail that holds half of what was seen (mid-p), is squared and added, as Zou
    and Donner (2008) do for intervals.
    """
    above_1, above_2 = map(_above, rates, episodes)
    is_rising = (rates[0] <= rates[1])[..., None]
    towards = np.where(is_rising, 1.0 - above_1, above_1), np.where(is_rising, above_2, 1.0 - above_2)
    square = sum(np.minimum(ndtri(np.clip(tail, 1e-300, 1.0)), 0.0) ** 2 for tail in towards)
    return np.asarray(2.0 * ndtr(-np.sqrt(np.min(square, axis=-1))))


def _above(rate: Floats, episodes: Floats) -> Floats:
    """How probable a higher rate is at each mean rate [..., P], half of the same one added."""
    x = rate[..., None] * episodes
    return np.asarray((_at_least(x, episodes) + _at_least(x + 1.0, episodes)) / 2.0)


def _at_least(x: Floats, episodes: Floats) -> Floats:
    """Probability of x successes or more, of whole numbers or not, at each mean rate [..., P]."""
    inner = betainc(np.maximum(x, 1e-9), np.maximum(episodes - x + 1.0, 1e-9), RATE_P)
    return np.asarray(np.where(x <= 0.0, 1.0, np.where(x > episodes * (1 + 1e-12), 0.0, inner)))


@lru_cache(maxsize=32)
def _variances(runs: int, scenes: int, contradicted: float) -> tuple[Floats, Floats]:
    """Variance of one run's mean, and the least that `runs` show of it in all but `contradicted` [P, G]."""
    x_X, weight_X = hermegauss(41)
    weight_X = weight_X / weight_X.sum()
    rate_PGX = ndtr(
        (ndtri(RATE_P)[:, None] * np.sqrt(1.0 + _SPREAD_G**2))[..., None] + _SPREAD_G[:, None] * x_X
    )
    away_PGX, of_scenes_PGX = rate_PGX - RATE_P[:, None, None], rate_PGX * (1.0 - rate_PGX) / scenes
    # Central moments of the mean of `scenes` Bernoulli draws, given the run.
    third_PGX = of_scenes_PGX * (1.0 - 2.0 * rate_PGX) / scenes
    fourth_PGX = (
        3.0 * of_scenes_PGX**2 + of_scenes_PGX * (1.0 - 6.0 * rate_PGX * (1.0 - rate_PGX)) / scenes**2
    )
    variance_PG = (away_PGX**2 + of_scenes_PGX) @ weight_X
    moment_PG = (
        away_PGX**4 + 6.0 * away_PGX**2 * of_scenes_PGX + 4.0 * away_PGX * third_PGX + fourth_PGX
    ) @ weight_X
    of_variance_PG = (moment_PG - variance_PG**2 * (runs - 3) / (runs - 1)) / runs
    shape_PG = variance_PG**2 / of_variance_PG
    least_PG = gammaincinv(shape_PG, contradicted) * variance_PG / shape_PG
    return variance_PG, least_PG
