"""What measures of an episode are made of: increments, shifts and pooled moments.

Shape suffixes: N = frames, M = N - 1 steps, d = dims of one quantity.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot_foundry.checks.evidence import Array
from robot_foundry.normalization.rotation import matrix_to_axis_angle, multiply


def minus(after_Nd: Array, before_Nd: Array) -> Array:
    return after_Nd - before_Nd


def turn(after_N33: Array, before_N33: Array) -> Array:
    """The rotation vector [N, 3] from one to the other, about the axes of the base."""
    return matrix_to_axis_angle(multiply(after_N33, np.swapaxes(before_N33, -1, -2)))


def shifted(values_N: Array, lag: int) -> Array:
    """Row t holds what row t + lag held; NaN beyond the ends."""
    shifted_N = np.full_like(values_N, np.nan, dtype=np.float64)
    count = max(len(values_N) - abs(lag), 0)
    if lag >= 0:
        shifted_N[:count] = values_N[lag : lag + count]
    else:
        shifted_N[-lag : -lag + count] = values_N[:count]
    return shifted_N


def moments(x_N: Array, y_N: Array) -> Array:
    """(n, Σx, Σy, Σxx, Σyy, Σxy) over the rows where both are known."""
    kept_N = np.isfinite(x_N) & np.isfinite(y_N)
    x, y = x_N[kept_N], y_N[kept_N]
    return np.array([len(x), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()])


def about_means(x_N: Array, y_N: Array) -> Array:
    """`moments` of the deviations from the episode's means, so that episodes pool without their offsets."""
    kept_N = np.isfinite(x_N) & np.isfinite(y_N)
    x, y = x_N[kept_N], y_N[kept_N]
    return moments(x - x.mean(), y - y.mean()) if len(x) else np.zeros(6)


def finite_rows(values_Nd: Array) -> NDArray[np.bool_]:
    """Rows [N] that are finite."""
    return np.asarray(np.isfinite(values_Nd).all(axis=1))
