"""Tiny backbones that `transformers` makes, saved with tokenizers as folders of others are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

SIDE = 16  # pixels of a picture
VOCABULARY, WIDTH, DEPTH = 272, 32, 3
TEXT = {
    "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": DEPTH,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 256,
}  # fmt: skip
VISION = {"hidden_size": 24, "intermediate_size": 32, "num_attention_heads": 2, "patch_size": 4}
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen3_vl": {
        "model_type": "qwen3_vl", "image_token_id": 261, "video_token_id": 262,
        "vision_start_token_id": 259, "vision_end_token_id": 260, "tie_word_embeddings": True,
        "text_config": {
            **TEXT, "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
        },
        "vision_config": {
            "hidden_size": 24, "intermediate_size": 32, "num_heads": 2, "patch_size": 4, "depth": 2,
            "out_hidden_size": WIDTH, "num_position_embeddings": 9, "deepstack_visual_indexes": [0],
        },
    },
    "paligemma": {
        "model_type": "paligemma", "image_token_id": 259, "projection_dim": WIDTH, "hidden_size": WIDTH,
        "text_config": {**TEXT, "model_type": "gemma"},
        "vision_config": {
            **VISION, "model_type": "siglip_vision_model", "num_hidden_layers": 2, "image_size": SIDE,
            "projection_dim": WIDTH, "vision_use_head": False,
        },
    },
    "smolvlm": {
        "model_type": "smolvlm", "image_token_id": 262, "scale_factor": 2, "pad_token_id": 256,
        "tie_word_embeddings": False, "text_config": {**TEXT, "model_type": "llama"},
        "vision_config": {**VISION, "num_hidden_layers": 2, "image_size": 32},
    },
    # No decoder of ours: queries and keys have norms behind which nothing else comes, and windows.
    "gemma3_text": {
        **TEXT, "model_type": "gemma3_text", "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
}  # fmt: skip
SPECIALS: dict[str, tuple[str, ...]] = {
    "qwen3_vl": (
        "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
        "<|image_pad|>", "<|video_pad|>",
    ),
    "paligemma": ("<pad>", "<eos>", "<bos>", "<image>"),
    "smolvlm": (
        "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<end_of_utterance>", "<fake_token_around_image>",
        "<global-img>", "<image>",
    ),
    "gemma3_text": ("<pad>", "<eos>", "<bos>"),
}  # fmt: skip
ROLES: dict[str, dict[str, str]] = {
    "qwen3_vl": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    "paligemma": {"eos_token": "<eos>", "pad_token": "<pad>", "bos_token": "<bos>"},
    "smolvlm": {
        "eos_token": "<end_of_utterance>", "pad_token": "<|endoftext|>", "bos_token": "<|im_start|>",
    },
    "gemma3_text": {"eos_token": "<eos>", "pad_token": "<pad>", "bos_token": "<bos>"},
}  # fmt: skip


def make_model(family: str, seed: int = 0) -> Any:
    """A model of a family, no parameter of which is as it would begin."""
    values = CONFIGS[family]
    config = transformers.CONFIG_MAPPING[values["model_type"]].from_dict(json.loads(json.dumps(values)))
    torch.manual_seed(seed)
    auto = transformers.AutoModelForImageTextToText
    model = (auto if "vision_config" in values else transformers.AutoModelForCausalLM).from_config(config)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data.add_(0.3 * torch.randn_like(parameter))
        else:
            parameter.data.mul_(6)
    return model.eval()


def save_folder(family: str, folder: Path, seed: int = 0, **how: Any) -> Path:
    """A folder of config.json, safetensors, tokenizer and what an image processor says."""
    make_model(family, seed).save_pretrained(folder, **how)
    tokenizer(family).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(ROLES[family]))
    if "vision_config" in CONFIGS[family]:
        stated = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], "rescale_factor": 1 / 255}
        (folder / "preprocessor_config.json").write_text(json.dumps(stated))
    return folder


def tokenizer(family: str) -> Tokenizer:
    """Bytes, and the special tokens of the family behind them."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIALS[family]])
    return made


def theirs(family: str) -> Any:
    """The tokenizer as `transformers` has it."""
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer(family), **ROLES[family])
