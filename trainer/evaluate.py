"""Losses on held-out samples while a run trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robot_foundry.trainer.meters import weighted
from robot_foundry.trainer.ranks.numerics import autocast
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.ranks.sharding import let_go
from robot_foundry.trainer.ranks.shares import local
from robot_foundry.trainer.streams import HELD_OUT, Stream
from robot_foundry.trainer.substitutes import Substitutes


@dataclass(frozen=True)
class EvaluationSettings:
    """When held-out losses are taken, and of how many samples."""

    eval_every: int | None = None  # held-out loss; always once at the end
    eval_samples: int = 256


@dataclass(frozen=True)
class HeldOutSums:
    """Over held-out samples, by name: sums of the losses, what counts in each, what else they stand for.

    `sizes` are those of the batches (see `streams.Rows`).
    """

    losses: Mapping[str, float]
    counts: Mapping[str, float]
    sizes: Mapping[str, float]


@dataclass(frozen=True)
class HeldOut:
    """The held-out samples of a run: called with weights, it gives their losses.

    `figures` makes of the sums what the task says beside the losses, by names of its own.
    """

    stream: Stream | None
    replaced: Substitutes
    ranks: Ranks
    samples: int
    global_batch: int
    precision: str
    figures: Callable[[HeldOutSums], Mapping[str, float]]
    loss_weights: Mapping[str, float] = field(default_factory=dict)  # 1 for those that are not named

    def losses(self, model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Losses of the model with `weights` on the first samples, with equal noise; {} without any."""
        if self.stream is None:
            return {}
        batches = -(-self.samples // self.global_batch)
        sums = self._sums(self.stream, batches, model, weights)
        if int(self.ranks.sum(torch.tensor([self.replaced.new(HELD_OUT)]))):
            self.replaced.take(batches * self.global_batch, HELD_OUT)
        means = {name: total / max(sums.counts[name], 1) for name, total in sums.losses.items()}
        return {
            "held_out": weighted(means, self.loss_weights),
            **{f"held_out/{name}": mean for name, mean in means.items()},
            **self.figures(sums),
            "held_out_substituted": self.replaced.counts[HELD_OUT],
        }

    def _sums(
        self, stream: Stream, batches: int, model: nn.Module, weights: Mapping[str, Tensor]
    ) -> HeldOutSums:
        """Those of the first batches, over all ranks."""
        pairs: dict[str, Tensor] = {}
        sizes: dict[str, float] = {}
        with torch.no_grad(), exchanged(model, weights), autocast(self.ranks.device, self.precision):
            for b in range(batches):
                batch = stream.batch(b)
                for inputs in batch.inputs:
                    losses = model(inputs.to(self.ranks.device))
                    for name, pair in losses.items():
                        pairs[name] = pairs.get(name, 0) + torch.stack([v.double() for v in pair]).cpu()
                for name, size in batch.sizes.items():
                    sizes[name] = sizes.get(name, 0.0) + size
        totals = {name: self.ranks.sum(pairs[name]).tolist() for name in sorted(pairs)}
        names = sorted(sizes)
        summed = self.ranks.sum(torch.tensor([sizes[name] for name in names], dtype=torch.float64)).tolist()
        return HeldOutSums(
            {name: total for name, (total, _) in totals.items()},
            {name: count for name, (_, count) in totals.items()},
            dict(zip(names, summed, strict=True)),
        )


@contextmanager
def exchanged(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, the model has these weights, by the names of its parameters; its own, to the bit, afterwards.

    They are copied, as FSDP2 knows parameters by their memory.
    """
    own = {name: local(parameter.detach()) for name, parameter in model.named_parameters()}
    other = {name: local(weights[name]) for name in own}
    before = {name: mine.clone() for name, mine in own.items() if mine.data_ptr() != other[name].data_ptr()}
    try:
        for name in before:
            own[name].copy_(other[name])
        yield
    finally:
        let_go(model)  # what was gathered of these weights
        for name, kept in before.items():
            own[name].copy_(kept)
