"""Interval estimates: of success rates, and of differences.

Legend: n clusters, R resamples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.keyed import generator

_BLOCK = 1 << 22  # numbers drawn at once


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval of a binomial proportion (Clopper and Pearson 1934).

    It covers the true rate with at least `confidence`. It speaks of scenes only: the variance between
    training seeds is not in it. No trials give (0, 1).
    """
    if not 0 <= successes <= trials:
        raise FoundryError(f"{successes} successes in {trials} trials is no count")
    if not 0.0 < confidence < 1.0:
        raise FoundryError(f"confidence must lie between 0 and 1, got {confidence}")
    tail = (1.0 - confidence) / 2.0
    low = betaincinv(successes, trials - successes + 1, tail) if successes > 0 else 0.0
    high = betaincinv(successes + 1, trials - successes, 1.0 - tail) if successes < trials else 1.0
    return float(low), float(high)


def bootstrap_mean(
    sum_n: NDArray[np.floating],
    weight_n: NDArray[np.floating | np.integer],
    *,
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """The weighted mean Σ sum / Σ weight over clusters, and the percentile interval of its bootstrap.

    Whole clusters are drawn with replacement (Efron and Tibshirani 1993, ch. 8 and 13), so what happens
    within one need not be independent: give differences of paired conditions for the interval of their mean.
    The same arguments give the same interval. FoundryError where there is no cluster of weight.
    """
    used = weight_n > 0
    sum_n, weight_n = np.asarray(sum_n, np.float64)[used], np.asarray(weight_n, np.float64)[used]
    if not len(sum_n):
        raise FoundryError("there is nothing to draw from")
    random = generator("bootstrap", seed)
    means = []
    for rows in _blocks(resamples, len(sum_n)):
        drawn_Rn = random.integers(0, len(sum_n), (rows, len(sum_n)))
        means.append(sum_n[drawn_Rn].sum(axis=1) / weight_n[drawn_Rn].sum(axis=1))
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(np.concatenate(means), [tail, 100.0 - tail])
    return float(sum_n.sum() / weight_n.sum()), float(low), float(high)


def _blocks(resamples: int, num_clusters: int) -> list[int]:
    """How many resamples to draw at once."""
    size = max(1, _BLOCK // num_clusters)
    return [min(size, resamples - begin) for begin in range(0, resamples, size)]
