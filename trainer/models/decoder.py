"""Causal decoder: the language model's body.

Shapes: B batch, S sequence, D width, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from robot_foundry.trainer.models.attention import Block, pick, rope_tables
from robot_foundry.trainer.models.initial import Distribution, residual_outputs


@dataclass(frozen=True)
class DecoderConfig:
    """Shape of a decoder."""

    width: int = 2048
    depth: int = 24
    heads: int = 16
    kv_heads: int = 16  # fewer than `heads`: grouped-query attention
    mlp: str = "swiglu"  # swiglu | gelu | relu
    mlp_hidden: int = 5632
    vocabulary: int = 49280  # token ids; a tokenizer may use fewer
    rope_theta: float = 10000.0


class Decoder(nn.Module):
    """Token embedding and pre-norm blocks (RMSNorm, rotary positions, grouped queries), final norm."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.kv_heads, config.mlp_hidden, config.mlp,
                  norm=nn.RMSNorm, bias=False)
            for _ in range(config.depth)
        )  # fmt: skip
        self.norm = nn.RMSNorm(config.width, eps=1e-6)

    def initial(self) -> dict[str, Distribution]:
        return residual_outputs(self, self.config.depth)

    def forward(self, x_BSD: Tensor, bias_B1SS: Tensor, at_B: Tensor, taps: int) -> list[Tensor]:
        """Embedded tokens to the hidden states [B, D] at one position a row, after the last `taps` layers.

        The last one has passed the final norm, the others are the bare residual stream, as is usual.
        """
        config = self.config
        rope = rope_tables(x_BSD.shape[1], config.width // config.heads, config.rope_theta, x_BSD.device)
        hidden: list[Tensor] = []
        *blocks, last = self.blocks
        for block in blocks:
            x_BSD = block(x_BSD, bias_B1SS, rope)
            hidden.append(x_BSD)
        read = [pick(h_BSD, at_B)[:, 0] for h_BSD in hidden[len(hidden) - (taps - 1) :]]
        return [*read, self.norm(last(x_BSD, bias_B1SS, rope, at_B))[:, 0]]
