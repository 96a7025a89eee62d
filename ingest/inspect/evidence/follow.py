"""Which columns of the state an action leads to, and how: as targets, as displacements, or not at all.

Shape suffixes: M rows of all episodes, A columns of an action, S columns of the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_foundry.checks.series import shifted
from robot_foundry.ingest.inspect.survey import Series

Array = NDArray[np.float64]

# Of targets: how far from the next state, of its spread, and how they correlate; of displacements the latter.
NEAR, FOLLOWS, OBEYED = 0.5, 0.9, 0.3
# Targets of what hardly moves lie where it is: within this of its distance from zero, which is so many
# spreads.
AT_LEVEL, SPREADS = 0.15, 3.0
# Frames later in which a step answers what was asked; and those over which a scale is measured.
LATER, OVER = (0, 1, 2), 10
# Frames in which a gripper answers, and the correlation that tells its sign (checks.motion.AGAINST).
GRIPPER_LATER, SIGN = (1, 3, 6, 10), 0.5
# What spreads less, of its size, does not move.
STILL = 1e-6


@dataclass(frozen=True)
class Follow:
    """How the state follows the columns from `start` on: `is_target` or a displacement of it.

    `correlation` is the mean of the moving columns, `near` the distance to the next state, of its spread, and
    `gain` the motion made over the displacement asked. `is_sure` unless it moves too little to tell.
    """

    start: int
    is_target: bool
    correlation: float
    near: float
    gain: float = 1.0
    is_sure: bool = True

    @property
    def in_words(self) -> str:
        if not self.is_sure:
            return "the numbers are those of the state, which hardly moves"
        if self.is_target:
            near = f"{self.near:.2f} of its spread away"
            return f"the next state is there (correlation {self.correlation:.2f}, {near})"
        return f"the state moves by {self.gain:.3g} of it (correlation {self.correlation:.2f})"


def follow(
    action: Series, state: Sequence[Array], free: Sequence[int], among: Sequence[int] | None = None
) -> Follow | None:
    """The columns among the `free` ones of an action that best lead to a quantity of the state, [N, d] each.

    They begin at one of `among`, None: anywhere.
    """
    width = state[0].shape[1] if state else 0
    starts = [s for s in free if all(column in free for column in range(s, s + width))]
    starts = [s for s in starts if among is None or s in among]
    found = [_at(action, state, start, width) for start in starts] if width else []
    targets = [f for f in found if f is not None and f.is_target]
    targets = [f for f in targets if f.is_sure] or targets
    if targets:
        return min(targets, key=lambda f: f.near)
    moved = [f for f in found if f is not None]
    return max(moved, key=lambda f: f.correlation) if moved else None


def _at(action: Series, state: Sequence[Array], start: int, width: int) -> Follow | None:
    asked = [rows[:, start : start + width] for rows in action.episodes]
    reached = [shifted(rows, 1) for rows in state]
    asked_Md, reached_Md = np.concatenate(asked), np.concatenate(reached)
    kept_M = np.isfinite(asked_Md).all(axis=1) & np.isfinite(reached_Md).all(axis=1)
    if not kept_M.any():
        return None
    asked_Md, reached_Md = asked_Md[kept_M], reached_Md[kept_M]
    spread = _spread(state)
    moving = spread > STILL * (1 + np.abs(reached_Md).max())
    if not moving.any():
        return None
    apart = np.sqrt(((asked_Md - reached_Md) ** 2).mean(axis=0))
    near = float((apart[moving] / spread[moving]).mean())
    straight = _mean_correlation(asked, reached, moving)
    if near < NEAR and straight > FOLLOWS:
        return Follow(start, True, straight, near)
    steps = [shifted(rows, 1) - rows for rows in state]
    best = max(_mean_correlation(asked, [shifted(rows, lag) for rows in steps], moving) for lag in LATER)
    if _is_level(asked_Md, reached_Md, spread):
        return Follow(start, True, straight, near, is_sure=False)
    return Follow(start, False, best, near, _gain(asked, state)) if best >= OBEYED else None


def _is_level(asked_Md: Array, reached_Md: Array, spread: Array) -> bool:
    """Whether the numbers lie where the state lies, though it hardly moves: each column, far from zero."""
    level, mean = reached_Md.mean(axis=0), asked_Md.mean(axis=0)
    tells = np.abs(level) > SPREADS * spread
    return bool(tells.sum() >= 3 and (np.abs(mean - level)[tells] < AT_LEVEL * np.abs(level)[tells]).all())


def _spread(episodes: Sequence[Array]) -> Array:
    """The standard deviation of each column over its finite rows, each episode about its own mean."""
    whole = [rows[np.isfinite(rows).all(axis=1)] for rows in episodes]
    centred = np.concatenate([rows - rows.mean(axis=0) for rows in whole if len(rows)])
    return np.asarray(np.sqrt((centred**2).mean(axis=0)))


def _mean_correlation(one: Sequence[Array], other: Sequence[Array], moving: NDArray[np.bool_]) -> float:
    """Pearson's r of each column, episodes about their own means, averaged over the columns that move."""
    x_Md, y_Md = [], []
    for a, b in zip(one, other, strict=True):
        kept = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
        if kept.sum() > 1:
            x_Md.append(a[kept] - a[kept].mean(axis=0))
            y_Md.append(b[kept] - b[kept].mean(axis=0))
    if not x_Md:
        return 0.0
    x, y = np.concatenate(x_Md)[:, moving], np.concatenate(y_Md)[:, moving]
    size = np.sqrt((x * x).sum(axis=0) * (y * y).sum(axis=0))
    r = np.divide((x * y).sum(axis=0), size, out=np.zeros_like(size), where=size > 0)
    return float(r.mean())


def _gain(asked: Sequence[Array], state: Sequence[Array]) -> float:
    """The motion over some frames against the sum of what was asked in them: a controller answers late."""
    product = total = 0.0
    for rows, reached in zip(asked, state, strict=True):
        if len(rows) <= OVER:
            continue
        sums = np.cumsum(np.vstack([np.zeros(rows.shape[1]), rows]), axis=0)
        wanted, made = sums[OVER:-1] - sums[: -OVER - 1], reached[OVER:] - reached[:-OVER]
        kept = np.isfinite(wanted) & np.isfinite(made)
        product += float((wanted * made)[kept].sum())
        total += float((wanted * wanted)[kept].sum())
    return product / total if total > 0 else 1.0


def sign_of(asked: Sequence[Array], opening: Sequence[Array]) -> float:
    """The correlation, signed, of one column with the opening of a gripper some frames later."""
    moving = np.ones(1, bool)
    found = [
        _mean_correlation(asked, [shifted(rows, lag) for rows in opening], moving) for lag in GRIPPER_LATER
    ]
    return max(found, key=abs)
