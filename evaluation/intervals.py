"""Interval estimates for success rates."""

from __future__ import annotations

from scipy.stats import beta

from robot_foundry.runtime.errors import FoundryError


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
    low = beta.ppf(tail, successes, trials - successes + 1) if successes > 0 else 0.0
    high = beta.ppf(1.0 - tail, successes + 1, trials - successes) if successes < trials else 1.0
    return float(low), float(high)
