"""Random tiny vision towers, in folders as `transformers` and timm write them.

Shapes: N pictures, H × W pixels, P patches, D width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    PreTrainedConfig,
    PreTrainedModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTModel,
)

from robot_foundry.trainer.pretrained.tensor_files import WHOLE

IMAGE = 20  # pixels a side that they are made for: 5 × 5 patches
_COMMON = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": IMAGE, "patch_size": 4,
}  # fmt: skip
FAMILIES: Mapping[str, tuple[type[PreTrainedModel], type[PreTrainedConfig], dict[str, int]]] = {
    "vit": (ViTModel, ViTConfig, {"intermediate_size": 48}),
    "dinov2": (Dinov2Model, Dinov2Config, {"mlp_ratio": 2}),
    "dinov2_with_registers": (
        Dinov2WithRegistersModel, Dinov2WithRegistersConfig, {"mlp_ratio": 2, "num_register_tokens": 3},
    ),
    "siglip": (SiglipVisionModel, SiglipVisionConfig, {"intermediate_size": 48}),
    "clip": (CLIPVisionModel, CLIPVisionConfig, {"intermediate_size": 48}),
}  # fmt: skip


def made(family: str, **stated: Any) -> Any:
    """A model whose every parameter matters."""
    torch.manual_seed(0)
    model, config, values = FAMILIES[family]
    built = model(config(**{**_COMMON, **values, **stated})).eval()
    moved(built)
    return built


def moved(model: torch.nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)


def pictures(height: int, width: int, number: int = 2) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (number, height, width, 3), dtype=np.uint8)


@torch.no_grad()
def their_features(
    model: PreTrainedModel, image_NHWC: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]
) -> Tensor:
    """Features [N, P, D] of the patches, as the library computes them."""
    scaled = (torch.from_numpy(image_NHWC) / 255 - torch.tensor(mean)) / torch.tensor(std)
    how: dict[str, Any] = {"pixel_values": scaled.permute(0, 3, 1, 2)}
    if not isinstance(model, Dinov2Model | Dinov2WithRegistersModel):
        how["interpolate_pos_encoding"] = True
    before = {Dinov2WithRegistersModel: 4, SiglipVisionModel: 0}.get(type(model), 1)
    return model(**how).last_hidden_state[:, before:]


def write_timm(model: Dinov2Model | ViTModel, folder: Path, architecture: str, **stated: Any) -> None:
    """The same weights as timm would have them."""
    model.save_pretrained(folder)
    theirs = load_file(folder / WHOLE)
    ours: dict[str, Tensor] = {
        "cls_token": theirs["embeddings.cls_token"],
        "pos_embed": theirs["embeddings.position_embeddings"],
        "head.weight": torch.zeros(5, model.config.hidden_size),
    }
    scaled = isinstance(model, Dinov2Model)
    for kind in ("weight", "bias"):
        ours[f"patch_embed.proj.{kind}"] = theirs[f"embeddings.patch_embeddings.projection.{kind}"]
        ours[f"norm.{kind}"] = theirs[f"layernorm.{kind}"]
        for n in range(model.config.num_hidden_layers):
            layer, block = f"encoder.layer.{n}", f"blocks.{n}"
            parts = [
                theirs[f"{layer}.attention.attention.{part}.{kind}"] for part in ("query", "key", "value")
            ]
            ours[f"{block}.attn.qkv.{kind}"] = torch.cat(parts)
            ours[f"{block}.attn.proj.{kind}"] = theirs[f"{layer}.attention.output.dense.{kind}"]
            names = ("norm1", "norm2", "mlp.fc1", "mlp.fc2")
            of_vit = ("layernorm_before", "layernorm_after", "intermediate.dense", "output.dense")
            for name, there in zip(names, names if scaled else of_vit, strict=True):
                ours[f"{block}.{name}.{kind}"] = theirs[f"{layer}.{there}.{kind}"]
    for n in range(model.config.num_hidden_layers if scaled else 0):
        for number in (1, 2):
            ours[f"blocks.{n}.ls{number}.gamma"] = theirs[f"encoder.layer.{n}.layer_scale{number}.lambda1"]
    save_file(ours, folder / WHOLE)
    (folder / "config.json").write_text(json.dumps({"architecture": architecture, **stated}))
