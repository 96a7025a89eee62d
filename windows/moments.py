"""Where the moments of a window lie: at rows of a table, or between two of them.

Row t of an action stream holds the target for step t, so the chunk of the anchor row t has targets t,
t + step, t + 2·step, …, and what was observed is t, t - step, …. A robot's loop counts its periods as rows.

Legend: n anchors, K moments (H of what was observed), R rows, D dims, S those of the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_foundry.normalization.resampling import between
from robot_foundry.normalization.space import ActionSpace

_ON_A_ROW = 1e-6  # what is this near to a row, in rows, lies on it


@dataclass(frozen=True)
class Moments:
    """Moments [n, K] between rows: `share_nK` of the way from `low_nK` to the next row; 0 on a row itself.

    `inside_nK` is False for what lay outside the episode; it is at the episode's first or last row instead.
    """

    low_nK: NDArray[np.int64]
    share_nK: NDArray[np.float64]
    inside_nK: NDArray[np.bool_]


def chunk_moments(
    row: ArrayLike, start: ArrayLike, end: ArrayLike, horizon: int, step: ArrayLike = 1.0
) -> Moments:
    """Where the targets of the anchors `row` [n] lie: row + k·step for k = 0 … horizon-1.

    Episodes are the rows `start` to `end` (exclusive) and `step` the rows between targets; scalars or [n].
    """
    row_n1, last_n1 = _column(row), _column(end) - 1
    whole_nK, share_nK = _parts(np.arange(horizon) * _floats(step))
    low_nK = row_n1 + whole_nK
    # What lies between two rows is made of both, so the later one must be of the episode as well.
    inside_nK = low_nK + (share_nK > 0) <= last_n1
    low_nK = np.where(inside_nK, low_nK, np.maximum(last_n1, _column(start)))
    return Moments(low_nK, np.where(inside_nK, share_nK, 0.0), inside_nK)


def history_moments(row: ArrayLike, start: ArrayLike, history: int, step: ArrayLike = 1.0) -> Moments:
    """Where the observations of the anchors `row` [n] lie, oldest first: row - k·step, the anchor last."""
    row_n1, start_n1 = _column(row), _column(start)
    whole_nK, share_nK = _parts(np.arange(history - 1, -1, -1) * _floats(step))
    # Shares count forward from the lower row, and the way here is back: the rest of it is left to go.
    low_nK = row_n1 - whole_nK - (share_nK > 0)
    inside_nK = low_nK >= start_n1
    share_nK = np.where((share_nK > 0) & inside_nK, 1 - share_nK, 0.0)
    return Moments(np.maximum(low_nK, start_n1), share_nK, inside_nK)


def filled_moments(history: int, dataset_history: int) -> NDArray[np.int64]:
    """Which of its own moments a dataset shows as the `history` ones of a batch [H], oldest first.

    Its own may be fewer, as it has steps of another length; the surplus repeat the oldest.
    """
    return np.maximum(np.arange(history) - (history - dataset_history), 0)


def finite_dims(state_nHS: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The dims [n, S] whose value is finite at every moment. The others are masked."""
    return np.asarray(np.isfinite(state_nHS).all(axis=1))


def values_at(
    values_RD: NDArray[Any], low_K: NDArray[np.int64], share_K: NDArray[np.float64], space: ActionSpace
) -> NDArray[Any]:
    """The values [..., D] at the share of the way from each row `low` to the next one, over `space`."""
    if not share_K.any():
        return values_RD[low_K]
    # A moment on a row asks for no next one, as the last row of the table has none.
    return between(values_RD[low_K], values_RD[low_K + (share_K > 0)], share_K, space)


def _column(value: ArrayLike) -> NDArray[np.int64]:
    return np.atleast_1d(np.asarray(value, dtype=np.int64))[:, None]


def _floats(value: ArrayLike) -> NDArray[np.float64]:
    return np.atleast_1d(np.asarray(value, dtype=np.float64))[:, None]


def _parts(rows_nK: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Whole rows and the rest, which is 0 for what lies on a row."""
    nearest_nK = np.rint(rows_nK)
    on_row_nK = np.abs(rows_nK - nearest_nK) < _ON_A_ROW
    whole_nK = np.where(on_row_nK, nearest_nK, np.floor(rows_nK))
    return whole_nK.astype(np.int64), np.where(on_row_nK, 0.0, rows_nK - whole_nK)
