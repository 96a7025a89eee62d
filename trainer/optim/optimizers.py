"""Optimisers whose step can be skipped on the device, and the running average of weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from robot_foundry.trainer.optim.muon import Muon
from robot_foundry.trainer.tasks.vla.config import OptimConfig

# Hidden matrices: blocks, and what brings pictures to them. Embeddings and both ends of the head are not.
_HIDDEN = (".blocks.", ".stem.", ".projector.")


def parameter_groups(model: nn.Module, config: OptimConfig) -> tuple[list[dict], list[dict]]:
    """Parameters by learning rate and decay: groups for AdamW and groups for Muon.

    Matrices decay; vectors and embeddings do not. Muon takes hidden matrices, convolutions among them.
    """
    groups: dict[tuple[bool, bool, bool], dict] = {}
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim >= 2 and "embedding" not in name and "position" not in name
        muon = config.optimizer == "muon" and matrix and any(part in name for part in _HIDDEN)
        backbone = name.startswith("backbone.")
        group = groups.setdefault((muon, backbone, matrix), {"params": []})
        group["params"].append(parameter)
        peak = (config.muon_lr if muon else config.lr) * (config.backbone_lr_scale if backbone else 1.0)
        group |= {"peak": peak, "lr": peak, "weight_decay": config.weight_decay if matrix else 0.0}
    return [g for key, g in groups.items() if not key[0]], [g for key, g in groups.items() if key[0]]


class Optimizers:
    """AdamW, and Muon for some matrices, as one; all state exists from the start, so it can be loaded."""

    def __init__(self, model: nn.Module, config: OptimConfig) -> None:
        adamw, muon = parameter_groups(model, config)
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
        self._adamw = torch.optim.AdamW(adamw, betas=config.betas, fused=True)
        self._muon = Muon(muon) if muon else None
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
        for optimizer in filter(None, (self._adamw, self._muon)):
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * multiplier
        # The fused kernel leaves weights and state alone when told that a gradient overflowed.
        fused: Any = self._adamw
        fused.found_inf, fused.grad_scale = (~finite).float(), torch.ones((), device=finite.device)
        self._adamw.step()
        if self._muon is not None:
            kept = [*_parameters(self._muon), *(s["momentum_buffer"] for s in self._muon.state.values())]
            before = [tensor.detach().clone() for tensor in kept]
            self._muon.step()
            with torch.no_grad():
                for tensor, old in zip(kept, before, strict=True):
                    tensor.copy_(torch.where(finite, tensor, old))

    @property
    def lr(self) -> float:
        """AdamW's rate of the last step, where nothing scales it."""
        return max(float(group["lr"]) for group in self._adamw.param_groups)

    def zero_grad(self) -> None:
        self._adamw.zero_grad()
        if self._muon is not None:
            self._muon.zero_grad()

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every state tensor by the name of its parameter, to save and to load in place."""
        for optimizer in filter(None, (self._adamw, self._muon)):
            for parameter, state in optimizer.state.items():
                for key, value in state.items():
                    yield f"{self._names[parameter]}/{key}", value


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


class Ema:
    """Moving average of weights in fp32; after n updates the decay is min(maximum, 1 - (1 + n)^-power)."""

    def __init__(self, model: nn.Module, *, power: float, maximum: float) -> None:
        self._power, self._maximum = power, maximum
        self._live = [parameter for _, parameter in model.named_parameters()]
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, step: int, finite: Tensor) -> None:
        """Take in the weights after optimiser step `step` (0 the first), unless `finite` is False."""
        weight = 1 - min(self._maximum, 1 - (2 + step) ** -self._power)
        # On the device: no step waits for the host to look. No foreach kernel takes a weight from there.
        weight_or_0 = finite * weight
        for average, live in zip(self.weights.values(), self._live, strict=True):
            average.lerp_(live.detach(), weight_or_0)
