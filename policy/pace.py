"""The steps of a policy in the periods of a robot's loop, when the two run at unlike rates.

Moments and targets lie and are interpolated as in training windows (`windows.moments`). Where a step is one
period everything passes as it is.
Shapes: S periods observed, H history, T steps of a chunk, N periods, d dims.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.normalization.space import ActionSpace
from robot_foundry.windows.moments import chunk_moments, history_moments, values_at

_ON_A_PERIOD = 1e-6


@dataclass(frozen=True)
class Pace:
    """`step` periods of the loop are one step of a policy that sees `history` moments."""

    step: float
    history: int

    @property
    def moments(self) -> int:
        """How many periods the loop must remember, the present one included."""
        return 1 + ceil((self.history - 1) * self.step - _ON_A_PERIOD)

    def states(self, state_Sd: NDArray[Any], space: ActionSpace) -> NDArray[Any]:
        """The states [H, d] that the policy sees of the last periods, oldest first."""
        moments = history_moments(len(state_Sd) - 1, 0, self.history, self.step)
        return values_at(state_Sd, moments.low_nK[0], moments.share_nK[0], space)

    def images(self, image_S: NDArray[Any]) -> NDArray[Any]:
        """The images [H, …] that it sees: the last ones taken by each moment."""
        return np.asarray(image_S[history_moments(len(image_S) - 1, 0, self.history, self.step).low_nK[0]])

    def targets(self, target_Td: NDArray[Any], space: ActionSpace) -> NDArray[Any]:
        """The absolute targets [N, d] of the next periods, up to the last step of the chunk."""
        steps = len(target_Td)
        periods = 1 + floor((steps - 1) * self.step + _ON_A_PERIOD)
        moments = chunk_moments(0, 0, steps, periods, 1 / self.step)
        return values_at(target_Td, moments.low_nK[0], moments.share_nK[0], space)
