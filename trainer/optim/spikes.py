"""Steps whose loss or gradient is far above the usual, found on the device: no step waits for the host.

Of the loss, and of the norm of the gradient, a mean and a variance of the last steps are kept: of all steps
at first, then with weights that fade as (1 − 1/MEMORY)^age (Finch 2009, "Incremental calculation of weighted
mean and variance", §9). What is left out does not move them.
Shapes: Q the quantities, loss and norm.
"""

from __future__ import annotations

import torch
from torch import Tensor

MEMORY = 200  # steps
FIRST = 50  # steps before which nothing is known to be unusual


class Spikes:
    """Called with a step's loss and norm, tensors [], it says whether the step is to be taken.

    tensors  its state, by name, to save and to load in place
    """

    def __init__(self, max_sigmas: float, device: torch.device) -> None:
        self._max_sigmas = max_sigmas
        self.tensors = {
            "steps": torch.zeros((), dtype=torch.float64, device=device),
            "mean": torch.zeros(2, dtype=torch.float64, device=device),
            "variance": torch.zeros(2, dtype=torch.float64, device=device),
            "spikes": torch.zeros((), dtype=torch.float64, device=device),
        }

    @property
    def count(self) -> int:
        """How many steps of the whole run were spikes. The host waits for the device."""
        return int(self.tensors["spikes"])

    @torch.no_grad()
    def __call__(self, loss: Tensor, norm: Tensor) -> Tensor:
        """Whether both are finite and neither is a spike, bool []."""
        steps, mean_Q, variance_Q, spikes = self.tensors.values()
        value_Q = torch.stack((loss, norm)).detach().double()
        finite = value_Q.isfinite().all()
        far = (value_Q > mean_Q + self._max_sigmas * variance_Q.sqrt()).any()
        spike = finite & far & (steps >= FIRST)
        taken = finite & ~spike
        weight = taken / (steps + 1).clamp(max=MEMORY)  # of this step; 0 leaves all as it is
        change_Q = torch.where(taken, value_Q - mean_Q, 0)
        variance_Q.copy_((1 - weight) * (variance_Q + weight * change_Q.square()))
        mean_Q.add_(weight * change_Q)
        steps.add_(taken)
        spikes.add_(spike)
        return taken
