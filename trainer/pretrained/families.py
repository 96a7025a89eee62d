"""Families of models that our decoder is, as `config.json` of `transformers` describes them.

Releases of `transformers` before 5 write `rope_theta` and `rope_scaling`, later ones `rope_parameters`; both
are read. What a family could have and our decoder has not is refused by its key.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from robot_foundry.runtime.errors import FoundryError, FoundryWarning, nearest
from robot_foundry.trainer.models.decoder import DecoderConfig
from robot_foundry.trainer.models.layers.attention import RopeScaling
from robot_foundry.trainer.models.llm import LLMConfig
from robot_foundry.trainer.pretrained.values import Values

CONFIG = "config.json"  # of a folder of `transformers`


@dataclass(frozen=True)
class Family:
    """A `model_type`, its class, and what sets it apart."""

    model_type: str
    architecture: str
    gated: bool = True  # a gated MLP; without, one of two layers
    qkv_bias: bool = False
    qk_norm: bool = False
    head_width: int | None = None  # where the config does not say it; None: width / heads
    says_kv_heads: bool = False  # a config without `num_key_value_heads` means no certain number


FAMILIES = (
    Family("llama", "LlamaForCausalLM"),
    Family("qwen2", "Qwen2ForCausalLM", qkv_bias=True, says_kv_heads=True),
    Family("qwen3", "Qwen3ForCausalLM", qk_norm=True, head_width=128, says_kv_heads=True),
    Family("arcee", "ArceeForCausalLM", gated=False),
)
ACTIVATIONS = {  # of our MLPs
    "swiglu": "silu",
    "gelu": "gelu",
    "relu": "relu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "quick_gelu": "quick_gelu",
}
# What changes no number that a model computes, or is read here.
_KNOWN = {
    "_name_or_path", "architectures", "attention_bias", "attention_dropout", "auto_map", "bos_token_id",
    "chunk_size_feed_forward", "dtype", "eos_token_id", "head_dim", "hidden_act", "hidden_size", "id2label",
    "initializer_range", "intermediate_size", "is_encoder_decoder", "is_llama_config", "label2id",
    "layer_types", "max_position_embeddings", "max_window_layers", "mlp_bias", "model_type",
    "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "output_attentions",
    "output_hidden_states", "pad_token_id", "pretraining_tp", "problem_type", "quantization_config",
    "return_dict", "rms_norm_eps", "rope_interleaved", "rope_parameters", "rope_scaling", "rope_theta",
    "sliding_window", "tie_word_embeddings", "torch_dtype", "transformers.js_config", "transformers_version",
    "use_cache", "use_sliding_window", "vocab_size",
}  # fmt: skip


def config_of(values: Values) -> LLMConfig:
    """Our config of a `config.json`. FoundryError lists all that our decoder cannot be; unknown keys warn."""
    family = _family_named(values)
    if problems := [*_unlike_ours(values, family), *_odd_rope(values)]:
        listed = "".join(f"\n  {line}" for line in problems)
        raise FoundryError(
            f"{values.where} describes what our decoder is not:{listed}",
            hint="start from a model without these",
        )
    if unknown := sorted(values.stated.keys() - _KNOWN):
        warnings.warn(f"{values.where}: not heeded: {', '.join(unknown)}", FoundryWarning, stacklevel=2)
    heads = values.integer("num_attention_heads")
    activation = values.text("hidden_act", "silu" if family.gated else None)
    width = values.integer("hidden_size")
    head_width = values.integer("head_dim", family.head_width or max(1, width // heads))
    decoder = DecoderConfig(
        width=width,
        depth=values.integer("num_hidden_layers"),
        heads=heads,
        kv_heads=values.integer("num_key_value_heads", None if family.says_kv_heads else heads),
        mlp=next(ours for ours, theirs in ACTIVATIONS.items() if theirs == activation),
        mlp_hidden=values.integer("intermediate_size"),
        vocabulary=values.integer("vocab_size"),
        rope_theta=_rope(values).number("rope_theta", values.number("rope_theta", 10000.0)),
        rope_scaling=_scaling(_rope(values)),
        norm_eps=values.number("rms_norm_eps", 1e-6),
        head_width=None if head_width * heads == width else head_width,
        qkv_bias=family.qkv_bias,
        qk_norm=family.qk_norm,
    )
    return LLMConfig(decoder, tied=values.flag("tie_word_embeddings", False))


def family_of(config: LLMConfig) -> Family:
    """The family that a model of ours is of. FoundryError says why it is of none."""
    decoder = config.decoder
    if decoder.qk_norm and decoder.qkv_bias:
        why = "its queries and keys have both biases and norms"
    elif decoder.mlp != "swiglu" and (decoder.qk_norm or decoder.qkv_bias):
        why = f"its MLP is {decoder.mlp}, and its queries and keys have biases or norms"
    else:
        return next(
            family
            for family in FAMILIES
            if (family.gated, family.qkv_bias, family.qk_norm)
            == (decoder.mlp == "swiglu", decoder.qkv_bias, decoder.qk_norm)
        )
    names = ", ".join(family.model_type for family in FAMILIES)
    raise FoundryError(
        f"no architecture of transformers that is known here ({names}) is this model: {why}",
        hint="--format safetensors writes the weights of any model",
    )


def values_of(config: LLMConfig, max_length: int) -> dict[str, Any]:
    """What `config.json` of `transformers` says of a model of ours, trained on up to `max_length` tokens.

    FoundryError if it is of no family.
    """
    family, decoder = family_of(config), config.decoder
    values: dict[str, Any] = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "hidden_size": decoder.width,
        "num_hidden_layers": decoder.depth,
        "num_attention_heads": decoder.heads,
        "num_key_value_heads": decoder.kv_heads,
        "head_dim": decoder.width_of_head,
        "intermediate_size": decoder.mlp_hidden,
        "hidden_act": ACTIVATIONS[decoder.mlp],
        "vocab_size": decoder.vocabulary,
        "max_position_embeddings": max_length,
        "rms_norm_eps": decoder.norm_eps,
        "rope_theta": decoder.rope_theta,
        "tie_word_embeddings": config.tied,
        "attention_dropout": 0.0,
        "torch_dtype": "float32",
    }
    if not decoder.qkv_bias:
        values["attention_bias"] = False
    if family.model_type in ("llama", "arcee"):
        values["mlp_bias"] = False
    scaling = decoder.rope_scaling
    if scaling.factor != 1:
        values["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_length,
        }
    return values


def _family_named(values: Values) -> Family:
    name = values.text("model_type")
    for family in FAMILIES:
        if family.model_type == name:
            return family
    known = [family.model_type for family in FAMILIES]
    raise FoundryError(
        f"{values.where}: model_type {name!r} is none of {', '.join(known)}{nearest(name, known)}",
        hint="start from a model of one of these families: Llama, SmolLM and SmolLM2, Qwen2 and 2.5, Qwen3",
    )


def _unlike_ours(values: Values, family: Family) -> Iterator[str]:
    """One line for each thing that a model of the family has and our decoder has not."""
    if values.flag("attention_bias", False):
        yield "attention_bias: our decoder has no bias behind its attention"
    if values.flag("mlp_bias", False):
        yield "mlp_bias: our MLPs have no biases"
    if values.flag("rope_interleaved", False):
        yield "rope_interleaved: our rotary positions turn halves, not neighbours"
    if values.flag("use_sliding_window", False) or any(
        kind != "full_attention" for kind in _texts(values, "layer_types")
    ):
        yield "layer_types, use_sliding_window: our decoder attends to all that came before"
    activation = values.text("hidden_act", "silu" if family.gated else None)
    fitting = [name for ours, name in ACTIVATIONS.items() if (ours == "swiglu") == family.gated]
    if activation not in fitting:
        yield f"hidden_act: {activation} is none of {', '.join(fitting)}"
    if values.stated.get("quantization_config") is not None:
        yield "quantization_config: its weights are quantised; use those before, or a GGUF"


def _odd_rope(values: Values) -> Iterator[str]:
    rope = _rope(values)
    kind = rope.text("rope_type", rope.text("type", "default"))
    if kind not in ("default", "llama3"):
        yield f"rope_type: {kind} is none of default, llama3"
    if rope.number("partial_rotary_factor", 1.0) != 1:
        yield "partial_rotary_factor: our rotary positions turn all of a head"


def _rope(values: Values) -> Values:
    key = "rope_parameters" if values.stated.get("rope_parameters") is not None else "rope_scaling"
    return values.section(key)


def _scaling(rope: Values) -> RopeScaling:
    if rope.text("rope_type", rope.text("type", "default")) != "llama3":
        return RopeScaling()
    return RopeScaling(
        rope.number("factor"),
        rope.number("low_freq_factor"),
        rope.number("high_freq_factor"),
        rope.integer("original_max_position_embeddings"),
    )


def _texts(values: Values, key: str) -> list[str]:
    texts = values.stated.get(key)
    if texts is None:
        return []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise values.wrong(key, "a list of texts")
    return texts
