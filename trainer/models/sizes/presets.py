"""Named sizes. A recipe names one (`head: flow_325m`) or starts from it (`{preset: flow_325m, depth: 9}`)."""

from __future__ import annotations

from collections.abc import Mapping

from robot_foundry.trainer.models.backbone import BackboneConfig
from robot_foundry.trainer.models.decoder import DecoderConfig
from robot_foundry.trainer.models.flow import FlowConfig
from robot_foundry.trainer.models.llm import LLMConfig
from robot_foundry.trainer.models.tokenizer import VOCABULARY
from robot_foundry.trainer.models.vision_language import VisionLanguageConfig
from robot_foundry.trainer.models.vit import ViTConfig
from robot_foundry.trainer.models.vla import VLAConfig

VITS: Mapping[str, ViTConfig] = {
    "vit_b16": ViTConfig(),
    "vit_l16": ViTConfig(width=1024, depth=24, heads=16, mlp_hidden=4096),
    # The towers of DINOv2-small and of SigLIP so400m.
    "vit_s14": ViTConfig(
        patch=14, width=384, heads=6, mlp_hidden=1536, class_token=True, layer_scale=1.0
    ),
    "vit_so400m": ViTConfig(
        patch=14, width=1152, depth=27, heads=16, mlp="gelu_tanh", mlp_hidden=4304,
        pixel_mean=(0.5, 0.5, 0.5), pixel_std=(0.5, 0.5, 0.5),
    ),
    "vit_tiny": ViTConfig(
        patch=8, width=96, depth=2, heads=4, mlp="relu", mlp_hidden=384, stem="conv", position="sincos"
    ),
}  # fmt: skip
DECODERS: Mapping[str, DecoderConfig] = {
    "llm_1_2b": DecoderConfig(),
    "llm_100m": DecoderConfig(width=768, depth=12, heads=12, kv_heads=12, mlp_hidden=2048),
    "smollm2_135m": DecoderConfig(
        width=576, depth=30, heads=9, kv_heads=3, mlp_hidden=1536, vocabulary=49152, rope_theta=1e5,
        norm_eps=1e-5,
    ),
    "llm_tiny": DecoderConfig(
        width=128, depth=4, heads=4, kv_heads=4, mlp="relu", mlp_hidden=512, vocabulary=VOCABULARY
    ),
}  # fmt: skip
LLMS: Mapping[str, LLMConfig] = {name: LLMConfig(decoder) for name, decoder in DECODERS.items()}
FLOWS: Mapping[str, FlowConfig] = {
    "flow_325m": FlowConfig(),
    "flow_100m": FlowConfig(width=768, depth=12, heads=12, mlp_hidden=2048),
    "flow_tiny": FlowConfig(width=128, depth=3, heads=4, mlp="relu", mlp_hidden=512),
}
BACKBONES: Mapping[str, BackboneConfig] = {
    # 64 tokens a picture: of 256 pixels a side with patches of 16, of 224 with patches of 14.
    "vlm_1_7b": BackboneConfig(VITS["vit_so400m"]),
    "vlm_1_3b": BackboneConfig(),
    "vlm_200m": BackboneConfig(decoder=DECODERS["llm_100m"]),
    "vlm_160m": BackboneConfig(VITS["vit_s14"], decoder=DECODERS["smollm2_135m"]),
    "vlm_tiny": BackboneConfig(VITS["vit_tiny"], decoder=DECODERS["llm_tiny"]),
}
VISION_LANGUAGES: Mapping[str, VisionLanguageConfig] = {
    name: VisionLanguageConfig(backbone) for name, backbone in BACKBONES.items()
}
VLAS: Mapping[str, VLAConfig] = {
    "vla_1_7b": VLAConfig(),
    "vla_tiny": VLAConfig(BACKBONES["vlm_tiny"], tap_width=128, head=FLOWS["flow_tiny"], draws=4),
}
PRESETS: Mapping[type, Mapping[str, object]] = {
    ViTConfig: VITS,
    DecoderConfig: DECODERS,
    LLMConfig: LLMS,
    FlowConfig: FLOWS,
    BackboneConfig: BACKBONES,
    VisionLanguageConfig: VISION_LANGUAGES,
    VLAConfig: VLAS,
}
