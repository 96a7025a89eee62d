"""The loss of next tokens, without ever holding a logit for each of a batch's tokens and each id.

Shapes: N tokens, C tokens of a chunk, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

NOTHING = -1  # the target of a token that predicts none
CPU_CHUNK, CHUNK = 256, 2048  # tokens at a time: few logits stay in a CPU's cache, many keep a GPU busy


def cross_entropy_sum(hidden_ND: Tensor, weight_VD: Tensor, target_N: Tensor) -> Tensor:
    """Sum of -log softmax(hidden weightᵀ)[target] in float32; tokens whose target is NOTHING add none.

    Gradients are made with the loss, chunk by chunk, so that each chunk's logits are made once and let go;
    what is frozen gets none.
    """
    return cross_entropy(hidden_ND, weight_VD, target_N)[0]


def cross_entropy(hidden_ND: Tensor, weight_VD: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
    """`cross_entropy_sum`, and the loss [N] of each token, through which no gradient goes."""
    return _CrossEntropySum.apply(hidden_ND, weight_VD, target_N, torch.is_grad_enabled())


class _CrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, target_N: Tensor, learn: bool
    ) -> tuple[Tensor, Tensor]:
        device = hidden_ND.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_ND.dtype
        matrix_VD = weight_VD.to(dtype)
        total = torch.zeros((), device=hidden_ND.device)
        loss_N = torch.empty(len(hidden_ND), device=hidden_ND.device)
        moves_hidden, moves_weight = (learn and needed for needed in ctx.needs_input_grad[:2])
        gradient_ND = torch.empty_like(hidden_ND) if moves_hidden else None
        gradient_VD = torch.zeros_like(weight_VD) if moves_weight else None
        size = CPU_CHUNK if device == "cpu" else CHUNK
        with torch.autocast(device, enabled=False):
            for start in range(0, len(hidden_ND), size):
                here = slice(start, start + size)
                hidden_CD = hidden_ND[here].to(dtype)
                loss_C, gradient_CV = _chunk(
                    hidden_CD, matrix_VD, target_N[here], moves_hidden or moves_weight
                )
                total += loss_C.sum()
                loss_N[here] = loss_C
                if gradient_ND is not None:
                    gradient_ND[here] = gradient_CV @ matrix_VD
                if gradient_VD is not None:
                    gradient_VD.add_(gradient_CV.T @ hidden_CD)
        ctx.save_for_backward(gradient_ND, gradient_VD)
        ctx.mark_non_differentiable(loss_N)
        return total, loss_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        of_hidden, of_weight = (
            None if gradient is None else gradient * upstream[0] for gradient in ctx.saved_tensors
        )
        return of_hidden, of_weight, None, None


def _chunk(hidden_CD: Tensor, matrix_VD: Tensor, target_C: Tensor, learn: bool) -> tuple[Tensor, Tensor]:
    """The losses of a chunk, and with `learn` the gradient of their sum to the logits in their memory."""
    logit_CV = (hidden_CD @ matrix_VD.T).float()
    real_C = target_C != NOTHING
    at = torch.arange(len(target_C), device=target_C.device), torch.where(real_C, target_C, 0).long()
    logit_CV.sub_(logit_CV.amax(dim=-1, keepdim=True))
    of_target_C = logit_CV[at]
    sum_C = logit_CV.exp_().sum(dim=-1)
    loss_C = torch.where(real_C, sum_C.log() - of_target_C, 0)
    if learn:
        logit_CV.mul_((real_C / sum_C)[:, None])
        logit_CV[at] -= real_C.float()
    return loss_C, logit_CV.to(hidden_CD.dtype)
