"""What a step computes in closed form, against what PyTorch counts, and what of it frozen parts take."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from foundry_testing.picture_rows import PairOf, packed
from foundry_testing.trainer_runs import TINY
from foundry_testing.vla_models import make, make_inputs
from torch.utils.flop_counter import FlopCounterMode

from robot_foundry.trainer.meters import FLOPS
from robot_foundry.trainer.models.layers.initial import allocated, initialise
from robot_foundry.trainer.models.vision_language import VisionLanguage
from robot_foundry.trainer.models.vla import Inputs
from robot_foundry.trainer.tasks.vla.recipe import read_recipe
from robot_foundry.trainer.tasks.vla.work import robot_amounts
from robot_foundry.trainer.tasks.vlm.recipe import read_recipe as read_vlm
from robot_foundry.trainer.tasks.vlm.work import pairs_work
from robot_foundry.trainer.tasks.work import passes

ALL = ("backbone.vision.x", "backbone.projector.x", "backbone.decoder.x", "head.x", "tap_norms.0")


def full_inputs() -> Inputs:
    """Rows without padding, in which every view and step is there."""
    inputs = make_inputs(["touch", "touch"])
    assert inputs.targets is not None
    mask = torch.ones_like(inputs.targets.mask_BTA)
    return replace(
        inputs,
        view_mask_BV=torch.ones_like(inputs.view_mask_BV),
        targets=replace(inputs.targets, mask_BTA=mask),
    )


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("model.objective=l1",),
        ("model.tap_width=24", "model.head.mlp=relu"),
        ("model.obs_tokens=2", "model.learned_obs=true"),
    ],
)
def test_flops_of_a_policy_are_those_that_pytorch_counts(overrides: tuple[str, ...]) -> None:
    config = read_recipe(None, [*TINY, "data.mix=none", "model.draws=3", *overrides]).model
    model, inputs = make(config, seed=0), full_inputs()
    if config.obs_tokens == 2:
        inputs = replace(inputs, token_BS=torch.cat([inputs.token_BS, inputs.token_BS[:, -1:]], dim=1))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(inputs)
    sizes = SimpleNamespace(state_dims=5, action_dims=6, history=2, horizon=4, image=(16, 16))
    amounts = robot_amounts(config, sizes, learning=(), kept=False)
    found = amounts(None, [inputs])
    decoder, tokens = config.backbone.decoder, found["tokens"] / 2
    assert tokens == inputs.token_BS.shape[1] + 4 * config.backbone.tokens_of((16, 16))
    # A CPU computes all of a row, of which a query sees half on average.
    unseen = 4 * decoder.width * (decoder.depth - 1) * (tokens**2 - tokens * (tokens + 1) / 2)
    assert counter.get_total_flops() == pytest.approx(found[FLOPS] + 2 * unseen, rel=1e-9)
    assert robot_amounts(config, sizes, ALL, kept=False)(None, [inputs])[FLOPS] == pytest.approx(
        3 * found[FLOPS]
    )


def test_flops_of_pairs_are_those_that_pytorch_counts() -> None:
    config = read_vlm(
        None, ["data.mix=none", "data.rows={length: 96, packed: true, image: [16, 16]}",
               "model.backbone.vision={patch: 4, width: 16, depth: 1, heads: 2, mlp_hidden: 32}",
               "model.backbone.decoder={width: 16, depth: 2, heads: 2, kv_heads: 1, mlp_hidden: 32, "
               "vocabulary: 97}", "run.precision=fp32"],
    ).model  # fmt: skip
    model = initialise(allocated(lambda: VisionLanguage(config, (16, 16)), "cpu"), 0)
    image_tokens = config.backbone.tokens_of((16, 16))
    row = [PairOf(1, 5, 3), PairOf(2, 4, 2)]
    length = sum(pair.length(image_tokens) for pair in row)
    inputs = packed([row], (16, 16), image_tokens, length)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        _, count = model(inputs)["answer"]
    batch = SimpleNamespace(counts={"answer": int(count)}, sizes={"tokens": length, "pictures": 3})
    still = pairs_work(config.backbone, (16, 16), length, True, ())(batch, ())[FLOPS]
    decoder = config.backbone.decoder
    unseen = 4 * decoder.depth * decoder.width * (length - 1) / 2 * length
    assert counter.get_total_flops() == pytest.approx(still + unseen, rel=1e-9)
    every = (*ALL, "backbone.decoder.embedding.weight")
    assert pairs_work(config.backbone, (16, 16), length, True, every)(batch, ())[FLOPS] == 3 * still


def test_what_is_frozen_takes_less() -> None:
    """A pass of its own, and one for the gradient that goes through it to what learns before it."""
    assert [passes(*case) for case in ((False, False), (False, True), (True, False))] == [1, 2, 3]
    config = read_recipe(None, [*TINY, "data.mix=none"]).model
    sizes = SimpleNamespace(state_dims=5, action_dims=6, history=2, horizon=4, image=(16, 16))

    def flops(*learning: str, **changed: bool) -> float:
        amounts = robot_amounts(replace(config, **changed), sizes, learning, kept=False)
        return amounts(None, [full_inputs()])[FLOPS]

    head_alone = flops("head.x")
    assert flops() < head_alone < flops("backbone.decoder.x", "head.x") < flops(*ALL) == 3 * flops()
    assert flops(*ALL, insulate=True) == head_alone
    assert robot_amounts(config, sizes, ALL, kept=True) is None
    adapted = replace(config, lora=replace(config.lora, rank=2))
    assert FLOPS not in robot_amounts(adapted, sizes, ALL, kept=False)(None, [full_inputs()])
