"""Vision transformer: uint8 pictures to image tokens.

With its later keys it is any of ViT, DINOv2 (with registers or without), SigLIP and CLIP.
Shapes: N pictures, H W pixels, C channels, P patches, R tokens before them, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_foundry.runtime.later import later
from robot_foundry.trainer.models.layers.attention import Block, Mlp, SelfAttention
from robot_foundry.trainer.models.layers.initial import Constant, Distribution, Normal, residual_outputs

STEMS = ("patch", "conv")
POSITIONS = ("learned", "sincos")
# Channel mean and standard deviation of ImageNet, pixels scaled to [0, 1].
CHANNEL_MEAN = (0.485, 0.456, 0.406)
CHANNEL_STD = (0.229, 0.224, 0.225)
SINCOS_AMPLITUDE = 0.5  # below the unit variance of the normalised stem, so that content outweighs place


@dataclass(frozen=True)
class ViTConfig:
    """Shape of a vision transformer."""

    patch: int = 16  # pixels a side
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp: str = "gelu"  # swiglu | gelu | relu | gelu_tanh | quick_gelu
    mlp_hidden: int = 3072
    stem: str = (
        "patch"  # patch: one strided convolution; conv: stride-2 convolutions, for training from nothing
    )
    position: str = "learned"  # learned | sincos
    stem_bias: bool = later(True)  # of the strided convolution
    class_token: bool = later(False)  # a learned token before the patches, of which it takes note
    registers: int = later(0)  # further ones (Darcet et al. 2023)
    pre_norm: bool = later(False)  # a norm before the first block
    final_norm: bool = later(True)  # one behind the last
    norm_eps: float = later(1e-6)
    layer_scale: float | None = later(None)  # how learned factors on what blocks add begin; none without
    pixel_mean: tuple[float, float, float] = later(CHANNEL_MEAN)  # of channels, pixels scaled to [0, 1]
    pixel_std: tuple[float, float, float] = later(CHANNEL_STD)


def sincos_positions(rows: int, columns: int, width: int) -> Tensor:
    """Fixed 2-D positions [rows·columns, width]: half the channels code the row, half the column."""
    frequency = 100.0 ** (-torch.arange(width // 4, dtype=torch.float32) / (width // 4))

    def code(count: int) -> Tensor:
        angle = torch.outer(torch.arange(count, dtype=torch.float32), frequency)
        return torch.cat((angle.sin(), angle.cos()), dim=-1)

    row = code(rows)[:, None].expand(rows, columns, -1)
    column = code(columns)[None, :].expand(rows, columns, -1)
    return SINCOS_AMPLITUDE * torch.cat((row, column), dim=-1).flatten(0, 1)


def resized_positions(
    position_PD: Tensor, grid: tuple[int, int], to: tuple[int, int], antialias: bool = False
) -> Tensor:
    """Learned positions of a grid of (rows, columns) for another: bicubic between the centres of patches.

    Without antialiasing this is what ViT, DINOv2 and SigLIP of `transformers` do, and DINOv2 as published;
    with it what timm and DINOv2 with registers do. On the same grid they stay as they are.
    """
    if grid == to:
        return position_PD
    position_1Drc = position_PD.float().unflatten(0, grid).permute(2, 0, 1)[None]
    resized = F.interpolate(position_1Drc, to, mode="bicubic", align_corners=False, antialias=antialias)
    return resized[0].flatten(1).T.contiguous()


def space_to_depth(x_NPD: Tensor, rows: int, columns: int, factor: int) -> Tensor:
    """Merge each factor × factor neighbourhood of patches into one token of factor² · D channels."""
    x = x_NPD.unflatten(1, (rows // factor, factor, columns // factor, factor))
    return x.transpose(2, 3).flatten(3, 5).flatten(1, 2)


def conv_stem(width: int, patch: int) -> nn.Sequential:
    """log2(patch) convolutions of stride 2, each doubling the channels up to `width`, ReLU between."""
    steps = patch.bit_length() - 1
    channels = [3, *(width >> (steps - 1 - i) for i in range(steps))]
    layers: list[nn.Module] = []
    for i in range(steps):
        layers += [nn.Conv2d(channels[i], channels[i + 1], 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def grid_of(config: ViTConfig, image: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of patches of a picture of (height, width) pixels."""
    return image[0] // config.patch, image[1] // config.patch


class ViT(nn.Module):
    """Patches or a convolutional stem, positions, pre-norm blocks with full attention, final norm."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ViTConfig, image: tuple[int, int]) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, eps=config.norm_eps)
        self.rows, self.columns = grid_of(config, image)
        self._layer_scale = config.layer_scale
        with torch.device("cpu"):  # constants have values also where parameters are made on the meta device
            mean, std = (torch.tensor(v).view(3, 1, 1) for v in (config.pixel_mean, config.pixel_std))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        if config.stem == "conv":
            self.stem: nn.Module = conv_stem(config.width, config.patch)
            self.stem_norm: nn.Module = norm(config.width)
        else:
            self.stem = nn.Conv2d(3, config.width, config.patch, stride=config.patch, bias=config.stem_bias)
            self.stem_norm = nn.Identity()
        if config.position == "learned":
            self.position = nn.Parameter(torch.empty(self.rows * self.columns, config.width))
        else:
            with torch.device("cpu"):
                place = sincos_positions(self.rows, self.columns, config.width)
            self.register_buffer("position", place, persistent=False)
        before = config.class_token + config.registers
        self.before_embedding = nn.Parameter(torch.empty(before, config.width)) if before else None
        self.pre_norm = norm(config.width) if config.pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(_block(config, norm) for _ in range(config.depth))
        self.norm = norm(config.width) if config.final_norm else nn.Identity()

    def initial(self) -> dict[str, Distribution]:
        rules: dict[str, Distribution] = dict.fromkeys(("position", "before_embedding"), Normal(0.02))
        if self._layer_scale is not None:
            factor = Constant(self._layer_scale)
            names = [f"{part}_scale" for part in ("attention", "mlp")]
            rules |= {f"blocks.{n}.{name}": factor for n in range(len(self.blocks)) for name in names}
        return rules | residual_outputs(self, len(self.blocks))

    def forward(self, image_NHWC: Tensor) -> Tensor:
        """uint8 pictures [N, H, W, 3] to tokens [N, P, D]."""
        image_NCHW = image_NHWC.permute(0, 3, 1, 2).to(self.mean.dtype) / 255.0
        x_NDhw = self.stem((image_NCHW - self.mean) / self.std)
        x_NPD = self.stem_norm(x_NDhw.flatten(2).transpose(1, 2)) + self.position
        before = 0 if self.before_embedding is None else len(self.before_embedding)
        if self.before_embedding is not None:
            x_NPD = torch.cat((self.before_embedding.expand(len(x_NPD), -1, -1), x_NPD), dim=1)
        x_NPD = self.pre_norm(x_NPD)
        for block in self.blocks:
            x_NPD = block(x_NPD)
        return self.norm(x_NPD[:, before:])


def _block(config: ViTConfig, norm: Callable[[int], nn.Module]) -> Block:
    attention = SelfAttention(config.width, config.heads, config.heads, bias=True)
    mlp = Mlp(config.width, config.mlp_hidden, config.mlp, bias=True)
    return Block(config.width, attention, mlp, norm, scaled=config.layer_scale is not None)
