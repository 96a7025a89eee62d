"""Families of vision towers that our ViT is, as `config.json` of `transformers` or timm describes them.

`transformers` may leave out what a class has by default, so the defaults of each are known here. timm says
little beside the name of an architecture; the shapes of the tensors say the rest.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path

from robot_foundry.runtime.errors import FoundryError, FoundryWarning, nearest
from robot_foundry.trainer.models.vit import ViTConfig
from robot_foundry.trainer.pretrained import vision_names
from robot_foundry.trainer.pretrained.families import ACTIVATIONS
from robot_foundry.trainer.pretrained.tensor_files import Shape
from robot_foundry.trainer.pretrained.values import Values, read_values
from robot_foundry.trainer.pretrained.vision_names import Layout

Channels = tuple[float, float, float]
PREPROCESSOR = "preprocessor_config.json"  # says how pixels are scaled
SECTION = "vision_config"  # of the config of a model of pictures and text
HALVES = (0.5, 0.5, 0.5)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_HEADS = {"tiny": 3, "small": 6, "base": 12, "large": 16, "huge": 16}  # by the sizes in timm's names
_TIMM = re.compile(rf"vit_({'|'.join(_HEADS)})_patch\d+_.*")


@dataclass(frozen=True)
class Family:
    """A `model_type` of `transformers`, the one that has such a tower inside, and what it is by default."""

    model_type: str
    outer: str | None
    layout: Layout
    config: ViTConfig
    image: int = 224  # pixels a side
    mlp_ratio: int | None = None  # where the config says the hidden width as a multiple


@dataclass(frozen=True)
class Tower:
    """What a folder holds.

    config     our config that it is, or that of its first layers
    layers     how many it has
    grid       rows and columns of the patches that it has positions of
    positions  how many positions it has, those of tokens before the patches among them
    layout     where what is
    """

    config: ViTConfig
    layers: int
    grid: tuple[int, int]
    positions: int
    layout: Layout


_DINOV2 = ViTConfig(patch=14, class_token=True, layer_scale=1.0)
FAMILIES = (
    Family(
        "vit", None, vision_names.VIT,
        ViTConfig(class_token=True, norm_eps=1e-12, pixel_mean=HALVES, pixel_std=HALVES),
    ),
    Family("dinov2", None, vision_names.DINOV2, _DINOV2, mlp_ratio=4),
    Family(
        "dinov2_with_registers", None, vision_names.DINOV2_WITH_REGISTERS,
        replace(_DINOV2, patch=16, registers=4), mlp_ratio=4,
    ),
    Family(
        "siglip_vision_model", "siglip", vision_names.SIGLIP,
        ViTConfig(mlp="gelu_tanh", pixel_mean=HALVES, pixel_std=HALVES),
    ),
    Family(
        "clip_vision_model", "clip", vision_names.CLIP,
        ViTConfig(
            patch=32, mlp="quick_gelu", class_token=True, stem_bias=False, pre_norm=True, final_norm=False,
            norm_eps=1e-5, pixel_mean=CLIP_MEAN, pixel_std=CLIP_STD,
        ),
    ),
)  # fmt: skip
# What changes no number that a tower computes, or is read here.
_KNOWN = {
    "_name_or_path", "apply_layernorm", "architectures", "attention_dropout", "attention_probs_dropout_prob",
    "auto_map", "chunk_size_feed_forward", "drop_path_rate", "dropout", "dtype", "encoder_stride",
    "hidden_act", "hidden_dropout_prob", "hidden_size", "id2label", "image_size", "initializer_factor",
    "initializer_range", "intermediate_size", "is_encoder_decoder", "label2id", "layer_norm_eps",
    "layerscale_value", "mlp_ratio", "model_type", "num_attention_heads", "num_channels", "num_hidden_layers",
    "num_register_tokens", "out_features", "out_indices", "output_attentions", "output_hidden_states",
    "patch_size", "pooler_act", "pooler_output_size", "problem_type", "projection_dim", "qkv_bias",
    "reshape_hidden_states", "return_dict", "stage_names", "torch_dtype", "transformers_version",
    "use_mask_token", "use_swiglu_ffn", "vision_use_head",
}  # fmt: skip


def tower_of(folder: Path, values: Values, shapes: Mapping[str, Shape]) -> Tower:
    """What a folder's `config.json` and tensors say. FoundryError if our ViT is no such tower."""
    if "architecture" in values.stated and "model_type" not in values.stated:
        return _timm_tower(values, shapes)
    family, inner = _family_named(values)
    if problems := list(_unlike_ours(inner, family)):
        listed = "".join(f"\n  {line}" for line in problems)
        raise FoundryError(f"{inner.where} describes what our ViT is not:{listed}")
    if unknown := sorted(inner.stated.keys() - _KNOWN):
        warnings.warn(f"{inner.where}: not heeded: {', '.join(unknown)}", FoundryWarning, stacklevel=2)
    config = _config(inner, family)
    side = inner.integer("image_size", family.image) // config.patch
    if not side:
        raise FoundryError(f"{inner.where}: image_size is less than patch_size")
    mean, std = _pixel_scale(folder, config)
    config = replace(config, pixel_mean=mean, pixel_std=std)
    return Tower(config, config.depth, (side, side), side**2 + config.class_token, family.layout)


def _family_named(values: Values) -> tuple[Family, Values]:
    """The family, and the values that are of its tower."""
    name = values.text("model_type")
    for family in FAMILIES:
        if name == family.model_type:
            return family, values
        if name == family.outer:
            return family, values.section(SECTION)
    known = [name for family in FAMILIES for name in (family.model_type, family.outer) if name]
    raise FoundryError(
        f"{values.where}: model_type {name!r} is none of {', '.join(known)}{nearest(name, known)}",
        hint="start from a ViT, DINOv2, SigLIP or CLIP, or from one of timm",
    )


def _config(values: Values, family: Family) -> ViTConfig:
    default = family.config
    width = values.integer("hidden_size", default.width)
    hidden = width * (family.mlp_ratio or 0)
    if family.mlp_ratio is None:
        hidden = values.integer("intermediate_size", default.mlp_hidden)
    elif values.stated.get("mlp_ratio") is not None:
        hidden = int(width * values.number("mlp_ratio"))
    activation = values.text("hidden_act", ACTIVATIONS[default.mlp])
    registers = default.registers and values.integer("num_register_tokens", default.registers)
    return replace(
        default,
        patch=values.integer("patch_size", default.patch),
        width=width,
        depth=values.integer("num_hidden_layers", default.depth),
        heads=values.integer("num_attention_heads", default.heads),
        mlp=next(ours for ours, theirs in ACTIVATIONS.items() if theirs == activation),
        mlp_hidden=hidden,
        norm_eps=values.number("layer_norm_eps", default.norm_eps),
        registers=registers,
    )


def _unlike_ours(values: Values, family: Family) -> Iterator[str]:
    """One line for each thing that a tower of the family has and our ViT has not."""
    activation = values.text("hidden_act", ACTIVATIONS[family.config.mlp])
    fitting = [theirs for ours, theirs in ACTIVATIONS.items() if ours != "swiglu"]
    if activation not in fitting:
        yield f"hidden_act: {activation} is none of {', '.join(fitting)}"
    if values.integer("num_channels", 3) != 3:
        yield "num_channels: our pictures have 3 channels"
    if not values.flag("qkv_bias", True):
        yield "qkv_bias: queries, keys and values of our ViT have biases"
    if values.flag("use_swiglu_ffn", False):
        yield "use_swiglu_ffn: its MLPs are gated, with both layers in one tensor"


def _pixel_scale(folder: Path, config: ViTConfig) -> tuple[Channels, Channels]:
    """Mean and standard deviation by which pixels are scaled; those of the family where nothing says it."""
    file = folder / PREPROCESSOR
    if not file.is_file():
        return config.pixel_mean, config.pixel_std
    stated = read_values(file)
    return (
        channels(stated, "image_mean", config.pixel_mean),
        channels(stated, "image_std", config.pixel_std),
    )


def channels(values: Values, key: str, default: Channels) -> Channels:
    """Three numbers, of red, green and blue."""
    stated = values.stated.get(key)
    if stated is None:
        return default
    if not isinstance(stated, list) or len(stated) != 3 or not all(type(v) in (int, float) for v in stated):
        raise values.wrong(key, "three numbers")
    red, green, blue = stated
    return float(red), float(green), float(blue)


def _timm_tower(values: Values, shapes: Mapping[str, Shape]) -> Tower:
    name = values.text("architecture")
    found = _TIMM.fullmatch(name)
    if found is None or "siglip" in name:
        raise FoundryError(
            f"{values.where}: of timm vit_({'|'.join(_HEADS)})_patch… is known here, not {name!r}",
            hint="SigLIP is known as transformers has it" if "siglip" in name else None,
        )
    depth = len({key.split(".")[1] for key in shapes if re.match(r"blocks\.\d+\.", key)})
    width, _, patch, _ = _shape(values, shapes, "patch_embed.proj.weight", 4)
    hidden, _ = _shape(values, shapes, "blocks.0.mlp.fc1.weight", 2)
    if _shape(values, shapes, "blocks.0.mlp.fc2.weight", 2)[1] != hidden:
        raise FoundryError(f"{values.where}: {name} has gated MLPs, and our ViT has none")
    is_class, registers = "cls_token" in shapes, shapes.get("reg_token", (0, 0))[1]
    pretrained = values.section("pretrained_cfg")
    config = ViTConfig(
        patch=patch, width=width, depth=depth, heads=_HEADS[found[1]], mlp_hidden=hidden,
        mlp="quick_gelu" if "quickgelu" in name else "gelu",
        stem_bias="patch_embed.proj.bias" in shapes,
        class_token=is_class,
        registers=registers,
        pre_norm="norm_pre.weight" in shapes,
        final_norm="norm.weight" in shapes,
        norm_eps=1e-5 if "_clip_" in name else 1e-6,
        layer_scale=1.0 if "blocks.0.ls1.gamma" in shapes else None,
        pixel_mean=channels(pretrained, "mean", ViTConfig.pixel_mean),
        pixel_std=channels(pretrained, "std", ViTConfig.pixel_std),
    )  # fmt: skip
    positions = _shape(values, shapes, "pos_embed", 3)[1]
    # Positions are of all tokens, or of patches alone.
    sides = [isqrt(positions - before) for before in (is_class + registers, 0) if positions > before]
    fitting = [s for s in sides if s * s in (positions, positions - is_class - registers)]
    if not fitting:
        raise FoundryError(f"{values.where}: the {positions} positions of {name} make no square of patches")
    return Tower(config, depth, (fitting[0], fitting[0]), positions, vision_names.TIMM)


def _shape(values: Values, shapes: Mapping[str, Shape], name: str, axes: int) -> Shape:
    shape = shapes.get(name)
    if shape is None or len(shape) != axes:
        raise FoundryError(f"{values.where} is of a ViT of timm, and beside it is no {name} of {axes} axes")
    return shape
