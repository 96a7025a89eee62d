"""The models: sizes, masks that leave no trace, what the image tokens carry, and flow matching itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from foundry_testing import trainer_runs
from foundry_testing.trainer_runs import TINY
from foundry_testing.vla_models import garbled, make, make_inputs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robot_foundry.trainer.models.backbone import Backbone, causal_bias
from robot_foundry.trainer.models.decoder import Decoder
from robot_foundry.trainer.models.flow import FlowConfig, FlowHead, interpolate, sample, time_of
from robot_foundry.trainer.models.layers.attention import (
    Block,
    Mlp,
    SelfAttention,
    attend,
    attention_bias,
    rope_tables,
)
from robot_foundry.trainer.models.layers.initial import initialise
from robot_foundry.trainer.models.sizes.presets import BACKBONES, DECODERS, FLOWS, VITS, VLAS
from robot_foundry.trainer.models.tokenizer import OBS, PAD, ByteTokenizer
from robot_foundry.trainer.models.vit import ViT, space_to_depth
from robot_foundry.trainer.models.vla import VLA, Geometry
from robot_foundry.trainer.tasks.vla.draws import build_draws
from robot_foundry.trainer.tasks.vla.recipe import read_recipe


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_sizes_of_the_presets_are_those_of_the_published_models() -> None:
    """Each exact count was derived on paper too; the rounded ones are those of published models."""
    with torch.device("meta"):
        decoder = Decoder(DECODERS["llm_1_2b"])
        layer = 4 * 2048**2 + 3 * 2048 * 5632 + 2 * 2048
        assert count(decoder) == 49280 * 2048 + 24 * layer + 2048 == 1_334_151_168
        shared = Decoder(replace(DECODERS["llm_1_2b"], kv_heads=8))
        assert count(decoder) - count(shared) == 24 * 2048**2
        vit = ViT(VITS["vit_b16"], (256, 256))
        block = 12 * 768**2 + 13 * 768
        assert count(vit) == 12 * block + (3 * 256 + 1) * 768 + 256 * 768 + 2 * 768 == 85_843_200  # 85.8 M
        assert count(ViT(VITS["vit_l16"], (256, 256))) == 303_361_024  # 303 M
        dims = {"state_dims": 10, "history": 1, "action_dims": 10, "horizon": 16}
        head = FlowHead(FLOWS["flow_325m"], condition=8192, **dims)
        assert count(head) == 324_499_456  # 325 M
        vla = VLA(VLAS["vla_1_7b"], Geometry(10, 10, 1, 16, (256, 256)))
        assert count(vla.backbone.projector) == 3072 * 2048
        assert count(vla) == 1_750_793_472  # 1.75 B
        tiny = VLA(VLAS["vla_tiny"], Geometry(10, 10, 1, 16, (64, 64)))
        assert (count(tiny.backbone), count(tiny.head)) == (1_146_480, 815_104)


def test_a_flow_head_of_another_shape_counts_likewise() -> None:
    config = FlowConfig(width=64, depth=2, heads=4, mlp="swiglu", mlp_hidden=128)
    head = FlowHead(config, condition=32, state_dims=3, history=2, action_dims=5, horizon=4)
    block = 4 * 64**2 + 3 * 64 * 128 + 6 * 64
    inputs = 32 * 64 + (6 + 1) * 64 + (10 + 1) * 64 + 2 * 64 + 4 * 64
    time = (256 + 1) * 64 + (64 + 1) * 64 + (64 + 1) * 6 * 64
    assert count(head) == 2 * block + inputs + time + 64 + 64 * 5


# --- what the model sees ----------------------------------------------------------------------------------


def scenes(number: int) -> Tensor:
    """Pictures that differ as scenes do: four coloured squares at random on one background."""
    rng = np.random.default_rng(0)
    pictures = np.full((number, 1, 64, 64, 3), 140, np.uint8)
    for picture in pictures[:, 0]:
        for y, x in rng.integers(0, 56, (4, 2)):
            picture[y : y + 8, x : x + 8] = rng.integers(0, 255, 3)
    return torch.from_numpy(pictures)


def test_image_tokens_at_init_differ_between_scenes() -> None:
    vlm = initialise(Backbone(BACKBONES["vlm_tiny"], (64, 64)), 0)
    with torch.no_grad():
        tokens = vlm.image_tokens(scenes(48))
    assert tokens.shape == (48, 16, 128)
    assert tokens.std(dim=0).mean() > 0.1


def test_space_to_depth_only_moves_numbers() -> None:
    """Token (r, c) holds patches (2r, 2c), (2r, 2c+1), (2r+1, 2c), (2r+1, 2c+1)."""
    patches = torch.arange(4 * 6 * 3).reshape(1, 24, 3)
    merged = space_to_depth(patches, 4, 6, 2)
    assert merged.shape == (1, 6, 12)
    assert sorted(merged.flatten().tolist()) == list(range(72))
    where = merged[0, :, ::3] // 3
    assert where[4].tolist() == [14, 15, 20, 21]


def test_spelled_out_attention_is_the_fused_one() -> None:
    q, k, v = (trainer_runs.noise(2, 3, 5, 4, seed=i) for i in range(3))
    allowed = torch.rand(2, 1, 5, 5) > 0.4
    allowed |= torch.eye(5, dtype=torch.bool)
    bias = attention_bias(allowed)
    fused = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    assert torch.allclose(attend(q, k, v, bias), fused, atol=1e-6)


def test_the_tokenizer_cuts_whole_characters_and_ends_in_obs() -> None:
    tokens, obs = ByteTokenizer(4).rows(["pick", "aé", "", "aaaé"])
    assert tokens[0].tolist() == [*b"pick", OBS]
    assert tokens[1].tolist() == [*"aé".encode(), OBS, PAD]
    assert tokens[2].tolist() == [OBS, PAD, PAD, PAD, PAD]
    assert tokens[3].tolist() == [*b"aaa", OBS, PAD]
    assert obs.tolist() == [4, 3, 0, 3]


@pytest.fixture(scope="module")
def model() -> VLA:
    """A shrunk model whose zero-initialised parts have been moved, so that everything matters."""
    config = read_recipe(None, [*TINY, "data.mix=none"]).model
    built = make(config, seed=0)
    with torch.no_grad():
        for i, parameter in enumerate(built.parameters()):
            parameter += 0.1 * trainer_runs.noise(*parameter.shape, seed=i)
    return built


@pytest.mark.parametrize("value", [1e6, float("nan"), float("inf")])
def test_what_is_masked_changes_neither_loss_nor_gradient_nor_sample_by_one_bit(
    model: VLA, value: float
) -> None:
    clean, dirty = (make_inputs(["pick", "place it"]), garbled(make_inputs(["pick", "place it"]), value))
    found = []
    for inputs in (clean, dirty):
        model.zero_grad()
        total, entries = model(inputs)["action"]
        total.backward()
        assert int(entries) == 1 * 2 * 5 + 4 * 6 and torch.isfinite(total)
        mask = inputs.targets.mask_BTA
        noise = torch.where(mask, trainer_runs.noise(2, 4, 6, seed=5), value if inputs is dirty else 0.0)
        with torch.no_grad():
            chunk = model.sample(inputs, noise, mask, steps=3)
        assert not chunk[~mask].any()
        found.append(
            [total.detach(), chunk, *(p.grad.clone() for p in model.parameters() if p.grad is not None)]
        )
    assert all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(*found, strict=True))


def test_every_real_input_matters(model: VLA) -> None:
    """The other half of the mask test: a model that ignored its inputs would pass that one."""
    inputs = make_inputs(["pick", "place it"])
    base = model(inputs)["action"][0].item()
    image = inputs.image_BVHWC.clone()
    image[1, 3] = 255 - image[1, 3]
    tokens = inputs.token_BS.clone()
    tokens[1, 0] = ord("b")
    assert inputs.targets is not None and inputs.draws is not None
    changed = {
        "image": replace(inputs, image_BVHWC=image),
        "view": replace(inputs, view_mask_BV=torch.ones_like(inputs.view_mask_BV)),
        "text": replace(inputs, token_BS=tokens),
        "state": replace(inputs, state_BHD=inputs.state_BHD + 0.1),
        "state mask": replace(inputs, state_mask_BHD=torch.ones_like(inputs.state_mask_BHD)),
        "noise": replace(inputs, draws=replace(inputs.draws, noise_BNTA=inputs.draws.noise_BNTA + 0.1)),
        "time": replace(inputs, draws=replace(inputs.draws, time_BN=inputs.draws.time_BN * 0.5)),
        "weight": replace(inputs, targets=replace(inputs.targets, weight_B=torch.tensor([1.0, 2.0]))),
    }
    for name, other in changed.items():
        assert abs(model(other)["action"][0].item() - base) > 1e-5, name


def test_the_condition_does_not_depend_on_padding(model: VLA) -> None:
    alone, padded = make_inputs(["pick"]), make_inputs(["pick", "put the can on the plate"])
    with torch.no_grad():
        short = model.condition(alone)
        long = model.condition(replace(padded, image_BVHWC=alone.image_BVHWC.expand(2, -1, -1, -1, -1)))
        other = padded.token_BS.clone()
        other[0, 6:] = ord("x")
        scribbled = model.condition(replace(padded, token_BS=other))
        whole = model.condition(padded)
    assert torch.allclose(short[0], long[0], atol=1e-5)
    assert torch.equal(whole[0], scribbled[0])


def test_the_loss_starts_at_the_variance_of_the_velocity() -> None:
    """The output is zero at first, so the loss is the mean of |action - noise|²."""
    built = make(read_recipe(None, [*TINY, "data.mix=none"]).model, seed=0)
    inputs = make_inputs(["pick", "place it"])
    assert inputs.targets is not None and inputs.draws is not None
    velocity = inputs.targets.value_BTA[:, None] - inputs.draws.noise_BNTA
    expected = (velocity.square() * inputs.targets.mask_BTA[:, None]).sum() / 3
    assert torch.allclose(built(inputs)["action"][0], expected, rtol=1e-5)


def test_one_seed_gives_one_initialisation_and_leaves_the_global_generator_alone() -> None:
    config = read_recipe(None, [*TINY, "data.mix=none"]).model
    before = torch.get_rng_state()
    first, same, other = (make(config, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    pairs = list(zip(first.parameters(), same.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert any(not torch.equal(a, c) for a, _, c in pairs)


# --- flow matching ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (2,), (2, 4), (2, 4, 1)])
def test_interpolate_runs_from_noise_to_action_along_its_velocity(shape: tuple[int, ...]) -> None:
    action, noise = trainer_runs.noise(2, 4, 3), trainer_runs.noise(2, 4, 3, seed=1)
    start, velocity = interpolate(action, noise, torch.zeros(shape))
    end, _ = interpolate(action, noise, torch.ones(shape))
    assert torch.equal(start, noise) and torch.equal(end, action)
    assert torch.equal(velocity, action - noise)
    middle, _ = interpolate(action, noise, torch.full(shape, 0.25))
    assert torch.allclose(middle, noise + 0.25 * velocity, atol=1e-6)


@given(steps=st.integers(1, 24), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_euler_is_exact_on_a_straight_field_for_any_number_of_steps(steps: int, seed: int) -> None:
    noise, target = trainer_runs.noise(2, 4, 3, seed=seed), trainer_runs.noise(2, 4, 3, seed=seed + 100)
    times: list[float] = []

    def velocity(x: Tensor, t: float) -> Tensor:
        times.append(t)
        return (target - x) / (1 - t)

    mask = torch.tensor([True, False, True])
    result = sample(velocity, noise, mask, steps=steps)
    assert times == [i / steps for i in range(steps)]
    assert torch.allclose(result, target * mask, atol=2e-6)


def test_every_density_is_the_inverse_of_its_distribution() -> None:
    u = np.linspace(0.001, 0.999, 999)
    assert np.array_equal(time_of(u, "uniform"), u)
    # 1 - t/0.999 ~ Beta(1.5, 1), whose distribution function is b^1.5.
    assert np.allclose((1 - time_of(u, "beta") / 0.999) ** 1.5, u)
    logit = np.log(time_of(u, "logit_normal") / (1 - time_of(u, "logit_normal")))
    assert np.allclose(torch.special.ndtr(torch.from_numpy(logit)).numpy(), u)


def test_draws_belong_to_their_sample_alone() -> None:
    options: dict[str, Any] = {
        "draws": 4, "density": "beta", "state_noise": 0.05, "state_shape": (1, 3), "action_shape": (4, 6),
    }  # fmt: skip
    whole = build_draws(np.arange(10), 0, **options)
    part = build_draws(np.array([7, 3]), 0, **options)
    for name in ("noise_BNTA", "time_BN", "state_noise_BHD"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[[7, 3]])
    assert not torch.equal(part.noise_BNTA, build_draws(np.array([7, 3]), 1, **options).noise_BNTA)
    # One time of each quarter of the density: u = (1 - t/0.999)^1.5 lies in another quarter each.
    quarter = ((1 - whole.time_BN.double() / 0.999) ** 1.5 * 4).floor()
    assert torch.equal(quarter.sort(dim=1).values, torch.arange(4.0).double().expand(10, 4))
    many = build_draws(np.arange(400), 0, **options)
    assert abs(many.noise_BNTA.mean()) < 0.02 and abs(many.noise_BNTA.std() - 1) < 0.02
    assert abs(many.state_noise_BHD.std() - 0.05) < 0.005


def test_per_step_times_equal_one_time_where_they_agree(model: VLA) -> None:
    x, mask = trainer_runs.noise(2, 4, 6), torch.ones(2, 4, 6, dtype=torch.bool)
    prefix, t = trainer_runs.noise(2, 3, 16, seed=3), torch.tensor([[0.2], [0.7]])
    with torch.no_grad():
        assert torch.allclose(
            model.head(x, t, prefix, mask), model.head(x, t.expand(2, 4), prefix, mask), atol=1e-5
        )
        early = torch.tensor([[1.0, 1.0, 0.2, 0.2], [1.0, 0.7, 0.7, 0.7]])
        assert not torch.allclose(
            model.head(x, t, prefix, mask), model.head(x, early, prefix, mask), atol=1e-3
        )


def test_reading_some_positions_is_the_whole_block_there() -> None:
    attention, mlp = SelfAttention(16, 4, 2, bias=False), Mlp(16, 32, "swiglu", bias=False)
    block = Block(16, attention, mlp, torch.nn.RMSNorm)
    x, at = trainer_runs.noise(3, 7, 16), torch.tensor([[6, 5], [0, 4], [3, 6]])
    bias = causal_bias(torch.tensor([[True] * 7, [True] * 7, [True, False] + [True] * 5]))
    rope = rope_tables(torch.arange(7), 4, 100.0)
    whole, read = block(x, bias, rope), block(x, bias, rope, at)
    assert torch.allclose(read, whole[torch.arange(3)[:, None], at], atol=1e-6)
