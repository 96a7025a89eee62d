"""What sizes of models must be, and how they must fit each other."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from robot_foundry.trainer.models.backbone import BackboneConfig
from robot_foundry.trainer.models.decoder import DecoderConfig
from robot_foundry.trainer.models.flow import DENSITIES, FlowConfig
from robot_foundry.trainer.models.foreign.checks import depth_of, foreign_problems
from robot_foundry.trainer.models.foreign.config import ForeignLLMConfig
from robot_foundry.trainer.models.layers import contrastive
from robot_foundry.trainer.models.layers.attention import MLP_KINDS, RopeScaling
from robot_foundry.trainer.models.llm import LLMConfig
from robot_foundry.trainer.models.tokenizer import VOCABULARY
from robot_foundry.trainer.models.vision_language import OBJECTIVES, VisionLanguageConfig
from robot_foundry.trainer.models.vit import POSITIONS, STEMS, ViTConfig
from robot_foundry.trainer.models.vla import OBJECTIVES as VLA_OBJECTIVES
from robot_foundry.trainer.models.vla import VLAConfig
from robot_foundry.trainer.recipes.ranges import at_least, choice, multiple


def vla_problems(model: VLAConfig, image: tuple[int, int] | None) -> Iterator[str]:
    """One line for every value that is out of range or does not fit another; `image` is (height, width)."""
    if isinstance(model.backbone, BackboneConfig):
        yield from _backbone_problems(model.backbone, image, "data.window.image")
        yield from at_least(VOCABULARY, "model.backbone.decoder", model.backbone.decoder, "vocabulary")
    else:
        if isinstance(model.backbone, ForeignLLMConfig):
            yield from vit_problems("model.backbone.vision", model.backbone.vision)
        yield from foreign_problems(model.backbone, image, "data.window.image")
    yield from _transformer_problems("model.head", model.head)
    yield from at_least(1, "model", model, "taps", "tap_width", "text_length", "obs_tokens", "draws")
    yield from choice("model.density", model.density, DENSITIES)
    yield from choice("model.objective", model.objective, VLA_OBJECTIVES)
    if not 0 < model.backbone_grad_scale <= 1:
        given = f"not {model.backbone_grad_scale}"
        yield f"model.backbone_grad_scale: must lie in (0, 1], {given}: nothing else would teach the backbone"
    yield from at_least(0, "model.lora", model.lora, "rank")
    if not 0 < model.lora.alpha < inf:
        yield f"model.lora.alpha: must be positive and finite, not {model.lora.alpha}"
    if model.state_noise < 0:
        yield f"model.state_noise: must not be negative, not {model.state_noise}"
    if not 0 <= model.state_dropout <= 1:
        yield f"model.state_dropout: must lie in 0 … 1, not {model.state_dropout}"


def taps_problems(model: VLAConfig) -> Iterator[str]:
    """A line where more layers are read than the backbone's decoder has."""
    backbone = model.backbone
    depth = backbone.decoder.depth if isinstance(backbone, BackboneConfig) else depth_of(backbone)
    if model.taps > depth:
        yield f"model.taps: {model.taps} layers cannot be read from a decoder of depth {depth}"


def vision_language_problems(model: VisionLanguageConfig, image: tuple[int, int]) -> Iterator[str]:
    """The same of a vision-language model."""
    yield from _backbone_problems(model.backbone, image, "data.rows.image")
    yield from at_least(1, "model.backbone.decoder", model.backbone.decoder, "vocabulary")
    yield from choice("model.objective", model.objective, OBJECTIVES)
    if model.objective == contrastive.LOSS and not model.tied:
        yield "model.tied: a contrastive model has no output of its own; tied: true"


def llm_problems(model: LLMConfig) -> Iterator[str]:
    """The same of a language model alone."""
    yield from _decoder_problems("model.decoder", model.decoder)
    yield from at_least(1, "model.decoder", model.decoder, "vocabulary")


def _backbone_problems(backbone: BackboneConfig, image: tuple[int, int] | None, key: str) -> Iterator[str]:
    """The same of a vision tower and a decoder, for pictures of a size that `key` says."""
    yield from vit_problems("model.backbone.vision", backbone.vision)
    yield from at_least(1, "model.backbone", backbone, "shuffle")
    for side, pixels in zip(("height", "width"), image or (), strict=image is not None):
        cell = backbone.vision.patch * backbone.shuffle
        yield from multiple(f"{key} {side}", pixels, cell, "model.backbone.vision.patch × shuffle")
    yield from _decoder_problems("model.backbone.decoder", backbone.decoder)


def _decoder_problems(path: str, decoder: DecoderConfig) -> Iterator[str]:
    """The same of a decoder, whose section is `path`."""
    yield from at_least(1, path, decoder, "width", "depth", "heads", "mlp_hidden", "kv_heads", "head_width")
    yield from choice(f"{path}.mlp", decoder.mlp, MLP_KINDS)
    yield from multiple(f"{path}.heads", decoder.heads, decoder.kv_heads, "kv_heads")
    if decoder.head_width is None:
        yield from multiple(f"{path}.width", decoder.width, decoder.heads, "heads")
    if decoder.heads > 0 and (decoder.head_width is not None or decoder.width % decoder.heads == 0):
        yield from multiple(f"{path}: the width of a head", decoder.width_of_head, 2, "rotary positions")
    for name in ("rope_theta", "norm_eps"):
        if not 0 < getattr(decoder, name) < inf:
            yield f"{path}.{name}: must be positive and finite, not {getattr(decoder, name)}"
    yield from _scaling_problems(f"{path}.rope_scaling", decoder.rope_scaling)


def _scaling_problems(path: str, scaling: RopeScaling) -> Iterator[str]:
    if not 1 <= scaling.factor < inf:
        yield f"{path}.factor: must be at least 1 and finite, not {scaling.factor}"
    if not 0 < scaling.low_freq_factor < scaling.high_freq_factor < inf:
        low, high = scaling.low_freq_factor, scaling.high_freq_factor
        yield f"{path}: needs 0 < low_freq_factor < high_freq_factor, both finite, not {low} and {high}"
    yield from at_least(1, path, scaling, "original_length")


def _transformer_problems(path: str, config: FlowConfig | ViTConfig) -> Iterator[str]:
    yield from at_least(1, path, config, "width", "depth", "heads", "mlp_hidden")
    yield from choice(f"{path}.mlp", config.mlp, MLP_KINDS)
    yield from multiple(f"{path}.width", config.width, config.heads, "heads")


def vit_problems(path: str, vision: ViTConfig) -> Iterator[str]:
    """The same of a vision transformer, whose section is `path`."""
    yield from _transformer_problems(path, vision)
    yield from at_least(1, path, vision, "patch")
    yield from at_least(0, path, vision, "registers")
    for name, values in (("norm_eps", [vision.norm_eps]), ("pixel_std", vision.pixel_std)):
        if not all(0 < value < inf for value in values):
            yield f"{path}.{name}: must be positive and finite, not {', '.join(map(str, values))}"
    yield from choice(f"{path}.stem", vision.stem, STEMS)
    yield from choice(f"{path}.position", vision.position, POSITIONS)
    if vision.position == "sincos":
        yield from multiple(f"{path}.width", vision.width, 4, "what sincos positions need")
    if vision.stem == "conv" and vision.patch > 1:
        if vision.patch & (vision.patch - 1):
            yield f"{path}.patch: a conv stem needs a power of two, not {vision.patch}"
        else:
            yield from multiple(f"{path}.width", vision.width, vision.patch // 2, "what its conv stem needs")
