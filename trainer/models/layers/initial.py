"""First weights, keyed by (seed, name of the parameter): a function of nothing else.

So it changes no bit in which order modules are made, on which device, or which part of a model a rank holds,
and no rank needs more than one whole parameter at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from robot_foundry.runtime.keyed import generator
from robot_foundry.trainer.ranks.shares import local, share

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Normal:
    """Normal numbers about 0, keyed by the run's seed unless by one of their own."""

    std: float
    seed: int | None = None


@dataclass(frozen=True)
class Constant:
    """One number everywhere."""

    value: float


Distribution = Normal | Constant


@runtime_checkable
class Initialised(Protocol):
    """A module that says how some parameters in it begin, by their names there. It outdoes what is inside."""

    def initial(self) -> Mapping[str, Distribution]: ...


def distributions(model: nn.Module) -> dict[str, Distribution]:
    """How each parameter of a model begins, by name."""
    rules: dict[str, Distribution] = {}
    for path, module in model.named_modules():  # a module comes before those inside it
        for name, rule in (module.initial() if isinstance(module, Initialised) else _usual(module)).items():
            rules.setdefault(f"{path}.{name}".lstrip("."), rule)
    return {name: rules[name] for name, _ in model.named_parameters()}


def residual_outputs(module: nn.Module, depth: int) -> dict[str, Distribution]:
    """Of linear layers that add to the residual stream of `depth` blocks: less by 1/√(2 depth)."""
    return {
        f"{name}.weight": Normal(child.in_features**-0.5 / (2 * depth) ** 0.5)
        for name, child in module.named_modules()
        if isinstance(child, nn.Linear) and name.endswith(("attention.out", "mlp.down"))
    }


def allocated(
    make: Callable[[], M], device: torch.device | str, before: Callable[[M], None] | None = None
) -> M:
    """The model that `make` makes, with memory on the device for its parameters and no values in them yet.

    It is made on the meta device, so that nothing is drawn or filled that will not last; there `before` may
    change it, so that this rank needs memory for a share of it alone.
    """
    with torch.device("meta"):
        model = make()
    if before is not None:
        before(model)
    # Buffers are constants: made under torch.device("cpu") they have values from the start.
    assert not any(buffer.is_meta for buffer in model.buffers())
    return model._apply(lambda t: torch.empty_like(t, device=device) if t.is_meta else t.to(device))


@torch.no_grad()
def initialise(model: M, seed: int) -> M:
    """Give every parameter its first values, in place, and return the model."""
    rules = distributions(model)
    for name, parameter in model.named_parameters():
        values = _values(rules[name], parameter.shape, seed, name)
        local(parameter).copy_(share(values, parameter))
    return model


def _values(rule: Distribution, shape: torch.Size, seed: int, name: str) -> Tensor:
    if isinstance(rule, Constant):
        return torch.full(shape, rule.value)
    key = seed if rule.seed is None else rule.seed
    values = generator("init", key, name).standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(values).mul_(rule.std)


def _usual(module: nn.Module) -> dict[str, Distribution]:
    """Std 1/√fan_in for matrices, √2 of it for convolutions (He et al. 2015); norms begin as the identity."""
    match module:
        case nn.Linear():
            return {"weight": Normal(module.in_features**-0.5), "bias": Constant(0.0)}
        case nn.Conv2d():
            return {"weight": Normal((2 / module.weight[0].numel()) ** 0.5), "bias": Constant(0.0)}
        case nn.Embedding():
            return {"weight": Normal(module.embedding_dim**-0.5)}
        case nn.LayerNorm() | nn.RMSNorm():
            return {"weight": Constant(1.0), "bias": Constant(0.0)}
    return {}
