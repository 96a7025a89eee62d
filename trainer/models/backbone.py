"""Backbone of models that see: a vision tower whose image tokens a causal decoder reads among those of text.

A vision-language model has them where its rows say (`models.vision_language`). A policy has them in front and
is read out at the `<obs>` token: [opening | image tokens of view 0, view 1, … | text | <obs> | padding].
The opening is what the tokenizer's template has in front of pictures, and nothing of bytes.
Shapes: B batch, V views (cameras × history), H W pixels, P tokens a view, S text tokens, K `<obs>` tokens,
L sequence, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robot_foundry.trainer.models.decoder import Decoder, DecoderConfig
from robot_foundry.trainer.models.layers.attention import attention_bias
from robot_foundry.trainer.models.vit import ViT, ViTConfig, space_to_depth


@dataclass(frozen=True)
class BackboneConfig:
    """A vision transformer joined to a decoder."""

    vision: ViTConfig = field(default_factory=ViTConfig)
    shuffle: int = 2  # space-to-depth factor: shuffle² patches become one image token
    decoder: DecoderConfig = field(default_factory=DecoderConfig)

    def tokens_of(self, image: tuple[int, int]) -> int:
        """How many tokens a picture of (height, width) pixels becomes."""
        cell = self.vision.patch * self.shuffle
        return (image[0] // cell) * (image[1] // cell)


class Backbone(nn.Module):
    """ViT → space to depth → projector → image tokens before the text of a causal decoder."""

    def __init__(self, config: BackboneConfig, image: tuple[int, int]) -> None:
        super().__init__()
        self.config = config
        self.vision = ViT(config.vision, image)
        self.projector = nn.Linear(config.shuffle**2 * config.vision.width, config.decoder.width, bias=False)
        self.decoder = Decoder(config.decoder)

    def image_tokens(self, image_BVHWC: Tensor) -> Tensor:
        """uint8 pictures to image tokens [B, V·P, D]."""
        views = image_BVHWC.shape[1]
        patches = self.vision(image_BVHWC.flatten(0, 1))
        merged = space_to_depth(patches, self.vision.rows, self.vision.columns, self.config.shuffle)
        return self.projector(merged).unflatten(0, (-1, views)).flatten(1, 2)

    def observe(
        self,
        image_BVHWC: Tensor,
        view_mask_BV: Tensor,
        token_BS: Tensor,
        image_at: int,
        obs_B: Tensor,
        num_obs: int,
        taps: int,
    ) -> list[Tensor]:
        """Hidden states [B, K, D] at the `<obs>` tokens after each of the last `taps` layers.

        Args:
            image_BVHWC: uint8 pictures; those of absent views may hold anything.
            view_mask_BV: which views are present; tokens of absent ones are attended by none.
            token_BS: opening, text, `num_obs` times `<obs>`, padding.
            image_at: how many of these tokens stand in front of the pictures.
            obs_B: index of the first `<obs>` in `token_BS`; what lies beyond the last is attended by none.
        """
        image_BVHWC = torch.where(view_mask_BV[:, :, None, None, None], image_BVHWC, 0)
        image_BPD = self.image_tokens(image_BVHWC).float()
        text_BSD = self.decoder.embedding(token_BS)
        x_BLD = torch.cat((text_BSD[:, :image_at], image_BPD, text_BSD[:, image_at:]), dim=1)
        image_length = image_BPD.shape[1]
        seen_BP = view_mask_BV.repeat_interleave(image_length // view_mask_BV.shape[1], dim=1)
        read_BS = torch.arange(token_BS.shape[1], device=obs_B.device) < obs_B[:, None] + num_obs
        bias = causal_bias(torch.cat((read_BS[:, :image_at], seen_BP, read_BS[:, image_at:]), dim=1))
        at_BK = image_length + obs_B[:, None] + torch.arange(num_obs, device=obs_B.device)
        return self.decoder(x_BLD, bias, at_BK, taps)


def causal_bias(present_BL: Tensor) -> Tensor:
    """Causal attention bias [B, 1, L, L] in which absent positions are attended by themselves alone."""
    length = present_BL.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=present_BL.device).tril()
    itself = torch.eye(length, dtype=torch.bool, device=present_BL.device)
    return attention_bias((causal & present_BL[:, None, None, :]) | itself)
