"""The language model: packed rows leave no trace in each other, and its numbers are those of transformers."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from robot_foundry.trainer.models.decoder import DecoderConfig
from robot_foundry.trainer.models.layers.attention import CausalBias, RopeScaling, attend, attention_bias
from robot_foundry.trainer.models.layers.cross_entropy import CPU_CHUNK, NOTHING, cross_entropy_sum
from robot_foundry.trainer.models.layers.initial import initialise
from robot_foundry.trainer.models.llm import LLM, LLMConfig, TextInputs
from robot_foundry.trainer.models.sizes.presets import DECODERS, LLMS
from robot_foundry.trainer.models.sizes.sizes import llm_problems

SMALL = DecoderConfig(width=32, depth=2, heads=4, kv_heads=2, mlp_hidden=48, vocabulary=97)


def made(config: LLMConfig | None = None, seed: int = 0) -> LLM:
    return initialise(LLM(config or LLMConfig(SMALL)), seed)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ids(*shape: int, below: int = 97, seed: int = 0) -> Tensor:
    return torch.randint(0, below, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.int32)


def packed(rows: list[list[int]], length: int) -> TextInputs:
    """Rows of segments of these lengths, zeros behind them."""
    segment = torch.full((len(rows), length), -1, dtype=torch.int32)
    position = torch.zeros_like(segment)
    for row, sizes in enumerate(rows):
        start = 0
        for number, size in enumerate(sizes):
            segment[row, start : start + size] = number
            position[row, start : start + size] = torch.arange(size)
            start += size
    shape = segment.shape
    return TextInputs(ids(*shape, seed=1), ids(*shape, seed=2), segment, position)


def loss_and_gradients(model: LLM, inputs: TextInputs) -> list[Tensor]:
    model.zero_grad()
    loss, count = model(inputs)["text"]
    (loss / count).backward()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


# --- sizes and beginnings ---------------------------------------------------------------------------------


def count(model: LLM) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_llm_1_2b_has_its_size() -> None:
    with torch.device("meta"):
        tied, untied = (LLM(replace(LLMS["llm_1_2b"], tied=tied)) for tied in (True, False))
    embedding = DECODERS["llm_1_2b"].vocabulary * 2048
    assert count(tied) - embedding == 24 * (4 * 2048**2 + 3 * 2048 * 5632 + 2 * 2048) + 2048
    assert abs((count(tied) - embedding) / 1.23e9 - 1) < 0.02
    assert count(untied) == count(tied) + embedding


@pytest.mark.parametrize("tied", [True, False])
def test_the_first_loss_is_that_of_ids_at_random(tied: bool) -> None:
    config = replace(LLMS["llm_tiny"], tied=tied)
    vocabulary = config.decoder.vocabulary
    inputs = packed([[50, 14]] * 8, 64)
    loss, targets = made(config)(replace(inputs, target_BS=ids(8, 64, below=vocabulary)))["text"]
    assert int(targets) == 8 * 64
    assert abs(loss.item() / 512 - math.log(vocabulary)) < 0.3


def test_every_problem_of_a_size_is_told() -> None:
    wrong = replace(SMALL, heads=3, head_width=5, norm_eps=0.0, rope_scaling=RopeScaling(0.5, 4.0, 1.0))
    assert list(llm_problems(LLMConfig(wrong))) == [
        "model.decoder.heads: 3 is no multiple of kv_heads (2)",
        "model.decoder: the width of a head: 5 is no multiple of rotary positions (2)",
        "model.decoder.norm_eps: must be positive and finite, not 0.0",
        "model.decoder.rope_scaling.factor: must be at least 1 and finite, not 0.5",
        "model.decoder.rope_scaling: needs 0 < low_freq_factor < high_freq_factor, both finite, "
        "not 4.0 and 1.0",
    ]
    assert not list(llm_problems(LLMConfig(replace(SMALL, width=30, head_width=8))))


# --- packed rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 127, 128, 129, 300])
def test_attention_backwards_is_the_fused_one_with_its_gradients(length: int) -> None:
    inputs = packed([[length // 3, length - length // 3], [length]], length)
    together = inputs.segment_BS[:, :, None] == inputs.segment_BS[:, None]
    allowed = (together & torch.ones(length, length, dtype=torch.bool).tril())[:, None]
    found = []
    for fused in (False, True):
        q, k, v = (random(2, 3, length, 8, seed=seed).requires_grad_() for seed in range(3))
        if fused:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        else:
            out = attend(q, k, v, CausalBias(attention_bias(allowed)))
        out.backward(random(2, 3, length, 8, seed=3))
        found.append((out, q.grad, k.grad, v.grad))
    for ours, theirs in zip(*found, strict=True):
        assert ours is not None and theirs is not None
        assert torch.allclose(ours, theirs, atol=1e-5)


@given(
    rows=st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=5), min_size=1, max_size=3),
    padding=st.integers(0, 9),
    tied=st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_a_packed_loss_is_the_sum_of_those_of_its_documents(
    rows: list[list[int]], padding: int, tied: bool
) -> None:
    model = made(LLMConfig(SMALL, tied))
    inputs = packed(rows, max(map(sum, rows)) + padding)
    with torch.no_grad():
        loss, targets = model(inputs)["text"]
        alone = torch.zeros(())
        for row, sizes in enumerate(rows):
            for number, size in enumerate(sizes):
                here = inputs.segment_BS[row] == number
                token, target = (value[row, here][None] for value in (inputs.token_BS, inputs.target_BS))
                nothing = torch.zeros_like(token)
                part, _ = model(TextInputs(token, target, nothing, torch.arange(size)[None]))["text"]
                alone = alone + part
    assert int(targets) == sum(map(sum, rows))
    assert loss.item() == pytest.approx(alone.item(), rel=1e-6)


def test_documents_of_a_row_change_no_bit_of_each_other() -> None:
    model, inputs = made(), packed([[40, 100, 30]], 170)
    other = inputs.token_BS.clone()
    other[0, 60] = (other[0, 60] + 1) % 97
    with torch.no_grad():
        before, after = model.logits(inputs)[0], model.logits(replace(inputs, token_BS=other))[0]
    changed = (before != after).any(dim=-1)
    assert not changed[:60].any() and changed[60:140].all() and not changed[140:].any()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_garbage_where_nothing_is_changes_no_bit(precision: torch.dtype) -> None:
    model, inputs = made(), packed([[30, 20], [7]], 60)
    nothing = inputs.segment_BS < 0
    garbage = replace(
        inputs,
        token_BS=inputs.token_BS.masked_fill(nothing, 2**31 - 1),
        target_BS=inputs.target_BS.masked_fill(nothing, -77),
        position_BS=inputs.position_BS.masked_fill(nothing, -(2**30)),
    )
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        clean, dirty = (loss_and_gradients(model, each) for each in (inputs, garbage))
    assert len(clean) == 1 + len(list(model.parameters()))
    assert all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(clean, dirty, strict=True))


def test_a_row_of_nothing_has_no_loss_and_moves_nothing() -> None:
    """A rank that has no rows of a batch gets one."""
    model, inputs = made(), packed([[]], 8)
    loss, targets = model(inputs)["text"]
    loss.backward()
    assert (loss.item(), int(targets)) == (0.0, 0)
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


# --- the loss ---------------------------------------------------------------------------------------------


def test_cross_entropy_is_that_of_torch_with_its_gradients() -> None:
    number = 2 * CPU_CHUNK + 37
    target = ids(number, below=50)
    target[::7] = NOTHING
    found = []
    for ours in (True, False):
        hidden, weight = random(number, 16).requires_grad_(), random(50, 16, seed=1).requires_grad_()
        if ours:
            loss = cross_entropy_sum(hidden, weight, target)
        else:
            logits = F.linear(hidden, weight)
            loss = F.cross_entropy(logits, target.long(), ignore_index=NOTHING, reduction="sum")
        (3 * loss).backward()
        found.append((loss.detach() / number, hidden.grad, weight.grad))
    for here, there in zip(*found, strict=True):
        assert here is not None and there is not None
        assert torch.allclose(here, there, rtol=1e-5, atol=1e-5)


def test_cross_entropy_needs_neither_small_logits_nor_gradients() -> None:
    hidden, target = torch.tensor([[1e4], [-1e4]]), torch.tensor([0, 1])
    with torch.no_grad():
        loss = cross_entropy_sum(hidden, torch.tensor([[1.0], [-1.0]], requires_grad=True), target)
    assert loss.item() == 0.0
    assert cross_entropy_sum(hidden, torch.tensor([[1.0], [-1.0]]), 1 - target).item() == 4e4


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_cross_entropy_makes_no_gradient_of_what_is_frozen(frozen: str) -> None:
    number, vocabulary, width = 40, 500, 16
    target = ids(number, below=vocabulary)
    found = []
    for moved in ({"hidden", "weight"}, {"hidden", "weight"} - {frozen}):
        hidden = random(number, width).requires_grad_("hidden" in moved)
        weight = random(vocabulary, width, seed=1).requires_grad_("weight" in moved)
        with Shapes() as shapes:
            cross_entropy_sum(hidden, weight, target).backward()
        gradient = {"hidden": hidden.grad, "weight": weight.grad}
        of_frozen = hidden if frozen == "hidden" else weight
        found.append((gradient, shapes.made[tuple(of_frozen.shape)]))
    (both, made_both), (alone, made_alone) = found
    assert alone.pop(frozen) is None and made_alone < made_both
    [(name, left)] = alone.items()
    there = both[name]
    assert left is not None and there is not None and torch.equal(left, there)


class Shapes(TorchDispatchMode):
    """How many tensors of each shape were made."""

    def __init__(self) -> None:
        super().__init__()
        self.made: Counter[tuple[int, ...]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.made[tuple(out.shape)] += 1
        return out


def test_no_tensor_has_a_logit_of_each_token_and_id() -> None:
    vocabulary = 5000
    model = made(LLMConfig(replace(SMALL, vocabulary=vocabulary)))
    with Shapes() as shapes:
        loss_and_gradients(model, packed([[256]] * 4, 256))
    assert CPU_CHUNK * vocabulary <= max(map(math.prod, shapes.made)) < 4 * 256 * vocabulary


# --- transformers -----------------------------------------------------------------------------------------

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
}
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILIES: dict[str, tuple[type[PreTrainedModel], PretrainedConfig, LLMConfig]] = {
    "llama": (
        LlamaForCausalLM,
        LlamaConfig(**SIZES, rms_norm_eps=1e-2, tie_word_embeddings=False),
        LLMConfig(replace(SMALL, norm_eps=1e-2), tied=False),
    ),
    "llama, tied, all heads of their own": (
        LlamaForCausalLM,
        LlamaConfig(**(SIZES | {"num_key_value_heads": 4}), rms_norm_eps=1e-6, tie_word_embeddings=True),
        LLMConfig(replace(SMALL, kv_heads=4)),
    ),
    "llama 3": (
        LlamaForCausalLM,
        LlamaConfig(**SIZES, head_dim=16, rope_parameters=LLAMA_3, tie_word_embeddings=True),
        LLMConfig(
            replace(SMALL, head_width=16, rope_theta=500.0, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 64))
        ),
    ),
    "qwen 2": (
        Qwen2ForCausalLM,
        Qwen2Config(**SIZES, rms_norm_eps=1e-6, tie_word_embeddings=True),
        LLMConfig(replace(SMALL, qkv_bias=True)),
    ),
    "qwen 3": (
        Qwen3ForCausalLM,
        Qwen3Config(**SIZES, head_dim=24, rms_norm_eps=1e-6, tie_word_embeddings=True),
        LLMConfig(replace(SMALL, head_width=24, qk_norm=True)),
    ),
}
NAMES = {
    "model.embed_tokens": "decoder.embedding",
    "model.layers": "decoder.blocks",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "mlp_norm",
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.o_proj": "attention.out",
    "self_attn.q_norm": "attention.query_norm",
    "self_attn.k_norm": "attention.key_norm",
    "gate_proj": "gate",
    "up_proj": "up",
    "down_proj": "down",
    "model.norm": "decoder.norm",
    "lm_head": "output",
}


def copied(theirs: PreTrainedModel, config: LLMConfig) -> LLM:
    """Our model with the weights of theirs; every one has its place."""
    ours = LLM(config)
    weights = {}
    for name, parameter in theirs.named_parameters():
        for old, new in NAMES.items():
            name = name.replace(old, new)
        weights[name] = parameter.detach()
    ours.load_state_dict(weights)
    return ours


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers(family: str) -> None:
    cls, sizes, config = FAMILIES[family]
    theirs = cls(sizes).eval()
    with torch.no_grad():
        for number, parameter in enumerate(theirs.parameters()):
            centre = 1.0 if parameter.ndim == 1 and parameter.mean() > 0.5 else 0.0
            parameter.copy_(centre + 0.2 * random(*parameter.shape, seed=number))
        inputs = packed([[150], [150]], 150)
        expected = theirs(inputs.token_BS.long()).logits
        found = copied(theirs, config).logits(inputs)
    assert expected.std() > 0.1
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
