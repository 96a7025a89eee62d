"""The interval of a difference of two success rates.

Legend: counts may be arrays that broadcast.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_foundry.evaluation.intervals import clopper_pearson

Floats = NDArray[np.float64]


def difference_interval(
    successes: tuple[ArrayLike, ArrayLike],
    trials: tuple[int, int],
    both: ArrayLike | None = None,
    confidence: float = 0.95,
) -> tuple[Floats, Floats]:
    """That of the second rate less the first, from the two exact intervals (l, u) of the rates p.

    Newcombe (1998, methods 10): p₂ − p₁ − √((p₂ − l₂)² − 2φ(p₂ − l₂)(u₁ − p₁) + (u₁ − p₁)²), and likewise
    above, with Clopper and Pearson's limits where he has Wilson's. `both` counts the scenes of pairs on which
    both succeeded; φ is their correlation, with his correction for continuity, and 0 without `both`. It is no
    exact interval: benchmarks/comparison.py has what it covers.
    """
    x1, x2 = (np.asarray(x, np.float64) for x in successes)
    n1, n2 = trials
    tail = (1.0 - confidence) / 2.0
    (low1, high1), (low2, high2) = _limits(x1, n1, tail), _limits(x2, n2, tail)
    rate1, rate2 = x1 / n1, x2 / n2
    phi = np.zeros(()) if both is None else _correlation(x1, x2, n1, np.asarray(both, np.float64))
    gap = rate2 - rate1
    return gap - _joined(rate2 - low2, high1 - rate1, phi), gap + _joined(high2 - rate2, rate1 - low1, phi)


def _joined(one: Floats, other: Floats, phi: Floats) -> Floats:
    return np.asarray(np.sqrt(np.maximum(one**2 - 2.0 * phi * one * other + other**2, 0.0)))


def _limits(x: Floats, n: int, tail: float) -> tuple[Floats, Floats]:
    """Clopper and Pearson's, of arrays; each count is computed once."""
    counts, where = np.unique(x, return_inverse=True)
    ends = np.array([clopper_pearson(int(count), n, 1.0 - 2.0 * tail) for count in counts])
    return ends[where, 0].reshape(x.shape), ends[where, 1].reshape(x.shape)


def _correlation(x1: Floats, x2: Floats, n: int, both: Floats) -> Floats:
    """φ of the table of pairs, its numerator n/2 nearer to 0 where it is above."""
    joint = both * (n - x1 - x2 + both) - (x1 - both) * (x2 - both)
    joint = np.where(joint > 0, np.maximum(joint - n / 2.0, 0.0), joint)
    spread = np.sqrt(x1 * (n - x1) * x2 * (n - x2))
    return np.divide(joint, spread, out=np.zeros_like(joint), where=spread > 0)
