"""Which parameters move at which rate, whatever stands at the root of a model, and which stay."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from robot_foundry.runtime.errors import UsageError
from robot_foundry.trainer.memory import state_bytes
from robot_foundry.trainer.models.decoder import Decoder, DecoderConfig
from robot_foundry.trainer.models.layers.initial import initialise
from robot_foundry.trainer.optim.average import Ema
from robot_foundry.trainer.optim.optimizers import (
    OptimConfig,
    Optimizers,
    freeze,
    optim_problems,
    parameter_groups,
)

SMALL = DecoderConfig(width=8, depth=2, heads=2, kv_heads=1, mlp_hidden=16, vocabulary=32)
IN_A_BLOCK = {
    *(f"attention.{name}.weight" for name in ("query", "key", "value", "out")),
    *(f"mlp.{name}.weight" for name in ("gate", "up", "down")),
}


class Parent(nn.Module):
    """A model with something of that name inside."""

    def __init__(self, name: str, inside: nn.Module) -> None:
        super().__init__()
        self.add_module(name, inside)


def names(model: nn.Module, groups: list[dict]) -> set[str]:
    of: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {of[parameter] for group in groups for parameter in group["params"]}


@pytest.mark.parametrize("path", ["", "decoder."])
def test_muon_takes_the_matrices_of_blocks_at_the_root_or_deeper(path: str) -> None:
    model = Parent("decoder", Decoder(SMALL)) if path else Decoder(SMALL)
    adamw, muon = parameter_groups(model, OptimConfig(optimizer="muon"))
    matrices = {f"{path}blocks.{number}.{name}" for number in range(2) for name in IN_A_BLOCK}
    assert names(model, muon) == matrices
    assert names(model, adamw) == {name for name, _ in model.named_parameters()} - matrices
    assert parameter_groups(model, OptimConfig())[1] == []


@pytest.mark.parametrize("name", ["out", "unblocks", "blocks_out"])
def test_muon_is_refused_where_it_would_take_nothing(name: str) -> None:
    model = Parent(name, nn.Linear(4, 4))
    with pytest.raises(
        UsageError, match="the model has no matrix in blocks, layers, stem, projector for Muon"
    ):
        parameter_groups(model, OptimConfig(optimizer="muon"))


def test_a_rate_of_the_backbone_is_refused_without_one() -> None:
    config = OptimConfig(backbone_lr_scale=0.5)
    with pytest.raises(UsageError, match="backbone_lr_scale is 0.5, and the model has no 'backbone'"):
        parameter_groups(Decoder(SMALL), config)
    scaled, _ = parameter_groups(Parent("backbone", Decoder(SMALL)), config)
    assert {group["lr"] for group in scaled} == {config.lr / 2}


def peaks(model: nn.Module, config: OptimConfig) -> dict[str, float]:
    of: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    groups = [group for groups in parameter_groups(model, config) for group in groups]
    return {of[parameter]: group["peak"] for group in groups for parameter in group["params"]}


def test_factors_of_all_parts_that_a_parameter_lies_in_multiply() -> None:
    model = Parent("backbone", Parent("decoder", Decoder(SMALL)))
    scales = {"decoder": 0.5, "blocks.1": 0.5, "decoder.embedding": 0.0}
    config = OptimConfig("muon", lr=1.0, muon_lr=2.0, backbone_lr_scale=0.5, lr_scales=scales)
    found = peaks(model, config)
    assert found == {
        name: (2 if name.split(".")[-2] not in ("attention_norm", "mlp_norm", "norm") else 1)
        * (0.125 if ".blocks.1." in name else 0.25)
        for name, _ in model.named_parameters()
        if "embedding" not in name
    }


@pytest.mark.parametrize(
    ("scales", "said"),
    [
        ({"atention": 0.1}, "the model has no part 'atention', did you mean 'attention'"),
        ({"bloc": 0.1}, "the model has no part 'bloc'"),
        ({"blocks.2": 0}, "the model has no part 'blocks.2'"),
        ({"embedding": 0, "blocks": 0, "norm": 0}, "lr_scales freezes all parameters"),
    ],
)
def test_parts_that_are_none_and_models_without_a_rate_are_refused(
    scales: Mapping[str, float], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        parameter_groups(Decoder(SMALL), OptimConfig(lr_scales=scales))


def test_factors_out_of_range_are_told() -> None:
    scales = {"blocks": -1.0, "norm": float("nan"), "embedding": 0.0}
    assert list(optim_problems(OptimConfig(lr_scales=scales))) == [
        "optim.lr_scales.blocks: must be 0 or positive, not -1.0",
        "optim.lr_scales.norm: must be 0 or positive, not nan",
    ]


@pytest.mark.parametrize(
    ("optimizer", "scales"),
    [
        ("adamw", {"blocks": 0}),
        ("muon", {"blocks.0": 0}),
        ("muon", {"embedding": 0, "norm": 0, "attention_norm": 0, "mlp_norm": 0}),  # nothing for AdamW
    ],
)
def test_what_is_frozen_stays_has_no_state_and_is_its_own_average(
    optimizer: str, scales: Mapping[str, float]
) -> None:
    config = OptimConfig(optimizer, lr=0.1, lr_scales=scales)
    model = initialise(Decoder(SMALL), 0)
    freeze(model, config)
    moving = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert moving == peaks(model, config).keys()
    ema, optimizers = Ema(model, power=0.75, maximum=0.999), Optimizers(model, config)
    assert {name.partition("/")[0] for name, _ in optimizers.tensors()} == moving
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    position = torch.arange(4)[None]
    for step in range(2):
        optimizers.zero_grad()
        model.states(position, position, None).square().mean().backward()
        optimizers.step(torch.tensor(True), 0.5)
        ema.update(step, torch.tensor(True))
    assert optimizers.lr == 0.05
    for name, parameter in model.named_parameters():
        same = torch.equal(parameter, before[name])
        assert same == (name not in moving), name
        assert torch.equal(ema.weights[name], parameter) == (name not in moving), name


def test_frozen_parameters_take_their_weights_alone() -> None:
    config = OptimConfig(lr_scales={"embedding": 0})
    model = Decoder(SMALL)
    free, frozen = (state_bytes(model, c, "bf16") for c in (OptimConfig(), config))
    embedding = 4 * model.embedding.weight.numel()
    assert free.weights == frozen.weights and free.copies == frozen.copies
    assert free.gradients - frozen.gradients == free.average - frozen.average == embedding
    assert free.optimizer - frozen.optimizer == 2 * embedding
