"""Guidance of a flow towards a chunk that is under way: real-time chunking (Black, Galliker, Levine 2025).

The sampler is told at every step how to change x_t so that the chunk it would end in comes nearer to the
target. That is a gradient through the network itself, the vector-Jacobian product of the predicted end.
Shapes: B batch, T chunk steps, A action dims.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

MOST_GUIDANCE = 5.0  # the β of the paper: beyond it few steps diverge


@dataclass(frozen=True)
class Guide:
    """Normalised targets, and how much each of their numbers counts, 0 … 1. Rows of zeros are left alone."""

    target_BTA: Tensor
    weight_BTA: Tensor


def guided(
    velocity: Callable[[Tensor, float], Tensor], guide: Guide, most: float = MOST_GUIDANCE
) -> Callable[[Tensor, float], Tensor]:
    """The velocity whose flow ends near the targets of `guide`, as far as the flow has chunks there.

    v + min(most, (1 − t)/t · (t² + (1 − t)²)/(1 − t)²) · Jᵀ [weight · (target − x̂)] with the predicted end
    x̂ = x_t + (1 − t)·v and its Jacobian J = ∂x̂/∂x_t (equations 2 to 4 of the paper, after Song et al. 2023).
    """

    def corrected(x_BTA: Tensor, t: float) -> Tensor:
        with torch.enable_grad():  # around the network: its Jacobian is the point
            x_BTA = x_BTA.detach().requires_grad_()
            v_BTA = velocity(x_BTA, t)
            end_BTA = x_BTA + (1 - t) * v_BTA
        error_BTA = guide.weight_BTA * (guide.target_BTA - end_BTA.detach())
        (correction_BTA,) = torch.autograd.grad(end_BTA, x_BTA, error_BTA)
        return v_BTA.detach() + guidance_weight(t, most) * correction_BTA

    return corrected


def guidance_weight(t: float, most: float = MOST_GUIDANCE) -> float:
    """How strongly a chunk is corrected at the time t in [0, 1): `most` at noise, less later."""
    if t == 0:
        return most
    return min(most, (t**2 + (1 - t) ** 2) / (t * (1 - t)))


def overlap_weights(steps: int, delay: ArrayLike, overlap: ArrayLike) -> NDArray[np.float32]:
    """How much each of `steps` steps of a new chunk keeps to the old one, float32 [..., steps].

    1 for those that pass before the new chunk is there (`delay`), then c·(e^c − 1)/(e − 1) with c falling
    linearly, and 0 from `overlap` on, where the old chunk has ended (equation 5 of the paper). Both are
    numbers of steps, which need not be whole, and may have leading axes.
    """
    delay_1, overlap_1 = (np.asarray(value, np.float64)[..., None] for value in (delay, overlap))
    step_T = np.arange(steps)
    c = np.clip((overlap_1 - step_T) / (overlap_1 - np.minimum(delay_1, overlap_1) + 1), 0, 1)
    falling = c * np.expm1(c) / (math.e - 1)
    return np.where(step_T < overlap_1, np.where(step_T < delay_1, 1.0, falling), 0.0).astype(np.float32)
