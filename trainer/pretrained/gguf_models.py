"""Models of GGUF files as our decoder: metadata to our config, and what converters did to weights undone.

llama.cpp turns neighbouring numbers by rotary positions, Llama as published the halves of a head. So the
converter permutes the rows of queries and keys of the architecture `llama`; Qwen's stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from robot_foundry.runtime.errors import FoundryError, nearest
from robot_foundry.trainer.models.decoder import DecoderConfig
from robot_foundry.trainer.models.layers.attention import RopeScaling, rope_frequencies
from robot_foundry.trainer.models.llm import LLMConfig
from robot_foundry.trainer.pretrained.tensor_files import Gguf, Shape
from robot_foundry.trainer.pretrained.values import Values

ARCHITECTURES = ("llama", "qwen2", "qwen3")
ROPE_FACTORS = "rope_freqs.weight"  # by which rotations of Llama 3.1 and later are slower


def config_of(file: Gguf) -> LLMConfig:
    """Our config of a GGUF. FoundryError if our decoder is no such model."""
    values = file.metadata
    name = values.text("general.architecture")
    if name not in ARCHITECTURES:
        raise FoundryError(
            f"{values.where}: the architecture {name!r} is none of {', '.join(ARCHITECTURES)}"
            f"{nearest(name, ARCHITECTURES)}"
        )
    of = Values(values.where, {key.removeprefix(f"{name}."): v for key, v in values.stated.items()})
    width, heads = of.integer("embedding_length"), of.integer("attention.head_count")
    head_width = of.integer("attention.key_length", width // heads)
    theta = _shortest(of.number("rope.freq_base", 10000.0))
    _check(of, head_width)
    decoder = DecoderConfig(
        width=width,
        depth=of.integer("block_count"),
        heads=heads,
        kv_heads=of.integer("attention.head_count_kv", heads),
        mlp="swiglu",
        mlp_hidden=of.integer("feed_forward_length"),
        vocabulary=_shape(file, "token_embd.weight")[0],
        rope_theta=theta,
        rope_scaling=_scaling(file, head_width, theta),
        norm_eps=_shortest(of.number("attention.layer_norm_rms_epsilon")),
        head_width=None if head_width * heads == width else head_width,
        qkv_bias="blk.0.attn_q.bias" in file.shapes,
        qk_norm="blk.0.attn_q_norm.weight" in file.shapes,
    )
    return LLMConfig(decoder, tied="output.weight" not in file.shapes)


def heads_of(file: Gguf, config: DecoderConfig) -> Mapping[str, int]:
    """In how many heads the rows of tensors are to be put back in order, by the ends of their names."""
    if file.metadata.text("general.architecture") != "llama":
        return {}
    of = {".attn_q": config.heads, ".attn_k": config.kv_heads}
    return {f"{end}.{kind}": heads for end, heads in of.items() for kind in ("weight", "bias")}


def in_halves(tensor: Tensor, heads: int) -> Tensor:
    """The rows of each head, of which neighbours turn together, so that its halves do: [heads · E, …]."""
    rows, *rest = tensor.shape
    return tensor.reshape(heads, rows // heads // 2, 2, *rest).transpose(1, 2).reshape(tensor.shape)


def _check(of: Values, head_width: int) -> None:
    problems = []
    if of.integer("attention.value_length", head_width) != head_width:
        problems.append("attention.value_length is not attention.key_length")
    if of.integer("rope.dimension_count", head_width) != head_width:
        problems.append(f"rope.dimension_count is not the width of a head, {head_width}")
    if of.text("rope.scaling.type", "none") != "none":
        problems.append(f"rope.scaling.type is {of.text('rope.scaling.type')}, not none")
    if problems:
        raise FoundryError(f"{of.where} describes what our decoder is not: {'; '.join(problems)}")


def _scaling(file: Gguf, head_width: int, theta: float) -> RopeScaling:
    """What slows rotations as much as the file's factors say: Llama's three other numbers never changed."""
    if ROPE_FACTORS not in file.shapes:
        return RopeScaling()
    factor = file.tensor(ROPE_FACTORS)
    scaling = RopeScaling(factor=float(factor.max()))
    plain, slowed = (rope_frequencies(head_width, theta, by) for by in (None, scaling))
    if factor.shape != plain.shape or not torch.allclose(plain / factor, slowed, rtol=1e-4, atol=0):
        raise FoundryError(
            f"{file.files[0]}: {ROPE_FACTORS} slows rotary positions as no Llama does",
            hint="use the model's safetensors, whose config.json says how",
        )
    return scaling


def _shape(file: Gguf, name: str) -> Shape:
    if name not in file.shapes:
        raise FoundryError(f"{file.files[0]} has no {name}")
    return file.shapes[name]


def _shortest(value: float) -> float:
    """The shortest number that is the same in float32, as which it was stored: 1e-5 for 9.99…e-6."""
    return float(str(np.float32(value)))
