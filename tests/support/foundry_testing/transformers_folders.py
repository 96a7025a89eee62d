"""Tiny language models that `transformers` makes, with random weights, and their logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from robot_foundry.trainer.models.layers.initial import allocated
from robot_foundry.trainer.models.llm import LLM, TextInputs
from robot_foundry.trainer.pretrained.reading import Pretrained

VOCABULARY = 96
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
# Each with what sets it apart from the others.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "smollm2": {
        "model_type": "llama", "tie_word_embeddings": True, "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    },
    "llama3": {"model_type": "llama", "head_dim": 16, "rope_parameters": LLAMA3_ROPE},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "head_dim": 16},
    "arcee": {"model_type": "arcee", "hidden_act": "relu"},
}  # fmt: skip


def make_model(family: str, seed: int = 0, **stated: Any) -> Any:
    """A model of one of FAMILIES, no parameter of which is as it would begin."""
    values = {**SIZES, **FAMILIES[family], **stated}
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    )
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter.data, 1.0, 0.3)
        else:
            parameter.data.mul_(3)
    return model.eval()


def save_folder(model: Any, folder: Path, **how: Any) -> Path:
    model.save_pretrained(folder, **how)
    return folder


def loaded(pretrained: Pretrained) -> LLM:
    """Our model with the weights of another's."""
    model = allocated(lambda: LLM(pretrained.config), "cpu")
    pretrained.load(model)
    return model.eval()


def some_ids(vocabulary: int = VOCABULARY, length: int = 30) -> Tensor:
    return torch.randint(0, vocabulary, (2, length), generator=torch.Generator().manual_seed(7))


@torch.no_grad()
def our_logits(model: LLM, ids: Tensor) -> Tensor:
    position = torch.arange(ids.shape[1]).expand(len(ids), -1)
    return model.logits(TextInputs(ids, ids, torch.zeros_like(ids), position))


@torch.no_grad()
def their_logits(model: Any, ids: Tensor) -> Tensor:
    logits: Tensor = model(ids).logits
    return logits
