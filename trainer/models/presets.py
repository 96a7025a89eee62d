"""Named sizes. A recipe names one (`head: flow_325m`) or starts from it (`{preset: flow_325m, depth: 9}`)."""

from __future__ import annotations

from collections.abc import Mapping

from robot_foundry.trainer.models.decoder import DecoderConfig
from robot_foundry.trainer.models.flow import FlowConfig
from robot_foundry.trainer.models.llm import LLMConfig
from robot_foundry.trainer.models.tokenizer import VOCABULARY
from robot_foundry.trainer.models.vision_language import VisionLanguageConfig
from robot_foundry.trainer.models.vit import ViTConfig
from robot_foundry.trainer.models.vla import VLAConfig
from robot_foundry.trainer.models.vlm import VLMConfig

VITS: Mapping[str, ViTConfig] = {
    "vit_b16": ViTConfig(),
    "vit_l16": ViTConfig(width=1024, depth=24, heads=16, mlp_hidden=4096),
    "vit_tiny": ViTConfig(
        patch=8, width=96, depth=2, heads=4, mlp="relu", mlp_hidden=384, stem="conv", position="sincos"
    ),
}
DECODERS: Mapping[str, DecoderConfig] = {
    "llm_1_2b": DecoderConfig(),
    "llm_100m": DecoderConfig(width=768, depth=12, heads=12, kv_heads=12, mlp_hidden=2048),
    "llm_tiny": DecoderConfig(
        width=128, depth=4, heads=4, kv_heads=4, mlp="relu", mlp_hidden=512, vocabulary=VOCABULARY
    ),
}
LLMS: Mapping[str, LLMConfig] = {name: LLMConfig(decoder) for name, decoder in DECODERS.items()}
FLOWS: Mapping[str, FlowConfig] = {
    "flow_325m": FlowConfig(),
    "flow_100m": FlowConfig(width=768, depth=12, heads=12, mlp_hidden=2048),
    "flow_tiny": FlowConfig(width=128, depth=3, heads=4, mlp="relu", mlp_hidden=512),
}
VLMS: Mapping[str, VLMConfig] = {
    "vlm_1_3b": VLMConfig(),
    "vlm_tiny": VLMConfig(VITS["vit_tiny"], decoder=DECODERS["llm_tiny"]),
}
VISION_LANGUAGES: Mapping[str, VisionLanguageConfig] = {
    name: VisionLanguageConfig(backbone) for name, backbone in VLMS.items()
}
VLAS: Mapping[str, VLAConfig] = {
    "vla_1_7b": VLAConfig(),
    "vla_tiny": VLAConfig(VLMS["vlm_tiny"], tap_width=128, head=FLOWS["flow_tiny"], draws=4),
}
PRESETS: Mapping[type, Mapping[str, object]] = {
    ViTConfig: VITS,
    DecoderConfig: DECODERS,
    LLMConfig: LLMS,
    FlowConfig: FLOWS,
    VLMConfig: VLMS,
    VisionLanguageConfig: VISION_LANGUAGES,
    VLAConfig: VLAS,
}
