"""Vision transformer: uint8 pictures to image tokens.

Shapes: N pictures, H W pixels, C channels, P patches, D width, s the space-to-depth factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from robot_foundry.trainer.models.attention import Block, Mlp, SelfAttention
from robot_foundry.trainer.models.initial import Distribution, Normal, residual_outputs

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
    mlp: str = "gelu"  # swiglu | gelu | relu
    mlp_hidden: int = 3072
    stem: str = (
        "patch"  # patch: one strided convolution; conv: stride-2 convolutions, for training from nothing
    )
    position: str = "learned"  # learned | sincos


def sincos_positions(rows: int, columns: int, width: int) -> Tensor:
    """Fixed 2-D positions [rows·columns, width]: half the channels code the row, half the column."""
    frequency = 100.0 ** (-torch.arange(width // 4, dtype=torch.float32) / (width // 4))

    def code(count: int) -> Tensor:
        angle = torch.outer(torch.arange(count, dtype=torch.float32), frequency)
        return torch.cat((angle.sin(), angle.cos()), dim=-1)

    row = code(rows)[:, None].expand(rows, columns, -1)
    column = code(columns)[None, :].expand(rows, columns, -1)
    return SINCOS_AMPLITUDE * torch.cat((row, column), dim=-1).flatten(0, 1)


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


class ViT(nn.Module):
    """Patches or a convolutional stem, positions, pre-norm blocks with full attention, final norm."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ViTConfig, image: tuple[int, int]) -> None:
        super().__init__()
        self.rows, self.columns = image[0] // config.patch, image[1] // config.patch
        with torch.device("cpu"):  # constants have values also where parameters are made on the meta device
            mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CHANNEL_MEAN, CHANNEL_STD))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        if config.stem == "conv":
            self.stem: nn.Module = conv_stem(config.width, config.patch)
            self.stem_norm: nn.Module = nn.LayerNorm(config.width, eps=1e-6)
        else:
            self.stem = nn.Conv2d(3, config.width, config.patch, stride=config.patch)
            self.stem_norm = nn.Identity()
        if config.position == "learned":
            self.position = nn.Parameter(torch.empty(self.rows * self.columns, config.width))
        else:
            with torch.device("cpu"):
                place = sincos_positions(self.rows, self.columns, config.width)
            self.register_buffer("position", place, persistent=False)
        self.blocks = nn.ModuleList(
            Block(
                config.width,
                SelfAttention(config.width, config.heads, config.heads, bias=True),
                Mlp(config.width, config.mlp_hidden, config.mlp, bias=True),
                partial(nn.LayerNorm, eps=1e-6),
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-6)

    def initial(self) -> dict[str, Distribution]:
        return {"position": Normal(0.02), **residual_outputs(self, len(self.blocks))}

    def forward(self, image_NHWC: Tensor) -> Tensor:
        """uint8 pictures [N, H, W, 3] to tokens [N, P, D]."""
        image_NCHW = image_NHWC.permute(0, 3, 1, 2).to(self.mean.dtype) / 255.0
        x_NDhw = self.stem((image_NCHW - self.mean) / self.std)
        x_NPD = self.stem_norm(x_NDhw.flatten(2).transpose(1, 2)) + self.position
        for block in self.blocks:
            x_NPD = block(x_NPD)
        return self.norm(x_NPD)
