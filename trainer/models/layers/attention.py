"""Attention, rotary positions and the pre-norm block that every transformer here is made of.

Shapes: B batch, S sequence, Q queries, K keys, H heads, E head width, D model width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MLP_KINDS = ("swiglu", "gelu", "relu", "gelu_tanh", "quick_gelu")
TILE = 128  # queries that attend at a time on a CPU, where attention is causal


def attention_bias(allowed: Tensor) -> Tensor:
    """Additive float bias from a bool mask: 0 where attention is allowed, −inf elsewhere.

    Every query must have one allowed key, else its softmax is undefined.
    """
    return torch.zeros(allowed.shape, device=allowed.device).masked_fill(~allowed, float("-inf"))


@dataclass(frozen=True)
class CausalBias:
    """An additive bias [B, 1, S, S] that lets no query attend to a later key, which saves work on a CPU."""

    bias_B1SS: Tensor


def attend(q_BHQE: Tensor, k_BHKE: Tensor, v_BHKE: Tensor, bias: Tensor | CausalBias | None = None) -> Tensor:
    """softmax(q kᵀ / √E + bias) v.

    On a CPU the product is spelled out: the fused kernel's backward is the slower one there for the short
    sequences of small models. Elsewhere the fused kernel runs.
    """
    if isinstance(bias, CausalBias) and q_BHQE.device.type == "cpu":
        return _attend_backwards(q_BHQE, k_BHKE, v_BHKE, bias.bias_B1SS)
    if isinstance(bias, CausalBias):
        bias = bias.bias_B1SS
    if bias is not None:
        bias = bias.to(q_BHQE.dtype)
    if q_BHQE.device.type != "cpu":
        return F.scaled_dot_product_attention(q_BHQE, k_BHKE, v_BHKE, attn_mask=bias)
    score_BHQK = (q_BHQE * q_BHQE.shape[-1] ** -0.5) @ k_BHKE.transpose(-1, -2)
    if bias is not None:
        score_BHQK = score_BHQK + bias
    return score_BHQK.softmax(-1).to(v_BHKE.dtype) @ v_BHKE


def _attend_backwards(q_BHSE: Tensor, k_BHSE: Tensor, v_BHSE: Tensor, bias_B1SS: Tensor) -> Tensor:
    """The same tile by tile of queries, each with no keys beyond it: half of the work for long sequences."""
    tiles = [
        attend(q_BHTE, k_BHSE[:, :, :end], v_BHSE[:, :, :end], bias_B1TS[..., :end])
        for q_BHTE, bias_B1TS, end in zip(
            q_BHSE.split(TILE, dim=2),
            bias_B1SS.split(TILE, dim=2),
            range(TILE, q_BHSE.shape[2] + TILE, TILE),
            strict=True,
        )
    ]
    return torch.cat(tiles, dim=2)


@dataclass(frozen=True)
class RopeScaling:
    """Slower rotary positions, for more tokens than a model was first trained on, as Llama 3 has them."""

    factor: float = 1.0  # by which the slow rotations slow down; 1: none does
    low_freq_factor: float = 1.0  # `original_length` over this: wavelengths above are slow
    high_freq_factor: float = 4.0  # `original_length` over this: wavelengths below stay as they are
    original_length: int = 8192  # tokens


def rope_tables(
    position: Tensor, head_width: int, theta: float, scaling: RopeScaling | None = None
) -> tuple[Tensor, Tensor]:
    """Cosine and sine tables [..., E] of rotary positions [...] (Su et al. 2021), always float32."""
    frequency = rope_frequencies(head_width, theta, scaling, position.device)
    angle = position[..., None].float() * frequency
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rope_frequencies(
    head_width: int, theta: float, scaling: RopeScaling | None = None, device: torch.device | None = None
) -> Tensor:
    """Radians [E / 2] by which each pair of a head turns from one position to the next, float32."""
    exponent = torch.arange(0, head_width, 2, device=device, dtype=torch.float32) / head_width
    frequency = theta**-exponent
    return frequency if scaling is None or scaling.factor == 1 else _slowed(frequency, scaling)


def _slowed(frequency: Tensor, scaling: RopeScaling) -> Tensor:
    """Slow rotations by `factor`, fast ones not, those between in proportion to their turns."""
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    turns = scaling.original_length * frequency / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return frequency * (kept + (1 - kept) / scaling.factor)


def rotate(x_BHSE: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Apply rotary positions by the rotate-half convention; computes in float32, returns x's type."""
    cos_SE, sin_SE = rope
    first, second = x_BHSE.float().chunk(2, dim=-1)
    turned = x_BHSE.float() * cos_SE + torch.cat((-second, first), dim=-1) * sin_SE
    return turned.to(x_BHSE.dtype)


class KeyValues:
    """Keys and values of all positions that one layer has seen, in memory for up to twice as many."""

    def __init__(self) -> None:
        self.length = 0
        self._memory: list[Tensor] = []

    def extended(self, k_BHSE: Tensor, v_BHSE: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values so far, these the last of them."""
        start, self.length = self.length, self.length + k_BHSE.shape[2]
        if not self._memory or self.length > self._memory[0].shape[2]:
            seen = [memory[:, :, :start] for memory in self._memory]
            self._memory = [_longer(new, 2 * self.length) for new in (k_BHSE, v_BHSE)]
            for memory, before in zip(self._memory, seen, strict=False):
                memory[:, :, :start] = before
        key, value = self._memory
        key[:, :, start : self.length] = k_BHSE
        value[:, :, start : self.length] = v_BHSE
        return key[:, :, : self.length], value[:, :, : self.length]


def _longer(values_BHSE: Tensor, capacity: int) -> Tensor:
    """Memory for `capacity` positions of values like these."""
    batch, heads, _, width = values_BHSE.shape
    return values_BHSE.new_empty(batch, heads, capacity, width)


class SelfAttention(nn.Module):
    """Multi-head self attention.

    Args:
        kv_heads: fewer than `heads` where groups of heads share keys and values.
        bias: of all four projections.
        head_width: `width / heads` unless given.
        qkv_bias: of queries, keys and values; `bias` unless given.
        qk_norm: makes the norm of the queries and that of the keys of a head, given its width.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int,
        bias: bool,
        *,
        head_width: int | None = None,
        qkv_bias: bool | None = None,
        qk_norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        qkv_bias = bias if qkv_bias is None else qkv_bias
        self.heads, self.kv_heads = heads, kv_heads
        self.head_width = width // heads if head_width is None else head_width
        self.query = nn.Linear(width, heads * self.head_width, bias=qkv_bias)
        self.key = nn.Linear(width, kv_heads * self.head_width, bias=qkv_bias)
        self.value = nn.Linear(width, kv_heads * self.head_width, bias=qkv_bias)
        self.query_norm = None if qk_norm is None else qk_norm(self.head_width)
        self.key_norm = None if qk_norm is None else qk_norm(self.head_width)
        self.out = nn.Linear(heads * self.head_width, width, bias=bias)

    def forward(
        self,
        x_BSD: Tensor,
        bias: Tensor | CausalBias | None,
        rope: tuple[Tensor, Tensor] | None,
        at_BK: Tensor | None = None,
        past: KeyValues | None = None,
    ) -> Tensor:
        """Attended values [B, S, D]; with `at_BK` only those of K positions a row, [B, K, D].

        `past` holds the positions before these, which are then added to it; `bias` spans all of them.
        """

        def split(y: Tensor, heads: int) -> Tensor:
            return y.unflatten(-1, (heads, self.head_width)).transpose(1, 2)

        q = split(self.query(x_BSD if at_BK is None else pick(x_BSD, at_BK)), self.heads)
        k = split(self.key(x_BSD), self.kv_heads)
        v = split(self.value(x_BSD), self.kv_heads)
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        if rope is not None:
            here = rope if at_BK is None else (rope[0][at_BK][:, None], rope[1][at_BK][:, None])
            q, k = rotate(q, here), rotate(k, rope)
        if past is not None:
            k, v = past.extended(k, v)
        if isinstance(bias, Tensor) and at_BK is not None:
            bias = pick(bias.transpose(1, 2), at_BK).transpose(1, 2)
        if self.kv_heads != self.heads:
            k, v = (y.repeat_interleave(self.heads // self.kv_heads, dim=1) for y in (k, v))
        return self.out(attend(q, k, v, bias).transpose(1, 2).flatten(2))


def pick(x_BSD: Tensor, at_BK: Tensor) -> Tensor:
    """K positions of each row, [B, K, …]."""
    return x_BSD[torch.arange(len(at_BK), device=at_BK.device)[:, None], at_BK]


class Mlp(nn.Module):
    """Two-layer perceptron; `swiglu` gates the hidden layer (Shazeer 2020).

    `gelu_tanh` and `quick_gelu`, x σ(1.702 x), approximate GELU (Hendrycks and Gimpel 2016).
    """

    def __init__(self, width: int, hidden: int, kind: str, bias: bool) -> None:
        super().__init__()
        self.kind = kind
        self.gate = nn.Linear(width, hidden, bias=bias) if kind == "swiglu" else None
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is not None:
            return self.down(F.silu(self.gate(x)) * self.up(x))
        return self.down(_ACTIVATIONS[self.kind](self.up(x)))


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "quick_gelu": _quick_gelu,
}


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x)).

    With `scaled` each channel of what is added has a learned factor (LayerScale, Touvron et al. 2021).
    """

    def __init__(
        self,
        width: int,
        attention: SelfAttention,
        mlp: Mlp,
        norm: Callable[[int], nn.Module],
        scaled: bool = False,
    ) -> None:
        super().__init__()
        self.attention_norm = norm(width)
        self.attention = attention
        self.mlp_norm = norm(width)
        self.mlp = mlp
        self.attention_scale = nn.Parameter(torch.empty(width)) if scaled else None
        self.mlp_scale = nn.Parameter(torch.empty(width)) if scaled else None

    def forward(
        self,
        x_BSD: Tensor,
        bias: Tensor | CausalBias | None = None,
        rope: tuple[Tensor, Tensor] | None = None,
        at_BK: Tensor | None = None,
        past: KeyValues | None = None,
    ) -> Tensor:
        """The block's output [B, S, D]; with `at_BK` only at K positions a row, [B, K, D], for less work."""
        attended = self.attention(self.attention_norm(x_BSD), bias, rope, at_BK, past)
        if self.attention_scale is not None:
            attended = attended * self.attention_scale
        x_BSD = (x_BSD if at_BK is None else pick(x_BSD, at_BK)) + attended
        changed = self.mlp(self.mlp_norm(x_BSD))
        return x_BSD + (changed if self.mlp_scale is None else changed * self.mlp_scale)
