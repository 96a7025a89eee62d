"""What a policy knows of the moments that it sees.

Legend: n anchors, H moments, S state dims.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def filled_moments(history: int, dataset_history: int) -> NDArray[np.int64]:
    """Which of its own moments a dataset shows as the `history` ones of a batch [H], oldest first.

    Its own may be fewer, as it has steps of another length; the surplus repeat the oldest.
    """
    return np.maximum(np.arange(history) - (history - dataset_history), 0)


def known_dims(state_nHS: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The dims [n, S] whose value is finite at every moment. The others are masked."""
    return np.asarray(np.isfinite(state_nHS).all(axis=1))
