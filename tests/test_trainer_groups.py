"""Which parameters Muon takes, whatever stands at the root of a model."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from robot_foundry.runtime.errors import UsageError
from robot_foundry.trainer.models.decoder import Decoder, DecoderConfig
from robot_foundry.trainer.optim.optimizers import OptimConfig, parameter_groups

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
    with pytest.raises(UsageError, match="the model has no matrix in blocks, stem, projector for Muon"):
        parameter_groups(model, OptimConfig(optimizer="muon"))


def test_a_rate_of_the_backbone_is_refused_without_one() -> None:
    config = OptimConfig(backbone_lr_scale=0.5)
    with pytest.raises(UsageError, match="backbone_lr_scale is 0.5, and the model has no 'backbone'"):
        parameter_groups(Decoder(SMALL), config)
    scaled, _ = parameter_groups(Parent("backbone", Decoder(SMALL)), config)
    assert {group["lr"] for group in scaled} == {config.lr / 2}
