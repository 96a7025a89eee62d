"""Vision-language model: answers about pictures, whose tokens stand among those of the text.

Shapes: B rows, S tokens of a row, N pictures, P image tokens a picture, H × W pixels, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from robot_foundry.trainer.models.inputs import moved, pinned
from robot_foundry.trainer.models.vlm import VLMConfig

ANSWER = "answer"


@dataclass(frozen=True)
class VisionLanguageConfig:
    """A vision tower joined to a decoder, and logits for each token of its vocabulary."""

    backbone: VLMConfig = field(default_factory=VLMConfig)
    tied: bool = True  # the output matrix is the embedding


@dataclass(frozen=True)
class PictureRows:
    """Packed rows of tokens, some of which are those of pictures; what is masked may hold anything.

    segment_BS is -1 where nothing is; learn_BS says which targets count. Picture n begins at token
    `image_at_N` of the rows one behind the other (row · S + column), and has P tokens from there. It is
    absent where `image_mask_N` is False: one picture at least is there, so that the tower always takes part.
    """

    token_BS: Tensor
    target_BS: Tensor
    learn_BS: Tensor
    segment_BS: Tensor
    position_BS: Tensor
    image_NHWC: Tensor  # uint8
    image_mask_N: Tensor
    image_at_N: Tensor

    def to(self, device: torch.device) -> PictureRows:
        return moved(self, device)

    def pin_memory(self) -> PictureRows:
        """In page-locked memory, from which a GPU takes them while the host goes on."""
        return pinned(self)
