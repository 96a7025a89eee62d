"""How parameters of our decoder are called elsewhere: one line a kind of parameter, `{}` is the layer."""

from __future__ import annotations

import re
from collections.abc import Mapping

TRANSFORMERS: Mapping[str, str] = {
    "decoder.embedding.weight": "model.embed_tokens.weight",
    "decoder.blocks.{}.attention_norm.weight": "model.layers.{}.input_layernorm.weight",
    "decoder.blocks.{}.attention.query.weight": "model.layers.{}.self_attn.q_proj.weight",
    "decoder.blocks.{}.attention.query.bias": "model.layers.{}.self_attn.q_proj.bias",
    "decoder.blocks.{}.attention.query_norm.weight": "model.layers.{}.self_attn.q_norm.weight",
    "decoder.blocks.{}.attention.key.weight": "model.layers.{}.self_attn.k_proj.weight",
    "decoder.blocks.{}.attention.key.bias": "model.layers.{}.self_attn.k_proj.bias",
    "decoder.blocks.{}.attention.key_norm.weight": "model.layers.{}.self_attn.k_norm.weight",
    "decoder.blocks.{}.attention.value.weight": "model.layers.{}.self_attn.v_proj.weight",
    "decoder.blocks.{}.attention.value.bias": "model.layers.{}.self_attn.v_proj.bias",
    "decoder.blocks.{}.attention.out.weight": "model.layers.{}.self_attn.o_proj.weight",
    "decoder.blocks.{}.mlp_norm.weight": "model.layers.{}.post_attention_layernorm.weight",
    "decoder.blocks.{}.mlp.gate.weight": "model.layers.{}.mlp.gate_proj.weight",
    "decoder.blocks.{}.mlp.up.weight": "model.layers.{}.mlp.up_proj.weight",
    "decoder.blocks.{}.mlp.down.weight": "model.layers.{}.mlp.down_proj.weight",
    "decoder.norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
GGUF: Mapping[str, str] = {
    "decoder.embedding.weight": "token_embd.weight",
    "decoder.blocks.{}.attention_norm.weight": "blk.{}.attn_norm.weight",
    "decoder.blocks.{}.attention.query.weight": "blk.{}.attn_q.weight",
    "decoder.blocks.{}.attention.query.bias": "blk.{}.attn_q.bias",
    "decoder.blocks.{}.attention.query_norm.weight": "blk.{}.attn_q_norm.weight",
    "decoder.blocks.{}.attention.key.weight": "blk.{}.attn_k.weight",
    "decoder.blocks.{}.attention.key.bias": "blk.{}.attn_k.bias",
    "decoder.blocks.{}.attention.key_norm.weight": "blk.{}.attn_k_norm.weight",
    "decoder.blocks.{}.attention.value.weight": "blk.{}.attn_v.weight",
    "decoder.blocks.{}.attention.value.bias": "blk.{}.attn_v.bias",
    "decoder.blocks.{}.attention.out.weight": "blk.{}.attn_output.weight",
    "decoder.blocks.{}.mlp_norm.weight": "blk.{}.ffn_norm.weight",
    "decoder.blocks.{}.mlp.gate.weight": "blk.{}.ffn_gate.weight",
    "decoder.blocks.{}.mlp.up.weight": "blk.{}.ffn_up.weight",
    "decoder.blocks.{}.mlp.down.weight": "blk.{}.ffn_down.weight",
    "decoder.norm.weight": "output_norm.weight",
    "output.weight": "output.weight",
}
_LAYER = re.compile(r"(?<=\.)\d+(?=\.)")


def name_in(names: Mapping[str, str], ours: str) -> str:
    """What our parameter is called there. KeyError if these names know none of its kind."""
    kind, layer = kind_of(ours)
    return names[kind].format(layer)


def kind_of(name: str) -> tuple[str, str]:
    """A name of a tensor with `{}` for its layer, and the layer, "" where it is of none."""
    found = _LAYER.search(name)
    return (_LAYER.sub("{}", name, count=1), found[0]) if found else (name, "")
