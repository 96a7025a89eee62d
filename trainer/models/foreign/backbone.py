"""Backbones of `transformers` as a policy needs them (see `models.backbone.PolicyBackbone`).

Their parts go by the names of ours: vision, projector, decoder. What comes back are the hidden states that
the decoder itself gives out; they are asked for nothing else, and no random number is drawn.
Shapes: B batch, V views, N = B·V pictures, H W pixels, P tokens a picture, S text tokens, K `<obs>` tokens,
L sequence, D width, I ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.models.backbone import with_obs
from robot_foundry.trainer.models.foreign import package
from robot_foundry.trainer.models.foreign.config import ForeignConfig, ForeignLLMConfig, ForeignVLMConfig
from robot_foundry.trainer.models.foreign.families import Family, Pictures, family_of
from robot_foundry.trainer.models.foreign.sequence import Sequence, allowed, positions, sequence, within
from robot_foundry.trainer.models.layers.attention import attention_bias, pick
from robot_foundry.trainer.models.layers.initial import Distribution
from robot_foundry.trainer.models.vit import ViT, grid_of, space_to_depth

_PARTS = ("vision", "projector", "decoder")
_BLOCKS = ("blocks", "layers", "h")  # what lists of blocks are called


class ForeignBackbone(nn.Module):
    """What both kinds share: text, the decoder that reads it, and what is read out of that.

    Args:
        config: of the whole model.
    """

    decoder: Any
    is_prefix = False

    def __init__(self, config: Any, decoder: nn.Module) -> None:
        super().__init__()
        self._text = config.get_text_config()
        self._is_tied = bool(config.tie_word_embeddings)
        self.decoder = decoder

    @property
    def width(self) -> int:
        return int(self._text.hidden_size)

    def train(self, mode: bool = True) -> ForeignBackbone:
        """Always as in use: what a config says of dropout would draw from a generator that no run saves."""
        super().train(False)
        return self

    def initial(self) -> dict[str, Distribution]:
        return {f"decoder.{name}": rule for name, rule in package.initial(self.decoder).items()}

    def parts(self) -> Mapping[str, nn.Module]:
        present = dict(self.named_children())
        return {name: present[name] for name in _PARTS if name in present}

    def units(self) -> Iterator[nn.Module]:
        for part in (self.get_submodule("vision"), self.decoder):
            lists = [
                module for name, module in part.named_modules()
                if isinstance(module, nn.ModuleList) and name.rpartition(".")[2] in _BLOCKS
            ]  # fmt: skip
            for blocks in lists:
                yield from blocks

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
        """Hidden states [B, K, D] at `<obs>`: the last `taps` of the decoder's `hidden_states`."""
        embedding = self.decoder.get_input_embeddings()
        if obs_KD is not None:
            # Embeddings of Gemma are small, and scaled as they are looked up.
            obs_KD = obs_KD * getattr(embedding, "scalar_embed_scale", 1.0)
        text_BSD = with_obs(embedding(token_BS), obs_B, obs_KD)
        tokens, deep = self._tokens(image_BVHWC, view_mask_BV, text_BSD, image_at, obs_B, obs_B + num_obs)
        hidden = self._hidden(tokens, deep)
        at_BK = tokens.image_length + obs_B[:, None] + torch.arange(num_obs, device=obs_B.device)
        return [pick(hidden_BLD, at_BK) for hidden_BLD in hidden[-taps:]]

    def text_logits(
        self,
        image_BVHWC: Tensor,
        view_mask_BV: Tensor,
        token_BS: Tensor,
        image_at: int,
        asked_B: Tensor,
        read_B: Tensor,
    ) -> Tensor:
        """As in `PolicyBackbone`, by the rows of the embedding. FoundryError where others write its text."""
        if not self._is_tied:
            raise FoundryError("what writes the text of this backbone is a matrix of its own, and left out")
        embedding = self.decoder.get_input_embeddings()
        tokens, deep = self._tokens(image_BVHWC, view_mask_BV, embedding(token_BS), image_at, asked_B, read_B)
        logits_BSI = F.linear(tokens.text_of(self._hidden(tokens, deep)[-1]), embedding.weight)
        cap = getattr(self._text, "final_logit_softcapping", None)
        return logits_BSI if cap is None else cap * torch.tanh(logits_BSI / cap)

    def _pictures(self, image_NHWC: Tensor) -> Pictures:
        raise NotImplementedError

    def _around(self) -> tuple[Tensor, Tensor]:
        """Embedded tokens in front of those of each picture, and behind them."""
        raise NotImplementedError

    def _grid(self) -> tuple[int, int]:
        raise NotImplementedError

    def _positions(self, tokens: Sequence) -> Tensor:
        return positions(tokens)

    def _tokens(
        self,
        image_BVHWC: Tensor,
        view_mask_BV: Tensor,
        text_BSD: Tensor,
        image_at: int,
        asked_B: Tensor,
        read_B: Tensor,
    ) -> tuple[Sequence, tuple[Tensor, ...]]:
        """What the decoder reads, and what its first layers get beside it at tokens of pictures."""
        views = image_BVHWC.shape[1]
        image_BVHWC = torch.where(view_mask_BV[:, :, None, None, None], image_BVHWC, 0)
        seen = self._pictures(image_BVHWC.flatten(0, 1))
        tokens = sequence(
            text_BSD,
            seen.tokens_NPD.unflatten(0, (-1, views)),
            self._around(),
            self._grid(),
            view_mask_BV,
            image_at,
            asked_B,
            read_B,
        )
        return tokens, seen.deep

    def _hidden(self, tokens: Sequence, deep: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """All hidden states [B, L, D] of the decoder, its input first."""
        more: dict[str, Any] = {}
        if deep:
            batch = len(tokens.x_BLD)
            more["visual_pos_masks"] = tokens.picture_L.expand(batch, -1)
            more["deepstack_visual_embeds"] = list(deep)
        hidden: tuple[Tensor, ...] = self.decoder(
            inputs_embeds=tokens.x_BLD,
            position_ids=self._positions(tokens),
            attention_mask=self._mask(tokens),
            use_cache=False,
            output_hidden_states=True,
            return_dict=True,
            **more,
        ).hidden_states
        return hidden

    def _mask(self, tokens: Sequence) -> Tensor | dict[str, Tensor]:
        """As the decoder takes it: for each kind of its layers, where there are several."""
        full_B1LL = allowed(tokens, self.is_prefix)
        as_needed = attention_bias if self.decoder.config._attn_implementation == "eager" else torch.clone
        window = getattr(self._text, "sliding_window", None)
        kinds = getattr(self._text, "layer_types", None) or ()
        if window is None or (kinds and "sliding_attention" not in kinds):
            return as_needed(full_B1LL)
        near_B1LL = within(full_B1LL, positions(tokens), window)
        if not kinds:
            return as_needed(near_B1LL)
        return {"full_attention": as_needed(full_B1LL), "sliding_attention": as_needed(near_B1LL)}


class ForeignVLM(ForeignBackbone):
    """A vision-language model of one of `foreign.families`."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ForeignVLMConfig, image: tuple[int, int]) -> None:
        family = family_of(config.model_type)
        made = package.made_config(family.values(config.config))
        model = package.made_model(made)
        super().__init__(made, getattr(model, family.parts["decoder"]))
        for name, place in family.parts.items():
            setattr(self, name, getattr(model, place))
        self.is_prefix = family.is_prefix
        self._family: Family = family
        self._made = made
        self._image = image
        with torch.device("cpu"):  # constants have values also where parameters are made on the meta device
            mean, std = (torch.tensor(v).view(3, 1, 1) for v in (config.pixel_mean, config.pixel_std))
            begin, end = (
                torch.tensor(ids, dtype=torch.int64) for ids in (config.picture_begin, config.picture_end)
            )
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.register_buffer("begin_ids", begin, persistent=False)
        self.register_buffer("end_ids", end, persistent=False)

    def initial(self) -> dict[str, Distribution]:
        return package.initial(self)

    def _pictures(self, image_NHWC: Tensor) -> Pictures:
        pixel_NCHW = image_NHWC.permute(0, 3, 1, 2).to(self.mean.dtype) / 255.0
        return self._family.pictures(self.parts(), self._made, (pixel_NCHW - self.mean) / self.std)

    def _around(self) -> tuple[Tensor, Tensor]:
        embedding = self.decoder.get_input_embeddings()
        return embedding(self.get_buffer("begin_ids")), embedding(self.get_buffer("end_ids"))

    def _grid(self) -> tuple[int, int]:
        return self._family.grid(self._made, self._image)

    def _positions(self, tokens: Sequence) -> Tensor:
        return self._family.positions(tokens)


class ForeignLLM(ForeignBackbone):
    """Our vision tower and projector before a causal language model."""

    def __init__(self, config: ForeignLLMConfig, image: tuple[int, int]) -> None:
        made = package.made_config(config.config)
        super().__init__(made, package.made_model(made))
        self.config = config
        self._image = image
        self.vision = ViT(config.vision, image)
        self.projector = nn.Linear(config.shuffle**2 * config.vision.width, self.width, bias=False)

    def _pictures(self, image_NHWC: Tensor) -> Pictures:
        rows, columns = grid_of(self.config.vision, self._image)
        merged = space_to_depth(self.vision(image_NHWC), rows, columns, self.config.shuffle)
        return Pictures(self.projector(merged))

    def _around(self) -> tuple[Tensor, Tensor]:
        nothing = self.projector.weight.new_zeros(0, self.width)
        return nothing, nothing

    def _grid(self) -> tuple[int, int]:
        rows, columns = grid_of(self.config.vision, self._image)
        return rows // self.config.shuffle, columns // self.config.shuffle


def made(config: ForeignConfig, image: tuple[int, int]) -> ForeignBackbone:
    """The backbone of a config, for pictures of (height, width) pixels."""
    return ForeignVLM(config, image) if isinstance(config, ForeignVLMConfig) else ForeignLLM(config, image)
