"""What a policy answers. Needs neither the policy nor what computes it.

Shapes: T steps, A dims of the action.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_foundry.normalization.space import ActionSpace


@dataclass(frozen=True)
class Actions:
    """A chunk of absolute targets in robot units.

    `values_TA` [T, A] over `space`; step s is meant for s · `dt` seconds after the observation (None: the
    dataset's rate is unknown). With control_hz `dt` is that of the policy, whatever the dataset's rate.
    """

    values_TA: NDArray[np.float64]
    space: ActionSpace
    dt: float | None


@dataclass(frozen=True)
class Underway:
    """A chunk that a robot executes while the next one is computed.

    `executed` of its steps lie before the observation that the next chunk answers, and `delay` more pass
    until that one takes over. Both are steps of the policy (`Actions.dt`), and need not be whole.
    """

    actions: Actions
    executed: float
    delay: float = 0.0
