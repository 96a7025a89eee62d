"""Where vision towers of others have what our ViT has: one line a kind of parameter, `{}` is the layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Layout:
    """The names of a family's tensors.

    names        what each of our parameters is called there
    position     the positions, those of tokens before the patches first
    class_token, registers  the tokens before the patches; None where there are none
    prefixes     any of which all these names may have
    joined       queries, keys and values are thirds of one tensor
    antialias    how positions are resized there (see models.vit.resized_positions)
    unused       beginnings of names that become nothing, and why none is needed
    """

    names: Mapping[str, str]
    position: str
    class_token: str | None
    registers: str | None = None
    prefixes: tuple[str, ...] = ("",)
    joined: bool = False
    antialias: bool = False
    unused: Mapping[str, str] = field(default_factory=dict)


def _modules(names: Mapping[str, str]) -> dict[str, str]:
    """The weights and biases of modules."""
    return {f"{ours}.{kind}": f"{names[ours]}.{kind}" for ours in names for kind in ("weight", "bias")}


_LOSS, _MASKED, _COUNTS = "is of a loss that is not ours", "stands for masked patches", "counts the positions"
_VIT_NAMES = {
    "stem": "embeddings.patch_embeddings.projection",
    "blocks.{}.attention_norm": "encoder.layer.{}.layernorm_before",
    "blocks.{}.attention.query": "encoder.layer.{}.attention.attention.query",
    "blocks.{}.attention.key": "encoder.layer.{}.attention.attention.key",
    "blocks.{}.attention.value": "encoder.layer.{}.attention.attention.value",
    "blocks.{}.attention.out": "encoder.layer.{}.attention.output.dense",
    "blocks.{}.mlp_norm": "encoder.layer.{}.layernorm_after",
    "blocks.{}.mlp.up": "encoder.layer.{}.intermediate.dense",
    "blocks.{}.mlp.down": "encoder.layer.{}.output.dense",
    "norm": "layernorm",
}
_DINOV2_NAMES = _VIT_NAMES | {
    "blocks.{}.attention_norm": "encoder.layer.{}.norm1",
    "blocks.{}.mlp_norm": "encoder.layer.{}.norm2",
    "blocks.{}.mlp.up": "encoder.layer.{}.mlp.fc1",
    "blocks.{}.mlp.down": "encoder.layer.{}.mlp.fc2",
}
_DINOV2_SCALES = {
    "blocks.{}.attention_scale": "encoder.layer.{}.layer_scale1.lambda1",
    "blocks.{}.mlp_scale": "encoder.layer.{}.layer_scale2.lambda1",
}
_CLIP_NAMES = {
    "stem": "embeddings.patch_embedding",
    "pre_norm": "pre_layrnorm",
    "blocks.{}.attention_norm": "encoder.layers.{}.layer_norm1",
    "blocks.{}.attention.query": "encoder.layers.{}.self_attn.q_proj",
    "blocks.{}.attention.key": "encoder.layers.{}.self_attn.k_proj",
    "blocks.{}.attention.value": "encoder.layers.{}.self_attn.v_proj",
    "blocks.{}.attention.out": "encoder.layers.{}.self_attn.out_proj",
    "blocks.{}.mlp_norm": "encoder.layers.{}.layer_norm2",
    "blocks.{}.mlp.up": "encoder.layers.{}.mlp.fc1",
    "blocks.{}.mlp.down": "encoder.layers.{}.mlp.fc2",
    "norm": "post_layernorm",
}
_TIMM_NAMES = {
    "stem": "patch_embed.proj",
    "pre_norm": "norm_pre",
    "blocks.{}.attention_norm": "blocks.{}.norm1",
    "blocks.{}.attention.query": "blocks.{}.attn.qkv",
    "blocks.{}.attention.key": "blocks.{}.attn.qkv",
    "blocks.{}.attention.value": "blocks.{}.attn.qkv",
    "blocks.{}.attention.out": "blocks.{}.attn.proj",
    "blocks.{}.mlp_norm": "blocks.{}.norm2",
    "blocks.{}.mlp.up": "blocks.{}.mlp.fc1",
    "blocks.{}.mlp.down": "blocks.{}.mlp.fc2",
    "norm": "norm",
}
_TIMM_SCALES = {
    "blocks.{}.attention_scale": "blocks.{}.ls1.gamma",
    "blocks.{}.mlp_scale": "blocks.{}.ls2.gamma",
}
_BESIDE_CLIP = {"text_model.": "is of the text tower", "text_projection.": _LOSS, "logit_": _LOSS}

VIT = Layout(
    _modules(_VIT_NAMES),
    position="embeddings.position_embeddings",
    class_token="embeddings.cls_token",
    prefixes=("", "vit."),
    unused={"pooler.": _LOSS, "classifier.": _LOSS, "embeddings.mask_token": _MASKED},
)
DINOV2 = Layout(
    _modules(_DINOV2_NAMES) | _DINOV2_SCALES,
    position="embeddings.position_embeddings",
    class_token="embeddings.cls_token",
    prefixes=("", "dinov2."),
    unused={"classifier.": _LOSS, "embeddings.mask_token": _MASKED},
)
DINOV2_WITH_REGISTERS = Layout(
    DINOV2.names,
    position=DINOV2.position,
    class_token=DINOV2.class_token,
    registers="embeddings.register_tokens",
    prefixes=("", "dinov2_with_registers."),
    antialias=True,
    unused=DINOV2.unused,
)
SIGLIP = Layout(
    _modules(_CLIP_NAMES),
    position="embeddings.position_embedding.weight",
    class_token=None,
    prefixes=("", "vision_model."),
    unused={"head.": _LOSS, "classifier.": _LOSS, "embeddings.position_ids": _COUNTS, **_BESIDE_CLIP},
)
CLIP = Layout(
    _modules(_CLIP_NAMES),
    position="embeddings.position_embedding.weight",
    class_token="embeddings.class_embedding",
    prefixes=("", "vision_model."),
    unused={
        "post_layernorm.": "is of the class token alone",
        "visual_projection.": _LOSS,
        "embeddings.position_ids": _COUNTS,
        **_BESIDE_CLIP,
    },
)
TIMM = Layout(
    _modules(_TIMM_NAMES) | _TIMM_SCALES,
    position="pos_embed",
    class_token="cls_token",
    registers="reg_token",
    joined=True,
    antialias=True,
    unused={"head.": _LOSS, "head_dist.": _LOSS, "fc_norm.": _LOSS, "mask_token": _MASKED},
)
