"""Muon: momentum whose matrices are made nearly orthogonal before they are applied.

K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). torch.optim.Muon computes
in bfloat16 whatever the device, which a CPU without matrix units for it emulates at a twentieth of the
speed; here a CPU computes in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from robot_foundry.trainer.ranks.shares import share, split_as, whole

MOMENTUM = 0.95
ITERATIONS = 5
# Of the quintic that drives all singular values near 1 in five iterations (same source).
_A, _B, _C = 3.4445, -4.7750, 2.0315


class Muon(torch.optim.Optimizer):
    """For matrices, and convolutions as the matrix of their filters. Groups take `lr` and `weight_decay`.

    `whole_of` gives for each of `params` the parameter, whole or split over ranks, of which it is this rank's
    share. Of a split one every rank gathers the update and makes all of it orthogonal.
    """

    def __init__(
        self,
        params: Iterable[Any],
        whole_of: Mapping[Tensor, Tensor] | None = None,
        lr: float = 0.02,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self._whole_of = whole_of or {}

    @torch.no_grad()
    def step(self, closure: None = None, taken: Tensor | None = None) -> None:  # type: ignore[override]
        """One update with Nesterov momentum; a parameter without a gradient stays.

        Where `taken`, a bool [] on the device, is False nothing changes, whatever the gradients hold.
        """
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group["lr"], group["weight_decay"], taken)

    def _move(
        self, parameter: Tensor, gradient: Tensor, lr: float, weight_decay: float, taken: Tensor | None
    ) -> None:
        if taken is None:
            taken = torch.ones((), dtype=torch.bool, device=parameter.device)
        gradient = torch.where(taken, gradient, 0)
        momentum = self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
        momentum.lerp_(gradient, taken * (1 - MOMENTUM))
        like = self._whole_of.get(parameter, parameter)
        mixed = whole(split_as(gradient.lerp(momentum, MOMENTUM), like))
        update = orthogonal(mixed.flatten(1))
        rows, columns = update.shape
        parameter.mul_(1 - taken * (lr * weight_decay))
        factor = taken * (-lr * max(1.0, rows / columns) ** 0.5)
        parameter.addcmul_(share(update.view_as(mixed), like), factor)


def orthogonal(gradient: Tensor) -> Tensor:
    """The matrix with the gradient's singular vectors and singular values near 1, by Newton-Schulz."""
    x = gradient.bfloat16() if gradient.is_cuda else gradient.float()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = _A * x + (_B * square + _C * square @ square) @ x
    return (x.T if tall else x).to(gradient.dtype)
