"""A policy that learns answers and text beside actions: its losses, and what each of them moves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from foundry_testing import trainer_runs
from foundry_testing.picture_rows import PairOf, packed
from foundry_testing.trainer_runs import TINY
from foundry_testing.vla_models import GEOMETRY, make_inputs
from torch import Tensor, nn

from robot_foundry.trainer.models.cotrained import CoTrained, JointInputs
from robot_foundry.trainer.models.layers.initial import allocated, initialise
from robot_foundry.trainer.models.llm import LLM, LLMConfig, TextInputs
from robot_foundry.trainer.models.units import recompute
from robot_foundry.trainer.models.vision_language import VisionLanguage, VisionLanguageConfig
from robot_foundry.trainer.models.vla import VLA, VLAConfig
from robot_foundry.trainer.tasks.vla.recipe import read_recipe

IMAGE = GEOMETRY.image
IMAGE_TOKENS = 4  # 16 pixels, patches of 4, 2 × 2 of them a token
PAIRS = packed(
    [[PairOf(1, 3, 4), PairOf(2, 2, 3)], [PairOf(0, 5, 2)]], IMAGE, IMAGE_TOKENS, length=32, absent=1
)


def config(*overrides: str) -> VLAConfig:
    return read_recipe(None, [*TINY, "data.mix=none", "data.pairs.mix=none", *overrides]).model


def moved(model: nn.Module) -> nn.Module:
    """With first weights, those that begin at 0 moved too, so that everything matters."""
    initialise(model, seed=0)
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter += 0.1 * trainer_runs.noise(*parameter.shape, seed=i)
    return model


def built(*overrides: str, tied: bool = True) -> CoTrained:
    model = moved(allocated(lambda: CoTrained(config(*overrides), GEOMETRY, tied=tied), "cpu"))
    assert isinstance(model, CoTrained)
    return model


def some_text() -> TextInputs:
    token_BS = torch.arange(24).reshape(2, 12) % 7 + 1
    segment_BS = torch.tensor([[0] * 5 + [1] * 7, [0] * 9 + [-1] * 3])
    position_BS = torch.tensor([[*range(5), *range(7)], [*range(9), 0, 0, 0]])
    return TextInputs(token_BS, token_BS.roll(-1, 1), segment_BS, position_BS)


def joint() -> JointInputs:
    return JointInputs(make_inputs(["push", "lift it"]), PAIRS, some_text())


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("tied", [True, False])
def test_each_loss_is_that_of_the_model_that_learns_it_alone(tied: bool) -> None:
    model = built(tied=tied)
    weights, config = dict(model.named_parameters()), model.config
    alone = {
        "action": VLA(config, GEOMETRY),
        "answer": VisionLanguage(VisionLanguageConfig(config.backbone, tied=tied), IMAGE),
        "text": LLM(LLMConfig(config.backbone.decoder, tied=tied)),
    }
    inputs = joint()
    parts = {"action": inputs.robot, "answer": inputs.pairs, "text": inputs.text}
    losses = model(inputs)
    assert list(losses) == list(alone)
    with torch.no_grad():
        for name, other in alone.items():
            for path, parameter in other.named_parameters():
                parameter.copy_(weights[path if path in weights else f"backbone.{path}"])
            total, count = other(parts[name])[name]
            assert float(losses[name][0].detach()) == pytest.approx(float(total), rel=1e-6)
            assert int(losses[name][1]) == int(count) > 0


def test_the_parameters_of_the_policy_have_their_names_and_first_values() -> None:
    policy = initialise(VLA(config(), GEOMETRY), seed=0)
    for tied, more in ((True, set()), (False, {"output.weight"})):
        model = initialise(CoTrained(config(), GEOMETRY, tied=tied), seed=0)
        theirs = dict(model.named_parameters())
        assert theirs.keys() - dict(policy.named_parameters()).keys() == more
        assert all(torch.equal(theirs[name], value) for name, value in policy.named_parameters())
    assert list(model(make_inputs(["push"]))) == ["action"]  # of robots alone


def test_actions_move_no_insulated_backbone() -> None:
    open_, insulated = built(), built("model.insulate=true")
    inputs = joint()
    action = insulated(inputs)["action"][0]
    assert torch.equal(action, open_(inputs)["action"][0])
    moves = gradients(insulated, action)
    assert not any(gradient.any() for name, gradient in moves.items() if name.startswith("backbone."))
    theirs = gradients(open_, open_(inputs)["action"][0])
    assert any(gradient.any() for name, gradient in theirs.items() if name.startswith("backbone."))
    for name in theirs:
        if not name.startswith("backbone."):
            assert torch.equal(moves[name], theirs[name]), name


def test_vectors_at_obs_learn_through_an_insulated_backbone() -> None:
    """Those of the policy's own: as a prompt that is learnt through weights which stay."""
    model, inputs = built("model.insulate=true", "model.learned_obs=true"), joint()
    moves = gradients(model, model(inputs)["action"][0])
    assert moves["obs_embedding.weight"].any()
    assert not any(name.startswith("backbone.") for name in moves)
    every = gradients(model, sum(loss for loss, _ in model(inputs).values()))
    assert every.keys() == dict(model.named_parameters()).keys()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_computing_blocks_again_insulates_as_well(precision: torch.dtype) -> None:
    model, inputs = built("model.insulate=true", "model.learned_obs=true"), joint()

    def moves() -> dict[str, Tensor]:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            losses = model(inputs)
        return gradients(model, sum(loss for loss, _ in losses.values()))

    kept = moves()
    recompute(model)
    again = moves()
    assert kept.keys() == again.keys() == dict(model.named_parameters()).keys()
    assert [name for name, gradient in kept.items() if not torch.equal(gradient, again[name])] == []


def test_an_insulated_backbone_is_moved_by_all_else_and_wholly() -> None:
    """Every parameter has a gradient: ranks wait for each."""
    model, inputs = built("model.insulate=true", tied=False), joint()
    beside = gradients(model, sum(loss for name, (loss, _) in model(inputs).items() if name != "action"))
    every = gradients(model, sum(loss for loss, _ in model(inputs).values()))
    assert every.keys() == dict(model.named_parameters()).keys()
    for name, gradient in every.items():
        if name.startswith(("backbone.", "output.")):
            assert torch.equal(gradient, beside[name]) and gradient.any(), name


def test_rows_with_nothing_in_them_move_nothing() -> None:
    model, inputs = built(tied=False), joint()
    assert inputs.text is not None
    nowhere = torch.full_like(PAIRS.segment_BS, -1)
    absent = torch.zeros_like(PAIRS.image_mask_N)
    empty = replace(
        inputs,
        pairs=replace(PAIRS, segment_BS=nowhere, image_mask_N=absent),
        text=replace(inputs.text, segment_BS=torch.full_like(inputs.text.segment_BS, -1)),
    )
    losses = model(empty)
    assert [int(count) for _, count in losses.values()][1:] == [0, 0]
    assert [float(loss.detach()) for loss, _ in losses.values()][1:] == [0, 0]
    whole = gradients(model, sum(loss for loss, _ in losses.values()))
    alone = gradients(model, model(inputs.robot)["action"][0])
    assert whole.keys() - alone.keys() == {"output.weight"} and not whole["output.weight"].any()
    assert all(torch.equal(whole[name], gradient) for name, gradient in alone.items())


def test_inputs_move_as_a_whole() -> None:
    there = joint().to(torch.device("meta"))
    assert there.pairs is not None and there.text is not None
    tensors = (there.robot.token_BS, there.pairs.image_NHWC, there.text.token_BS)
    assert all(tensor.is_meta for tensor in tensors)
    assert JointInputs(there.robot).to(torch.device("meta")).pairs is None
