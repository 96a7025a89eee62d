"""Language model: a causal decoder with a logit for each token of its vocabulary.

Shapes: B rows, S tokens of a row.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from robot_foundry.trainer.models.decoder import DecoderConfig


@dataclass(frozen=True)
class LLMConfig:
    """A decoder, and whether its embedding serves as its output too."""

    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    tied: bool = True


@dataclass(frozen=True)
class TextInputs:
    """Packed rows. Positions of one `segment_BS` attend to each other, backwards; where it is -1 is nothing.

    Where nothing is, the other tensors may hold any id or position.
    """

    token_BS: Tensor
    target_BS: Tensor
    segment_BS: Tensor
    position_BS: Tensor

    def to(self, device: torch.device) -> TextInputs:
        moved = {item.name: getattr(self, item.name).to(device, non_blocking=True) for item in fields(self)}
        return replace(self, **moved)

    def pin_memory(self) -> TextInputs:
        """In page-locked memory, from which a GPU takes them while the host goes on."""
        return replace(self, **{item.name: getattr(self, item.name).pin_memory() for item in fields(self)})
