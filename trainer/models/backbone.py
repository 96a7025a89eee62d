"""Backbone of models that see: a vision tower whose image tokens a causal decoder reads among those of text.

A vision-language model has them where its rows say (`models.vision_language`). A policy has them in front and
is read out at the `<obs>` token: [opening | image tokens of view 0, view 1, … | text | <obs> | padding].
The opening is what the tokenizer's template has in front of pictures, and nothing of bytes.
What a policy needs of any such model, ours or another's, is `PolicyBackbone`.
Shapes: B batch, V views (cameras × history), H W pixels, P tokens a view, S text tokens, K `<obs>` tokens,
L sequence, D width, I ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_foundry.trainer.models.decoder import Decoder, DecoderConfig
from robot_foundry.trainer.models.layers.attention import attention_bias
from robot_foundry.trainer.models.vit import ViT, ViTConfig, space_to_depth


class PolicyBackbone(Protocol):
    """A module that sees pictures and reads words, which a policy reads out at `<obs>`.

    Its parts have names that mean the same in all: vision, projector (where there is one) and decoder.
    What is said of `Backbone.observe` holds for each: absent views, padding, and what other rows of a batch
    hold, change nothing that a row says.
    """

    @property
    def width(self) -> int:
        """Channels of its hidden states."""

    def observe(
        self,
        image_BVHWC: Tensor,
        view_mask_BV: Tensor,
        token_BS: Tensor,
        image_at: int,
        obs_B: Tensor,
        num_obs: int,
        taps: int,
        obs_KD: Tensor | None = None,
    ) -> list[Tensor]:
        """Hidden states [B, K, D] at the `<obs>` tokens after each of the last `taps` layers.

        The last of them has passed the final norm, the others are the bare residual stream; so are the
        `hidden_states` of `transformers`.
        """

    def text_logits(
        self,
        image_BVHWC: Tensor,
        view_mask_BV: Tensor,
        token_BS: Tensor,
        image_at: int,
        asked_B: Tensor,
        read_B: Tensor,
    ) -> Tensor:
        """Logits [B, S, I] at all text tokens, of ids that would follow.

        Of each row the first `asked_B` tokens are a question, those up to `read_B` its answer, the rest is
        padding.
        """

    def parts(self) -> Mapping[str, nn.Module]:
        """What it is made of, by name."""

    def units(self) -> Iterator[nn.Module]:
        """Blocks in the order in which they run: what is sharded, compiled or recomputed one at a time."""


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

    @property
    def width(self) -> int:
        return self.config.decoder.width

    def parts(self) -> Mapping[str, nn.Module]:
        return {"vision": self.vision, "projector": self.projector, "decoder": self.decoder}

    def units(self) -> Iterator[nn.Module]:
        yield from self.vision.blocks
        yield from self.decoder.blocks

    def observe(
        self,
        image_BVHWC: Tensor,
        view_mask_BV: Tensor,
        token_BS: Tensor,
        image_at: int,
        obs_B: Tensor,
        num_obs: int,
        taps: int,
        obs_KD: Tensor | None = None,
    ) -> list[Tensor]:
        """Hidden states [B, K, D] at the `<obs>` tokens after each of the last `taps` layers.

        Args:
            image_BVHWC: uint8 pictures; those of absent views may hold anything.
            view_mask_BV: which views are present; tokens of absent ones are attended by none.
            token_BS: opening, text, `num_obs` times `<obs>`, padding.
            image_at: how many of these tokens stand in front of the pictures.
            obs_B: index of the first `<obs>` in `token_BS`; what lies beyond the last is attended by none.
            obs_KD: what stands at `<obs>` instead of rows of the embedding, whatever ids are there.
        """
        text_BSD = with_obs(self.decoder.embedding(token_BS), obs_B, obs_KD)
        x_BLD, bias = self._sequence(image_BVHWC, view_mask_BV, text_BSD, image_at, obs_B + num_obs)
        image_length = x_BLD.shape[1] - text_BSD.shape[1]
        at_BK = image_length + obs_B[:, None] + torch.arange(num_obs, device=obs_B.device)
        return self.decoder(x_BLD, bias, at_BK, taps)

    def text_logits(
        self,
        image_BVHWC: Tensor,
        view_mask_BV: Tensor,
        token_BS: Tensor,
        image_at: int,
        asked_B: Tensor,
        read_B: Tensor,
    ) -> Tensor:
        """As in `PolicyBackbone`, by the rows of the embedding. All text is read alike, asked or answered."""
        text_BSD = self.decoder.embedding(token_BS)
        x_BLD, bias = self._sequence(image_BVHWC, view_mask_BV, text_BSD, image_at, read_B)
        position_BL = torch.arange(x_BLD.shape[1], device=x_BLD.device).expand(len(x_BLD), -1)
        state_BLD = self.decoder.states_of(x_BLD, position_BL, bias)
        image_length = x_BLD.shape[1] - text_BSD.shape[1]
        state_BSD = torch.cat((state_BLD[:, :image_at], state_BLD[:, image_at + image_length :]), dim=1)
        return F.linear(state_BSD, self.decoder.embedding.weight)

    def _sequence(
        self, image_BVHWC: Tensor, view_mask_BV: Tensor, text_BSD: Tensor, image_at: int, read_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the decoder reads [B, L, D], and the bias of its attention [B, 1, L, L].

        `read_B` is how many text tokens of a row count.
        """
        image_BVHWC = torch.where(view_mask_BV[:, :, None, None, None], image_BVHWC, 0)
        image_BPD = self.image_tokens(image_BVHWC).float()
        x_BLD = torch.cat((text_BSD[:, :image_at], image_BPD, text_BSD[:, image_at:]), dim=1)
        seen_BP = view_mask_BV.repeat_interleave(image_BPD.shape[1] // view_mask_BV.shape[1], dim=1)
        read_BS = torch.arange(text_BSD.shape[1], device=read_B.device) < read_B[:, None]
        return x_BLD, causal_bias(torch.cat((read_BS[:, :image_at], seen_BP, read_BS[:, image_at:]), dim=1))


def with_obs(text_BSD: Tensor, obs_B: Tensor, obs_KD: Tensor | None) -> Tensor:
    """Embedded text in which the vectors `obs_KD` stand from `obs_B` on, if there are any."""
    if obs_KD is None:
        return text_BSD
    at_BKD = obs_B[:, None, None] + torch.arange(len(obs_KD), device=obs_B.device)[:, None]
    obs_BKD = obs_KD.to(text_BSD.dtype).expand(len(text_BSD), -1, -1)
    return text_BSD.scatter(1, at_BKD.expand_as(obs_BKD), obs_BKD)


def causal_bias(present_BL: Tensor) -> Tensor:
    """Causal attention bias [B, 1, L, L] in which absent positions are attended by themselves alone."""
    length = present_BL.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=present_BL.device).tril()
    itself = torch.eye(length, dtype=torch.bool, device=present_BL.device)
    return attention_bias((causal & present_BL[:, None, None, :]) | itself)
