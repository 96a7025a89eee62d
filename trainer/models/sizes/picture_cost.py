"""What a picture costs a vision-language model before its tokens reach the decoder, in closed form.

Arithmetic is counted as for a token (see `models.sizes.cost`), and every patch sees all others.

Memory for the backward pass. In each layer, for each patch, what autograd keeps of `models.layers.attention`
with a fused kernel; b is the bytes of a number in the matrices' precision:
  each of both norms         its input, 4 D, and 8 for mean and deviation
  inputs of the matrices     bf16: b D for each of query, key, value, up; fp32: 4 D for each norm
  attention                  queries, keys and values for each head, values out: 4 b D, 4 H for the sums
  perceptron                 as there
  learned factors            what they scale, b D each
Outside of the layers the pixels as the stem takes them, the final norm, and what the projector reads.

Shapes: P patches, D width, M hidden width, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass

from robot_foundry.trainer.models.backbone import BackboneConfig
from robot_foundry.trainer.models.sizes.cost import BACKWARD, KEPT, NUMBER_BYTES
from robot_foundry.trainer.models.vit import ViTConfig, grid_of


@dataclass(frozen=True)
class PictureCost:
    """Of one picture, in the vision tower and the projector."""

    tokens: int  # that it becomes
    forward_flops: float
    training_flops: float
    activation_bytes: float  # kept for the backward pass


def picture_cost(
    model: BackboneConfig, image: tuple[int, int], precision: str, frozen: bool = False
) -> PictureCost:
    """Of a picture of (height, width) pixels, in `precision` fp32 or bf16.

    Args:
        frozen: whether the tower is; then the forward pass through it is all that it costs.
    """
    vision, size = model.vision, NUMBER_BYTES[precision]
    rows, columns = grid_of(vision, image)
    patches = rows * columns
    seen = patches + vision.class_token + vision.registers
    tokens = model.tokens_of(image)
    merged = model.shuffle**2 * vision.width
    layer = 2 * (4 * vision.width**2 + 2 * vision.width * vision.mlp_hidden) + 4 * seen * vision.width
    tower = _stem_flops(vision, image) + seen * vision.depth * layer
    projector = 2 * tokens * merged * model.decoder.width
    kept = 0.0 if frozen else _tower_bytes(vision, image, patches, seen, size)
    return PictureCost(
        tokens=tokens,
        forward_flops=tower + projector,
        training_flops=tower * (1 if frozen else 1 + BACKWARD) + projector * (1 + BACKWARD),
        activation_bytes=kept + size * tokens * merged,
    )


def _stem_flops(vision: ViTConfig, image: tuple[int, int]) -> float:
    """Of a strided convolution, or of stride-2 convolutions whose channels double up to the width."""
    if vision.stem != "conv":
        rows, columns = grid_of(vision, image)
        return 2.0 * rows * columns * 3 * vision.patch**2 * vision.width
    total, channels = 0.0, 3
    steps = vision.patch.bit_length() - 1
    for step in range(steps):
        out = vision.width >> (steps - 1 - step)
        pixels = (image[0] >> (step + 1)) * (image[1] >> (step + 1))
        total += 2.0 * pixels * 9 * channels * out
        channels = out
    return total


def _tower_bytes(vision: ViTConfig, image: tuple[int, int], patches: int, seen: int, size: int) -> float:
    """Bytes that the backward pass of the tower needs."""
    width = vision.width
    norm = 4 * width + 8
    inputs = 2 * 4 * width if size == 4 else 4 * size * width
    attention = 4 * size * width + 4 * vision.heads
    factors = 2 * size * width if vision.layer_scale is not None else 0
    layer = 2 * norm + inputs + attention + KEPT[vision.mlp] * size * vision.mlp_hidden + factors
    return vision.depth * seen * layer + _stem_bytes(vision, image, size) + patches * norm


def _stem_bytes(vision: ViTConfig, image: tuple[int, int], size: int) -> float:
    """What its convolutions read, and in a convolutional stem what its norm does."""
    total = 3.0 * size * image[0] * image[1]
    if vision.stem == "conv":
        steps = vision.patch.bit_length() - 1
        for step in range(steps):
            pixels = (image[0] >> (step + 1)) * (image[1] >> (step + 1))
            channels = vision.width >> (steps - 1 - step)
            total += pixels * (size * channels if step + 1 < steps else 4 * channels + 8)
    return total
