"""Attention, rotary positions and the pre-norm block that every transformer here is made of.

Shapes: B batch, S sequence, Q queries, K keys, H heads, E head width, D model width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MLP_KINDS = ("swiglu", "gelu", "relu")


def attention_bias(allowed: Tensor) -> Tensor:
    """Additive float bias from a bool mask: 0 where attention is allowed, −inf elsewhere.

    Every query must have one allowed key, else its softmax is undefined.
    """
    return torch.zeros(allowed.shape, device=allowed.device).masked_fill(~allowed, float("-inf"))


def attend(q_BHQE: Tensor, k_BHKE: Tensor, v_BHKE: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ / √E + bias) v.

    On a CPU the product is spelled out: the fused kernel's backward is the slower one there for the short
    sequences of small models. Elsewhere the fused kernel runs.
    """
    if bias is not None:
        bias = bias.to(q_BHQE.dtype)
    if q_BHQE.device.type != "cpu":
        return F.scaled_dot_product_attention(q_BHQE, k_BHKE, v_BHKE, attn_mask=bias)
    score_BHQK = (q_BHQE * q_BHQE.shape[-1] ** -0.5) @ k_BHKE.transpose(-1, -2)
    if bias is not None:
        score_BHQK = score_BHQK + bias
    return score_BHQK.softmax(-1).to(v_BHKE.dtype) @ v_BHKE


def rope_tables(length: int, head_width: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine tables [S, E] of rotary positions 0 … length−1 (Su et al. 2021), always float32."""
    frequency = theta ** (-torch.arange(0, head_width, 2, device=device, dtype=torch.float32) / head_width)
    angle_SE = torch.outer(torch.arange(length, device=device, dtype=torch.float32), frequency).repeat(1, 2)
    return angle_SE.cos(), angle_SE.sin()


def rotate(x_BHSE: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Apply rotary positions by the rotate-half convention; computes in float32, returns x's type."""
    cos_SE, sin_SE = rope
    first, second = x_BHSE.float().chunk(2, dim=-1)
    turned = x_BHSE.float() * cos_SE + torch.cat((-second, first), dim=-1) * sin_SE
    return turned.to(x_BHSE.dtype)


class SelfAttention(nn.Module):
    """Multi-head self attention; `kv_heads` < `heads` shares keys and values between groups of heads."""

    def __init__(self, width: int, heads: int, kv_heads: int, bias: bool) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, width // heads
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, kv_heads * self.head_width, bias=bias)
        self.value = nn.Linear(width, kv_heads * self.head_width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(
        self,
        x_BSD: Tensor,
        bias: Tensor | None,
        rope: tuple[Tensor, Tensor] | None,
        at_B: Tensor | None = None,
    ) -> Tensor:
        """Attended values [B, S, D]; with `at_B` only those of one position a row, [B, 1, D]."""

        def split(y: Tensor, heads: int) -> Tensor:
            return y.unflatten(-1, (heads, self.head_width)).transpose(1, 2)

        q = split(self.query(x_BSD if at_B is None else pick(x_BSD, at_B)), self.heads)
        k = split(self.key(x_BSD), self.kv_heads)
        v = split(self.value(x_BSD), self.kv_heads)
        if rope is not None:
            here = rope if at_B is None else (rope[0][at_B, None, None], rope[1][at_B, None, None])
            q, k = rotate(q, here), rotate(k, rope)
        if bias is not None and at_B is not None:
            bias = pick(bias.transpose(1, 2), at_B).transpose(1, 2)
        if self.kv_heads != self.heads:
            k, v = (y.repeat_interleave(self.heads // self.kv_heads, dim=1) for y in (k, v))
        return self.out(attend(q, k, v, bias).transpose(1, 2).flatten(2))


def pick(x_BSD: Tensor, at_B: Tensor) -> Tensor:
    """One position of each row, [B, 1, …]."""
    return x_BSD[torch.arange(len(at_B), device=at_B.device), at_B][:, None]


class Mlp(nn.Module):
    """Two-layer perceptron; `swiglu` gates the hidden layer (Shazeer 2020)."""

    def __init__(self, width: int, hidden: int, kind: str, bias: bool) -> None:
        super().__init__()
        self.kind = kind
        self.gate = nn.Linear(width, hidden, bias=bias) if kind == "swiglu" else None
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is not None:
            return self.down(F.silu(self.gate(x)) * self.up(x))
        activation = F.relu if self.kind == "relu" else F.gelu
        return self.down(activation(self.up(x)))


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int,
        hidden: int,
        mlp: str,
        *,
        norm: type[nn.Module],
        bias: bool,
    ) -> None:
        super().__init__()
        self.attention_norm = norm(width, eps=1e-6)
        self.attention = SelfAttention(width, heads, kv_heads, bias)
        self.mlp_norm = norm(width, eps=1e-6)
        self.mlp = Mlp(width, hidden, mlp, bias)

    def forward(
        self,
        x_BSD: Tensor,
        bias: Tensor | None = None,
        rope: tuple[Tensor, Tensor] | None = None,
        at_B: Tensor | None = None,
    ) -> Tensor:
        """The block's output [B, S, D]; with `at_B` only at one position a row, [B, 1, D], for less work."""
        attended = self.attention(self.attention_norm(x_BSD), bias, rope, at_B)
        x_BSD = (x_BSD if at_B is None else pick(x_BSD, at_B)) + attended
        return x_BSD + self.mlp(self.mlp_norm(x_BSD))
