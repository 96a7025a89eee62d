"""From messages at their own times to rows at the times of frames; what has no message near stays empty.

Legend: N frames, K messages in order of time, d columns. Times are int64 ns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.ros.options import LINEAR, NEAREST, PREVIOUS, SLERP, Matching
from robot_foundry.ingest.sources.ros.times.clocks import Clocked, Times

Array = NDArray[np.float64]
Places = NDArray[np.int64]
NANOSECONDS = 1_000_000_000
# Of the median step of a stream: one message may be lost between two.
DEFAULT_STEPS = 2.0
# Below this angle a straight line and an arc are the same in float64.
SMALLEST_ANGLE = 1e-7


@dataclass(frozen=True)
class Used:
    """What each frame uses: messages `low` [N] and `high` [N], -1 for none, at `share` [N] of the way."""

    low: Places
    high: Places
    share: Array

    @property
    def messages(self) -> Places:
        """All that some frame uses, once."""
        used = np.concatenate([self.low, self.high[self.share > 0]])
        return np.unique(used[used >= 0])


def num_frames(first_ns: int, last_ns: int, rate: float) -> int:
    """How many frames there are at that rate from the first moment up to the last."""
    return math.floor((last_ns - first_ns) * rate / NANOSECONDS) + 1


def frame_times(first_ns: int, last_ns: int, rate: float) -> Times:
    """[N] at that rate from the first moment up to the last."""
    count = num_frames(first_ns, last_ns, rate)
    times_N: Times = first_ns + np.rint(np.arange(count) * (NANOSECONDS / rate)).astype(np.int64)
    return times_N[times_N <= last_ns]


def tolerance_ns(matching: Matching, clocked: Clocked) -> float:
    """How far a message may be from a frame that uses it."""
    if matching.tolerance is not None:
        return matching.tolerance * NANOSECONDS
    return DEFAULT_STEPS * clocked.step_ns


def match(frames_N: Times, times_K: Times, method: str, within_ns: float) -> Used:
    """Which messages each frame uses: the nearest (of two as near, the earlier), the last before, or both.

    Every message that is used is within `within_ns` of its frame; frames without one use none.
    """
    none_N, zero_N = np.full(len(frames_N), -1, np.int64), np.zeros(len(frames_N))
    if not len(times_K):
        return Used(none_N, none_N, zero_N)
    before_N = np.searchsorted(times_K, frames_N, side="right") - 1
    after_N = np.minimum(before_N + 1, len(times_K) - 1)
    at_N = np.maximum(before_N, 0)
    since_N = np.where(before_N >= 0, frames_N - times_K[at_N], np.inf)
    until_N = np.where(times_K[after_N] > frames_N, times_K[after_N] - frames_N, np.inf)
    if method in (NEAREST, PREVIOUS):
        chosen_N = np.where((method == NEAREST) & (until_N < since_N), after_N, at_N)
        far_N = np.minimum(since_N, until_N) if method == NEAREST else since_N
        chosen_N = np.where((far_N <= within_ns) & np.isfinite(far_N), chosen_N, -1)
        return Used(chosen_N, chosen_N, zero_N)
    is_exact_N = since_N == 0
    is_between_N = np.isfinite(since_N) & np.isfinite(until_N) & (np.maximum(since_N, until_N) <= within_ns)
    low_N = np.where(is_exact_N | is_between_N, at_N, -1)
    high_N = np.where(is_exact_N, at_N, np.where(is_between_N, after_N, -1))
    with np.errstate(invalid="ignore"):
        share_N = np.where(is_between_N & ~is_exact_N, since_N / (since_N + until_N), 0.0)
    return Used(low_N, high_N, share_N)


def rows(values_Kd: Array, used: Used, method: str, quaternions: Sequence[int]) -> Array:
    """[N, d]: the numbers of a message bit for bit where a frame uses one, else between two; NaN for none.

    `quaternions` are the first of four columns each, which turn along the shortest arc.
    """
    rows_Nd = np.where(used.low[:, None] >= 0, values_Kd[used.low], np.nan)
    between = np.flatnonzero(used.share > 0)
    if not len(between) or method not in (LINEAR, SLERP):
        return rows_Nd
    low_nd, high_nd = values_Kd[used.low[between]], values_Kd[used.high[between]]
    share_n1 = used.share[between, None]
    with np.errstate(invalid="ignore", over="ignore"):
        mixed_nd = low_nd + share_n1 * (high_nd - low_nd)
        for first in quaternions:
            four = slice(first, first + 4)
            mixed_nd[:, four] = slerp(low_nd[:, four], high_nd[:, four], share_n1)
    rows_Nd[between] = mixed_nd
    return rows_Nd


def slerp(low_n4: Array, high_n4: Array, share_n1: Array) -> Array:
    """Unit quaternions, in either order, at a share of the shortest arc from one to another (Shoemake 1985).

    One of length zero gives NaN.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        low_n4 = low_n4 / np.sqrt((low_n4 * low_n4).sum(axis=1, keepdims=True))
        high_n4 = high_n4 / np.sqrt((high_n4 * high_n4).sum(axis=1, keepdims=True))
    cosine_n1 = (low_n4 * high_n4).sum(axis=1, keepdims=True)
    # q and -q are one rotation: the nearer of the two.
    high_n4 = np.where(cosine_n1 < 0, -high_n4, high_n4)
    sine_n1 = np.sqrt(((high_n4 - np.abs(cosine_n1) * low_n4) ** 2).sum(axis=1, keepdims=True))
    angle_n1 = np.arctan2(sine_n1, np.abs(cosine_n1))
    near_n1 = angle_n1 < SMALLEST_ANGLE
    safe_n1 = np.where(near_n1, 1.0, np.sin(angle_n1))
    first_n1 = np.where(near_n1, 1.0 - share_n1, np.sin((1.0 - share_n1) * angle_n1) / safe_n1)
    second_n1 = np.where(near_n1, share_n1, np.sin(share_n1 * angle_n1) / safe_n1)
    mixed_n4 = first_n1 * low_n4 + second_n1 * high_n4
    return np.asarray(mixed_n4 / np.sqrt((mixed_n4 * mixed_n4).sum(axis=1, keepdims=True)))
