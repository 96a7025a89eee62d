"""Models of `transformers` as GGUF files, as llama.cpp's converter writes them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quants
from numpy.typing import NDArray


def in_neighbours(weight: NDArray[Any], heads: int) -> NDArray[Any]:
    """The order of rows in GGUFs of Llama, as LlamaModel.permute of llama.cpp's converter has it."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def rope_factors(rope: Mapping[str, float], width: int) -> NDArray[np.float32]:
    """`rope_freqs` as LlamaModel.generate_extra_tensors of llama.cpp's converter has them."""
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    length, factor = rope["original_max_position_embeddings"], rope["factor"]
    factors = []
    for exponent in range(0, width, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (exponent / width)
        if wavelength < length / high:
            factors.append(1.0)
        elif wavelength > length / low:
            factors.append(factor)
        else:
            smooth = (length / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, np.float32)


GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "model.layers": "blk", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def write_gguf(
    model: Any,
    path: Path,
    quantise: bool = False,
    without: Collection[str] = (),
    arch: str | None = None,
    **fields: str,
) -> Path:
    """A model of transformers as llama.cpp's converter writes it, as one of `arch` where that is given."""
    config = model.config
    arch = arch or config.model_type
    writer = GGUFWriter(path, arch)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(width)
    writer.add_value_length(width)
    for key, value in fields.items():
        writer.add_string(f"{arch}.{key}", value)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        weight = tensor.numpy()
        if arch == "llama" and "q_proj" in name:
            weight = in_neighbours(weight, config.num_attention_heads)
        if arch == "llama" and "k_proj" in name:
            weight = in_neighbours(weight, config.num_key_value_heads)
        for theirs, short in GGUF_NAMES.items():
            name = name.replace(theirs, short)
        if name in without:
            continue
        if quantise and weight.ndim == 2 and weight.shape[1] % 32 == 0:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quants.quantize(weight, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, weight)
    if config.rope_parameters["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", rope_factors(config.rope_parameters, width))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
