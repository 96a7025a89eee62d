"""Losses on held-out samples while a run trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from robot_foundry.trainer.ranks.numerics import autocast
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.streams import HELD_OUT, Stream
from robot_foundry.trainer.substitutes import Substitutes


@dataclass(frozen=True)
class EvaluationSettings:
    """When held-out losses are taken, and of how many samples."""

    eval_every: int | None = None  # held-out loss; always once at the end
    eval_samples: int = 256


@dataclass(frozen=True)
class HeldOut:
    """The held-out samples of a run: called with weights, it gives their losses."""

    stream: Stream | None
    replaced: Substitutes
    ranks: Ranks
    samples: int
    global_batch: int
    precision: str

    def losses(self, model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Losses of the model with `weights` on the first samples, with equal noise; {} without any."""
        if self.stream is None:
            return {}
        batches = -(-self.samples // self.global_batch)
        sums: dict[str, Tensor] = {}
        with torch.no_grad(), autocast(self.ranks.device, self.precision):
            for b in range(batches):
                for inputs in self.stream.batch(b).inputs:
                    losses = functional_call(model, dict(weights), (inputs.to(self.ranks.device),))
                    for name, pair in losses.items():
                        sums[name] = sums.get(name, 0) + torch.stack([v.double() for v in pair]).cpu()
        if int(self.ranks.sum(torch.tensor([self.replaced.new(HELD_OUT)]))):
            self.replaced.take(batches * self.global_batch, HELD_OUT)
        means = {}
        for name in sorted(sums):
            total, count = self.ranks.sum(sums[name]).tolist()
            means[f"held_out/{name}"] = total / max(count, 1)
        return {
            "held_out": sum(means.values()),
            **means,
            "held_out_substituted": self.replaced.counts[HELD_OUT],
        }
