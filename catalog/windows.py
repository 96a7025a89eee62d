"""The rows of a window, shared by the loader and by statistics so that both see the same targets.

Rows are row numbers of one shard's frames table. Row t of an action stream holds the target for step t (in
`next_state`: the state reached at t+1), so the chunk of the anchor row t has targets t, t+stride, ….

Legend: n anchors, T horizon, H history.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def chunk_rows(
    row: ArrayLike, episode_start: ArrayLike, episode_end: ArrayLike, horizon: int, stride: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Target rows of the anchors `row` [n], and which of them lie inside the episode.

    `episode_start` and `episode_end` (exclusive) are scalars or [n]. Returns rows [n, T] = row + k·stride for
    k = 0 … T-1, clamped to the last row of the episode, and valid [n, T], False where it was clamped.
    """
    row_n1 = np.atleast_1d(np.asarray(row, dtype=np.int64))[:, None]
    start_n1 = np.atleast_1d(np.asarray(episode_start, dtype=np.int64))[:, None]
    end_n1 = np.atleast_1d(np.asarray(episode_end, dtype=np.int64))[:, None]
    rows_nT = row_n1 + np.arange(horizon, dtype=np.int64) * stride
    return np.clip(rows_nT, start_n1, end_n1 - 1), rows_nT < end_n1


def history_rows(
    row: ArrayLike, episode_start: ArrayLike, history: int, stride: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Observation rows of the anchors `row` [n], oldest first, the anchor last.

    Returns rows [n, H] = row - (H-1-h)·stride, clamped to the first row of the episode (`episode_start`,
    scalar or [n]), and valid [n, H], False where it was clamped.
    """
    row_n1 = np.atleast_1d(np.asarray(row, dtype=np.int64))[:, None]
    start_n1 = np.atleast_1d(np.asarray(episode_start, dtype=np.int64))[:, None]
    rows_nH = row_n1 - np.arange(history - 1, -1, -1, dtype=np.int64) * stride
    return np.maximum(rows_nH, start_n1), rows_nH >= start_n1
