"""Which values of a dimension become -1 and 1, so that no single frame decides it.

    percentiles        the low and high percentile (1 and 99): nearly every dimension
    wide percentiles   further out, where these span less than a twentieth of what the outer percentiles span:
                       a dimension that seldom moves
    point mass         all but the outermost frames, where the percentiles lie inside one repeated value
    range              as point mass, of discrete dimensions; min … max of grippers

The outer percentiles and the outermost frames leave out what two frames say, on either side, so that one bad
frame of 200 moves no scale. Widths change from one rule to the next without a jump (docs/actions.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_foundry.normalization.digest import Digest

# Outer percentiles: no further out than one frame in a thousand, and beyond the two outermost frames.
OUTER_PERCENT, OUTER_FRAMES = 0.1, 2.5
# Frames at either end that a point mass and a discrete dimension do without, as far as they are under the
# low percentile: with so few frames (99) every one counts.
OUTERMOST_FRAMES = 2
# A Cauchy distribution, the heaviest tail in use, spans 10 times as much between 0.1 and 99.9 % as between
# 1 and 99 %; a dimension that rests for 98 % of the time spans hundreds of times as much.
WIDE = 20.0
# At most so many distinct values, each seen 8 times on average, make a discrete dimension.
DISCRETE, SEEN = 32, 8

# What is less than this does not move: a robot repeats a pose to 1e-5 m, and float32 poses that are made
# relative to each other differ by 1e-7 m where they are equal. Units that are not here have no such bound.
LEAST_SPREAD = dict.fromkeys(("m", "rad", "1", "m/s", "rad/s", "N", "N*m"), 1e-6)
# Values are float32: the steps between neighbours that rounding and a conversion of units leave, …
_ROUNDING = 4 * float(np.finfo(np.float32).eps)
# … and the spread below which 1 / scale is no float32.
_SMALLEST = 4 * float(np.finfo(np.float32).tiny)
# Percentiles that tell of what magnitude values are.
_USUAL = (1, 50, 99)


@dataclass(frozen=True)
class Band:
    """`low` becomes -1 and `high` 1 by `rule`; with the rule constant both are the constant."""

    low: float
    high: float
    rule: str


def least_spread(digest: Digest, unit: str) -> float:
    """The width up to which values of this unit and magnitude are a constant."""
    return _least(digest.percentile(_USUAL), unit)


def _least(usual: NDArray[np.float64], unit: str) -> float:
    magnitude = float(np.abs(usual).max())
    return max(LEAST_SPREAD.get(unit, 0.0), _ROUNDING * magnitude, _SMALLEST)


def levels_of(digest: Digest) -> int | None:
    """The number of distinct values of a discrete dimension, None of another."""
    distinct = len(digest.values)
    return distinct if digest.is_exact and distinct <= min(DISCRETE, digest.count // SEEN) else None


def extreme_band(digest: Digest, unit: str) -> Band:
    """From the least to the greatest value."""
    least = least_spread(digest, unit)
    return _or_constant(digest, Band(digest.min, digest.max, "range"), least)


def robust_band(
    digest: Digest, unit: str, percentiles: tuple[float, float], values_per_frame: int = 1
) -> Band:
    """The band of a dimension that has data, of which each frame gave `values_per_frame` values."""
    low, high = percentiles
    tail = min(low, 100 - high) / 100
    at_ends = _without_outermost(digest, min(OUTERMOST_FRAMES * values_per_frame, tail * digest.count))
    outer = max(OUTER_PERCENT, 100 * OUTER_FRAMES * values_per_frame / digest.count)
    marks = digest.percentile((*_USUAL, *percentiles, min(low, outer), max(high, 100 - outer)))
    usual, inside, outside = marks[:-4], tuple(marks[-4:-2]), tuple(marks[-2:])
    least = _least(usual, unit)
    if levels_of(digest) is not None:
        return _or_constant(digest, Band(*at_ends, "range"), least)
    width, outer_width = inside[1] - inside[0], outside[1] - outside[0]
    # Where the outer percentiles span WIDE times the inner width this is the inner width itself, and all of
    # theirs where the inner ones span nothing: between the two it changes without a jump.
    wanted = max(width, outer_width - (WIDE - 1) * width)
    widened = (wanted - width) / (outer_width - width) if wanted > width else 0.0
    band = Band(*_between(inside, outside, widened), "wide percentiles" if widened else "percentiles")
    # From all of the point mass to none of it between one and two least spreads, so that noise makes no jump.
    share = float(np.clip(2 - width / least, 0, 1))
    if share:
        ends = min(band.low, at_ends[0]), max(band.high, at_ends[1])
        band = Band(*_between((band.low, band.high), ends, share), "point mass")
    return _or_constant(digest, band, least)


def _or_constant(digest: Digest, band: Band, least: float) -> Band:
    if band.high - band.low > least:
        return band
    # The median, as one bad frame moves the middle of the extremes.
    middle = digest.min if digest.min == digest.max else float(digest.percentile(50))
    return Band(middle, middle, "constant")


def _between(inner: tuple[float, ...], outer: tuple[float, ...], share: float) -> tuple[float, float]:
    low, high = (float(a + share * (b - a)) for a, b in zip(inner, outer, strict=True))
    return low, high


def _without_outermost(digest: Digest, values: float) -> tuple[float, float]:
    """Least and greatest value that so many `values` at either end leave.

    Of centroids that stand for unlike values only those count that lie inside as a whole: the mean of one
    that holds an outlier says nothing.
    """
    if values < 1:
        return digest.min, digest.max
    above = np.cumsum(digest.weights)
    below = above - digest.weights
    from_low = np.where(digest.points, above > values, below >= values)
    from_high = np.where(digest.points, digest.count - below > values, digest.count - above >= values)
    if not (from_low.any() and from_high.any()):
        return digest.min, digest.max
    low, high = digest.values[from_low][0], digest.values[from_high][-1]
    return float(min(low, high)), float(max(low, high))
