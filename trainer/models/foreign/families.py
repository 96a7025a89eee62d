"""Families of vision-language models of `transformers`: how each takes pictures, and how it counts places.

Shapes: N pictures, H W pixels, C channels, P tokens a picture, L sequence, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robot_foundry.runtime.errors import FoundryError, nearest
from robot_foundry.trainer.models.foreign.sequence import Sequence, positions, positions_3d


@dataclass(frozen=True)
class Pictures:
    """Tokens [N, P, D], and further ones [N·P, D] that are added behind the first layers of the decoder."""

    tokens_NPD: Tensor
    deep: tuple[Tensor, ...] = ()


class Family:
    """A `model_type`: where its parts are in the model of `transformers`, and what it does with pictures.

    is_prefix  the question sees all of itself, pictures among it (PaliGemma: Beyer et al. 2024, §3.2)
    renamed    how parts are called in files: beginnings of names, and the part that each is of
    """

    model_type: str
    parts: Mapping[str, str]
    renamed: tuple[tuple[str, str], ...]
    is_prefix = False

    def values(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """The values that the model is made of."""
        return config

    def grid(self, config: Any, image: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of a picture's tokens."""
        cell = self.cell(config)
        return image[0] // cell, image[1] // cell

    def cell(self, config: Any) -> int:
        """Pixels a side of what becomes one token."""
        raise NotImplementedError

    def problems(self, config: Any, image: tuple[int, int], key: str) -> Iterator[str]:
        """One line where pictures of (height, width) pixels, which `key` says, are none for it."""
        for side, pixels in zip(("height", "width"), image, strict=True):
            if pixels % self.cell(config):
                yield f"{key} {side}: {pixels} is no multiple of {self.cell(config)}, which is a token"

    def pictures(self, parts: Mapping[str, nn.Module], config: Any, pixel_NCHW: Tensor) -> Pictures:
        raise NotImplementedError

    def positions(self, tokens: Sequence) -> Tensor:
        """The `position_ids` of its decoder."""
        return positions(tokens)


class Qwen3VL(Family):
    """Patches in 2 × 2 blocks, rotary positions in three axes, features of three layers of the tower."""

    model_type = "qwen3_vl"
    parts = {"vision": "visual", "decoder": "language_model"}
    renamed = (
        ("model.visual.", "vision."),
        ("visual.", "vision."),
        ("model.language_model.", "decoder."),
        ("lm_head.", "output."),
    )

    def cell(self, config: Any) -> int:
        return int(config.vision_config.patch_size * config.vision_config.spatial_merge_size)

    def pictures(self, parts: Mapping[str, nn.Module], config: Any, pixel_NCHW: Tensor) -> Pictures:
        vision = config.vision_config
        rows, columns = (side // vision.patch_size for side in pixel_NCHW.shape[2:])
        patch_XC = patches(pixel_NCHW, vision.patch_size, vision.spatial_merge_size)
        moments_XC = patch_XC[:, :, None].expand(-1, -1, vision.temporal_patch_size, -1).flatten(1)
        grid_N3 = torch.tensor([[1, rows, columns]], device=pixel_NCHW.device).repeat(len(pixel_NCHW), 1)
        seen = parts["vision"](moments_XC, grid_thw=grid_N3, return_dict=True)
        return Pictures(
            seen.pooler_output.unflatten(0, (len(pixel_NCHW), -1)), tuple(seen.deepstack_features)
        )

    def positions(self, tokens: Sequence) -> Tensor:
        return positions_3d(tokens)


class PaliGemma(Family):
    """SigLIP for pictures of one size, a linear projector, and a question that sees all of itself."""

    model_type = "paligemma"
    parts = {
        "vision": "vision_tower", "projector": "multi_modal_projector", "decoder": "language_model",
    }  # fmt: skip
    renamed = (
        ("model.vision_tower.", "vision."),
        ("vision_tower.vision_model.", "vision."),
        ("vision_tower.", "vision."),
        ("model.multi_modal_projector.", "projector."),
        ("multi_modal_projector.", "projector."),
        ("language_model.lm_head.", "output."),
        ("language_model.model.", "decoder."),
        ("model.language_model.", "decoder."),
        ("lm_head.", "output."),
    )
    is_prefix = True

    def values(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        # What pools a picture to one vector takes no part.
        vision = {**(config.get("vision_config") or {}), "vision_use_head": False}
        return {**config, "vision_config": vision}

    def cell(self, config: Any) -> int:
        return int(config.vision_config.patch_size)

    def problems(self, config: Any, image: tuple[int, int], key: str) -> Iterator[str]:
        side = config.vision_config.image_size
        if image != (side, side):
            yield f"{key}: its vision tower takes pictures of [{side}, {side}], not {list(image)}"

    def pictures(self, parts: Mapping[str, nn.Module], config: Any, pixel_NCHW: Tensor) -> Pictures:
        seen = parts["vision"](pixel_values=pixel_NCHW, return_dict=True).last_hidden_state
        return Pictures(parts["projector"](seen))

    def positions(self, tokens: Sequence) -> Tensor:
        return positions(tokens) + 1  # as `transformers` counts them here


class SmolVLM(Family):
    """SigLIP whose positions stretch to a picture's size, and space to depth; pictures are not cut up."""

    model_type = "smolvlm"
    parts = {"vision": "vision_model", "projector": "connector", "decoder": "text_model"}
    renamed = (
        ("model.vision_model.", "vision."),
        ("model.connector.", "projector."),
        ("model.text_model.", "decoder."),
        ("lm_head.", "output."),
    )

    def cell(self, config: Any) -> int:
        return int(config.vision_config.patch_size * config.scale_factor)

    def problems(self, config: Any, image: tuple[int, int], key: str) -> Iterator[str]:
        yield from super().problems(config, image, key)
        most = config.vision_config.image_size
        if image[0] != image[1] or image[0] > most:
            yield f"{key}: it takes square pictures of up to [{most}, {most}], not {list(image)}"

    def pictures(self, parts: Mapping[str, nn.Module], config: Any, pixel_NCHW: Tensor) -> Pictures:
        seen = parts["vision"](pixel_values=pixel_NCHW, return_dict=True).last_hidden_state
        return Pictures(parts["projector"](seen))


FAMILIES: tuple[Family, ...] = (Qwen3VL(), PaliGemma(), SmolVLM())


def family_of(model_type: str) -> Family:
    """FoundryError where it is none that is known here."""
    names = [family.model_type for family in FAMILIES]
    if model_type not in names:
        raise FoundryError(
            f"model_type {model_type!r} is none of {', '.join(names)}{nearest(model_type, names)}"
        )
    return FAMILIES[names.index(model_type)]


def patches(pixel_NCHW: Tensor, size: int, merge: int) -> Tensor:
    """Patches [N·patches, C, size²] of pictures, those of a merge × merge block one behind the other."""
    rows, columns = (side // (size * merge) for side in pixel_NCHW.shape[2:])
    cut = pixel_NCHW.unflatten(3, (columns, merge, size)).unflatten(2, (rows, merge, size))
    # N C rows merge size columns merge size
    return cut.permute(0, 2, 5, 3, 6, 1, 4, 7).flatten(6, 7).flatten(0, 4)
