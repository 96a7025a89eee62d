"""Causal decoder: the language model's body.

Shapes: B batch, S sequence, D width, E head width, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from robot_foundry.runtime.later import later
from robot_foundry.trainer.models.layers.attention import (
    Block,
    CausalBias,
    KeyValues,
    Mlp,
    RopeScaling,
    SelfAttention,
    pick,
    rope_tables,
)
from robot_foundry.trainer.models.layers.initial import Distribution, residual_outputs


@dataclass(frozen=True)
class DecoderConfig:
    """Shape of a decoder. With the last six it is any of Llama, SmolLM 2, Qwen 2 and 3."""

    width: int = 2048
    depth: int = 24
    heads: int = 16
    kv_heads: int = 16  # fewer than `heads`: grouped-query attention
    mlp: str = "swiglu"  # swiglu | gelu | relu
    mlp_hidden: int = 5632
    vocabulary: int = 49280  # token ids; a tokenizer may use fewer
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling = later(RopeScaling())
    norm_eps: float = later(1e-6)
    head_width: int | None = later(None)  # width / heads unless given
    qkv_bias: bool = later(False)  # of queries, keys and values
    qk_norm: bool = later(False)  # RMSNorm of each head's queries and keys, before their positions

    @property
    def width_of_head(self) -> int:
        return self.width // self.heads if self.head_width is None else self.head_width


class Decoder(nn.Module):
    """Token embedding and pre-norm blocks (RMSNorm, rotary positions, grouped queries), final norm."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(config.width, eps=config.norm_eps)

    def initial(self) -> dict[str, Distribution]:
        return residual_outputs(self, self.config.depth)

    def rope(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Rotary tables [..., E] of these positions."""
        config = self.config
        return rope_tables(position, config.width_of_head, config.rope_theta, config.rope_scaling)

    def forward(self, x_BSD: Tensor, bias_B1SS: Tensor, at_BK: Tensor, taps: int) -> list[Tensor]:
        """Embedded tokens to the hidden states [B, K, D] at K positions a row, after the last `taps` layers.

        The last one has passed the final norm, the others are the bare residual stream, as is usual.
        """
        rope = self.rope(torch.arange(x_BSD.shape[1], device=x_BSD.device))
        hidden: list[Tensor] = []
        *blocks, last = self.blocks
        for block in blocks:
            x_BSD = block(x_BSD, bias_B1SS, rope)
            hidden.append(x_BSD)
        read = [pick(h_BSD, at_BK) for h_BSD in hidden[len(hidden) - (taps - 1) :]]
        return [*read, self.norm(last(x_BSD, bias_B1SS, rope, at_BK))]

    def states(
        self,
        token_BS: Tensor,
        position_BS: Tensor,
        bias: Tensor | CausalBias | None,
        past: Sequence[KeyValues] | None = None,
    ) -> Tensor:
        """The last hidden states [B, S, D] of all tokens, normalised.

        `past` has what each layer has seen before, and takes these tokens up; `bias` spans all of it.
        """
        return self.states_of(self.embedding(token_BS), position_BS, bias, past)

    def states_of(
        self,
        x_BSD: Tensor,
        position_BS: Tensor,
        bias: Tensor | CausalBias | None,
        past: Sequence[KeyValues] | None = None,
    ) -> Tensor:
        """The same of tokens that are embedded already, or never had an id."""
        cos_BSE, sin_BSE = self.rope(position_BS)
        rope = cos_BSE[:, None], sin_BSE[:, None]
        for layer, block in enumerate(self.blocks):
            x_BSD = block(x_BSD, bias, rope, past=None if past is None else past[layer])
        return self.norm(x_BSD)


def _block(config: DecoderConfig) -> Block:
    norm = partial(nn.RMSNorm, eps=config.norm_eps)
    attention = SelfAttention(
        config.width,
        config.heads,
        config.kv_heads,
        bias=False,
        head_width=config.head_width,
        qkv_bias=config.qkv_bias,
        qk_norm=norm if config.qk_norm else None,
    )
    return Block(config.width, attention, Mlp(config.width, config.mlp_hidden, config.mlp, bias=False), norm)
