"""The running average of weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Ema:
    """Moving average of weights in fp32; after n updates the decay is min(maximum, 1 - (1 + n)^-power).

    Frozen weights are their own average: `weights` holds themselves.
    """

    def __init__(self, model: nn.Module, *, power: float, maximum: float) -> None:
        self._power, self._maximum = power, maximum
        self._live = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.weights = {
            name: p.detach().clone() if p.requires_grad else p.detach()
            for name, p in model.named_parameters()
        }

    @property
    def averages(self) -> dict[str, Tensor]:
        """Those of the weights that move."""
        return {name: self.weights[name] for name in self._live}

    @torch.no_grad()
    def update(self, step: int, finite: Tensor) -> None:
        """Take in the weights after optimiser step `step` (0 the first), unless `finite` is False."""
        weight = 1 - min(self._maximum, 1 - (2 + step) ** -self._power)
        # On the device: no step waits for the host to look. No foreach kernel takes a weight from there.
        weight_or_0 = finite * weight
        for name, live in self._live.items():
            self.weights[name].lerp_(live.detach(), weight_or_0)
