"""Low-rank adapters: linear layers that stay as they are, and beside each a narrow one that learns.

    y = W x + b + alpha / rank · B A x          A [rank, in] begins at random, B [out, rank] at zero

So a model with fresh adapters is the model without them. E. Hu et al., "LoRA: Low-Rank Adaptation of Large
Language Models" (2021), §4.1. Parameters of the layers keep their names; those of adapters stand beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_foundry.runtime.errors import UsageError, nearest
from robot_foundry.trainer.models.layers.initial import Constant, Distribution, Normal

DOWN, UP = ADAPTERS = ("lora_a", "lora_b")


@dataclass(frozen=True)
class LoRAConfig:
    """Adapters of a backbone, of which nothing else moves then."""

    rank: int = 0  # of the adapters; 0 has none
    alpha: float = 16.0  # what they add counts alpha / rank
    parts: tuple[str, ...] = ("decoder",)  # whose linear layers get one, by names of modules: query, vision

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


class AdaptedLinear(nn.Linear):
    """A linear layer with an adapter, made of a layer whose parameters it takes over."""

    def __init__(self, layer: nn.Linear, config: LoRAConfig) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.scale = config.scale
        self.lora_a = nn.Parameter(layer.weight.new_empty(config.rank, layer.in_features))
        self.lora_b = nn.Parameter(layer.weight.new_empty(layer.out_features, config.rank))

    def initial(self) -> dict[str, Distribution]:
        """A keeps the variance of its input; the layer's own numbers begin as in any."""
        random = Normal(self.in_features**-0.5)
        return {"weight": random, "bias": Constant(0.0), DOWN: random, UP: Constant(0.0)}

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.scale * F.linear(F.linear(x, self.lora_a), self.lora_b)


def adapt(model: nn.Module, config: LoRAConfig) -> None:
    """Let nothing of a model learn but adapters, which the linear layers of `config.parts` get.

    UsageError that names each part in which no linear layer is.
    """
    layers = {name: module for name, module in model.named_modules() if type(module) is nn.Linear}
    if missing := [part for part in config.parts if not any(_lies_in(name, part) for name in layers)]:
        words = list(dict.fromkeys(w for name in layers for w in name.split(".") if not w.isdigit()))
        listed = ", ".join(f"'{part}'{nearest(part, words)}" for part in missing)
        raise UsageError(
            f"model.lora.parts: no linear layer of the backbone lies in {listed}",
            hint=f"its parts with such layers are {', '.join(words)}",
        )
    model.requires_grad_(False)
    for name, layer in layers.items():
        if any(_lies_in(name, part) for part in config.parts):
            _replace(model, name, AdaptedLinear(layer, config))


def merge(model: nn.Module) -> None:
    """Put what adapters have learnt into the layers that they stand beside, and take the adapters away."""
    adapted = {name: module for name, module in model.named_modules() if isinstance(module, AdaptedLinear)}
    for name, layer in adapted.items():
        plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        weight = merged(layer.weight, layer.lora_a, layer.lora_b, layer.scale)
        plain.weight, plain.bias = nn.Parameter(weight, requires_grad=False), layer.bias
        _replace(model, name, plain)


@torch.no_grad()
def merged(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """The weight [out, in] of a layer without an adapter that does the same; it is rounded once."""
    return (weight.double() + scale * (up.double() @ down.double())).to(weight.dtype)


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name is of an adapter."""
    return name.rpartition(".")[2] in ADAPTERS


def adapters_of(names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """The names of the weight, of A and of B of each adapter that is among the names of parameters."""
    for name in names:
        layer, _, leaf = name.rpartition(".")
        if leaf == DOWN:
            yield f"{layer}.weight", name, f"{layer}.{UP}"


def merge_values(values: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Parameters by name without adapters, what these learnt being in the layers."""
    plain = {name: value for name, value in values.items() if not is_adapter(name)}
    for weight, down, up in adapters_of(list(values)):
        plain[weight] = merged(values[weight], values[down], values[up], scale)
    return plain


def _lies_in(name: str, part: str) -> bool:
    """Whether a part, `query` or `decoder.blocks.0`, is on the path of a module, itself among them."""
    return f".{part}." in f".{name}."


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
