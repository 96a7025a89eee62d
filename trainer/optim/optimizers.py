"""Optimisers whose step can be skipped on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from robot_foundry.runtime.errors import UsageError, nearest
from robot_foundry.runtime.later import later
from robot_foundry.trainer.models.layers.lora import is_adapter
from robot_foundry.trainer.optim.muon import Muon
from robot_foundry.trainer.optim.schedule import SCHEDULES
from robot_foundry.trainer.ranks.shares import local, split_as
from robot_foundry.trainer.recipes.ranges import choice

OPTIMIZERS = ("adamw", "muon")
# Hidden matrices: blocks, and what brings pictures to them. Embeddings and both ends of the head are not.
_HIDDEN = ("blocks", "layers", "stem", "projector")
# Vectors, also where there is one for each of many things: tokens, places, embodiments. They never decay.
_TABLES = ("embedding", "embed_tokens", "position", "pos_embed", ".bias")
_BACKBONE = "backbone"


@dataclass(frozen=True)
class OptimConfig:
    """How weights move."""

    optimizer: str = "adamw"  # adamw | muon: Muon for hidden matrices, AdamW for the rest
    lr: float = 3e-4  # peak of AdamW
    muon_lr: float = 0.02  # peak of Muon
    backbone_lr_scale: float = 1.0  # factor on both in the vision-language backbone
    # Further factors by part of the model, named as its module is (vision, decoder.embedding); those of all
    # parts that a parameter lies in multiply, and 0 freezes it.
    lr_scales: Mapping[str, float] | None = later(None)
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-8  # of matrices; vectors and embeddings do not decay
    clip: float = 1.0  # on the norm of the whole gradient
    # Steps whose loss or norm lies so many standard deviations above its recent mean are skipped; 6, say.
    max_sigmas: float | None = later(None)
    schedule: str = "cosine"  # cosine: to zero at the last step | trapezoid: in its last quarter | constant
    warmup: float = 0.03  # share of all steps
    ema_power: float = 0.75  # decay at step n is min(ema_max, 1 - (1 + n)^-ema_power)
    ema_max: float = 0.999  # 0 keeps no average


def optim_problems(optim: OptimConfig) -> Iterator[str]:
    """One line for every value that is out of range."""
    yield from choice("optim.optimizer", optim.optimizer, OPTIMIZERS)
    yield from choice("optim.schedule", optim.schedule, SCHEDULES)
    for name in ("lr", "muon_lr", "backbone_lr_scale", "clip", "ema_power"):
        if not getattr(optim, name) > 0:
            yield f"optim.{name}: must be positive, not {getattr(optim, name)}"
    for part, factor in (optim.lr_scales or {}).items():
        if not 0 <= factor < inf:
            yield f"optim.lr_scales.{part}: must be 0 or positive, not {factor}"
    for name, values in (("warmup", [optim.warmup]), ("ema_max", [optim.ema_max]), ("betas", optim.betas)):
        if any(not 0 <= value < 1 for value in values):
            yield f"optim.{name}: must lie in [0, 1), not {', '.join(map(str, values))}"
    if optim.max_sigmas is not None and not 0 < optim.max_sigmas < inf:
        yield f"optim.max_sigmas: must be positive and finite, not {optim.max_sigmas}"
    if optim.weight_decay < 0:
        yield f"optim.weight_decay: must not be negative, not {optim.weight_decay}"


def freeze(model: nn.Module, config: OptimConfig) -> None:
    """Let parameters whose factor is 0 have no gradients; before anything takes note of which have.

    What the model itself keeps as it is stays so.
    """
    _check_parts(model, config)
    for name, parameter in model.named_parameters():
        if _factor(name, config) == 0:
            parameter.requires_grad_(False)


def learning_of(make: Callable[[], nn.Module], config: OptimConfig) -> list[str]:
    """The names of the parameters that learn of the model that `make` makes, to which no memory is given."""
    with torch.device("meta"):
        model = make()
    freeze(model, config)
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def parameter_groups(model: nn.Module, config: OptimConfig) -> tuple[list[dict], list[dict]]:
    """Parameters that move, by learning rate and decay: groups for AdamW and groups for Muon.

    Matrices decay; vectors do not, and neither do tables of them. Muon takes hidden matrices, convolutions
    among them: those in modules of the model, or of one inside it, that are named in `_HIDDEN`. Not those of
    adapters, which are factors of one matrix: that each moves alike in all directions does not make their
    product do so. UsageError where the configuration is of hidden matrices, a backbone or a part, and the
    model has none, or if nothing moves.
    """
    _check_parts(model, config)
    groups: dict[tuple[bool, bool, bool, float], dict] = {}
    for name, parameter in model.named_parameters():
        factor = _factor(name, config)
        if factor == 0 or not parameter.requires_grad:
            continue
        matrix = parameter.ndim >= 2 and not any(table in name for table in _TABLES)
        modules = _modules(name)
        hidden_matrix = matrix and not is_adapter(name) and not set(_HIDDEN).isdisjoint(modules)
        muon = config.optimizer == "muon" and hidden_matrix
        backbone = modules[:1] == [_BACKBONE]
        group = groups.setdefault((muon, backbone, matrix, factor), {"params": []})
        group["params"].append(parameter)
        scale = factor * (config.backbone_lr_scale if backbone else 1.0)
        peak = (config.muon_lr if muon else config.lr) * scale
        group |= {"peak": peak, "lr": peak, "weight_decay": config.weight_decay if matrix else 0.0}
    adamw = [group for (muon, *_), group in groups.items() if not muon]
    hidden = [group for (muon, *_), group in groups.items() if muon]
    if not groups:
        raise UsageError("optim.lr_scales freezes all parameters", hint="leave one part above 0")
    if config.optimizer == "muon" and not hidden:
        raise UsageError(
            f"optim.optimizer is muon, and the model has no matrix in {', '.join(_HIDDEN)} for Muon",
            hint="optim.optimizer=adamw",
        )
    return adamw, hidden


def _factor(name: str, config: OptimConfig) -> float:
    """The product of the factors of all parts that a parameter lies in."""
    modules = _modules(name)
    return prod(factor for part, factor in (config.lr_scales or {}).items() if _in_part(modules, part))


def _in_part(modules: Sequence[str], part: str) -> bool:
    """Whether a part, `vision` or `decoder.embedding`, is on the path of modules."""
    return f".{part}." in f".{'.'.join(modules)}."


def _modules(name: str) -> list[str]:
    """The modules that a parameter lies in, from the outermost."""
    return name.split(".")[:-1]


def _check_parts(model: nn.Module, config: OptimConfig) -> None:
    """UsageError where a part that the configuration names is none of the model."""
    paths = [_modules(name) for name, _ in model.named_parameters()]
    if config.backbone_lr_scale != 1 and not any(path[:1] == [_BACKBONE] for path in paths):
        raise UsageError(
            f"optim.backbone_lr_scale is {config.backbone_lr_scale}, and the model has no '{_BACKBONE}'",
            hint="leave optim.backbone_lr_scale out",
        )
    for part in config.lr_scales or {}:
        if not any(_in_part(path, part) for path in paths):
            parts = dict.fromkeys(name for path in paths for name in path if not name.isdigit())
            raise UsageError(
                f"optim.lr_scales: the model has no part '{part}'{nearest(part, list(parts))}",
                hint=f"its parts are {', '.join(parts)}",
            )


class Optimizers:
    """AdamW, and Muon for some matrices, as one; all state exists from the start, so it can be loaded.

    Of parameters that ranks share, each rank moves its share, and has the state of it alone.

    lr  AdamW's rate of the last step, where nothing scales it
    """

    def __init__(self, model: nn.Module, config: OptimConfig) -> None:
        adamw, muon = parameter_groups(model, config)
        names = {parameter: name for name, parameter in model.named_parameters()}
        # By what an optimiser moves: the parameter itself, or this rank's share of it.
        self._parameters: dict[Tensor, nn.Parameter] = {}
        for group in (*adamw, *muon):
            group["params"] = [self._moved(parameter) for parameter in group["params"]]
        self._names = {moved: names[parameter] for moved, parameter in self._parameters.items()}
        self._config, self.lr = config, config.lr
        self._adamw = torch.optim.AdamW(adamw, betas=config.betas, fused=True) if adamw else None
        self._muon = Muon(muon, self._parameters) if muon else None
        if self._adamw is not None:
            for parameter in _parameters(self._adamw):
                self._adamw.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        if self._muon is not None:
            for parameter in _parameters(self._muon):
                self._muon.state[parameter] = {"momentum_buffer": torch.zeros_like(parameter)}

    def step(self, finite: Tensor, multiplier: float) -> None:
        """Update at `multiplier` × the peak rates; if the device scalar `finite` is False nothing changes."""
        for moved, parameter in self._parameters.items():
            if moved is not parameter:
                moved.grad = None if parameter.grad is None else local(parameter.grad)
        for optimizer in filter(None, (self._adamw, self._muon)):
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * multiplier
        self.lr = self._config.lr * multiplier
        if self._adamw is not None:
            # The fused kernel leaves weights and state alone when told that a gradient overflowed.
            fused: Any = self._adamw
            fused.found_inf, fused.grad_scale = (~finite).float(), torch.ones((), device=finite.device)
            self._adamw.step()
        if self._muon is not None:
            self._muon.step(taken=finite)

    def zero_grad(self) -> None:
        for moved, parameter in self._parameters.items():
            moved.grad = parameter.grad = None

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every state tensor by the name of its parameter, to save and to load in place."""
        for optimizer in filter(None, (self._adamw, self._muon)):
            for parameter, state in optimizer.state.items():
                for key, value in state.items():
                    is_split = value.ndim > 0  # counts of steps are no shares
                    whole = split_as(value, self._parameters[parameter]) if is_split else value
                    yield f"{self._names[parameter]}/{key}", whole

    def _moved(self, parameter: nn.Parameter) -> nn.Parameter:
        mine = local(parameter.detach())
        moved = parameter if not isinstance(parameter, DTensor) else nn.Parameter(mine)
        self._parameters[moved] = parameter
        return moved


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
