"""Linear layers of which each embodiment has weights of its own (as in GR00T N1, Bjorck et al. 2025).

Shapes: B batch, N tokens, E embodiments, I channels in, O channels out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robot_foundry.trainer.models.layers.initial import Constant, Distribution, Normal


class EmbodimentLinear(nn.Module):
    """x Wᵀ + b with the W [O, I] and b [O] of each row's embodiment."""

    def __init__(self, embodiments: int, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(embodiments, out_features, in_features))
        self.bias = nn.Parameter(torch.empty(embodiments, out_features)) if bias else None

    def initial(self) -> dict[str, Distribution]:
        """As a linear layer that all share."""
        return {"weight": Normal(self.weight.shape[-1] ** -0.5), "bias": Constant(0.0)}

    def forward(self, x_BNI: Tensor, embodiment_B: Tensor) -> Tensor:
        y_BNO = x_BNI @ self.weight[embodiment_B].mT
        return y_BNO if self.bias is None else y_BNO + self.bias[embodiment_B, None]


Projection = nn.Linear | EmbodimentLinear


def projection(embodiments: int | None, in_features: int, out_features: int, bias: bool = True) -> Projection:
    """One layer for all rows where `embodiments` is None, else one for each embodiment."""
    if embodiments is None:
        return nn.Linear(in_features, out_features, bias=bias)
    return EmbodimentLinear(embodiments, in_features, out_features, bias=bias)


def project(layer: Projection, x_BNI: Tensor, embodiment_B: Tensor | None) -> Tensor:
    """x [B, N, O] by either kind; which embodiment a row is of is needed where each has its own weights."""
    if isinstance(layer, nn.Linear):
        return layer(x_BNI)
    if embodiment_B is None:
        raise ValueError("a head with projections per embodiment needs the embodiment of each row")
    return layer(x_BNI, embodiment_B)
