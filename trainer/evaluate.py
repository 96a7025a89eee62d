"""Losses on held-out samples while a run trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from robot_foundry.loader.load import Loader
from robot_foundry.trainer.learner import Learner
from robot_foundry.trainer.loop import autocast
from robot_foundry.trainer.ranks.ranks import World
from robot_foundry.trainer.substitutes import HELD_OUT, Substitutes
from robot_foundry.trainer.tasks.vla.config import Config


def evaluate(
    learner: Learner,
    held_out: Loader | None,
    replaced: Substitutes,
    prepare: Callable[[Any], Any],
    peers: World,
    config: Config,
) -> dict[str, float]:
    """Losses of the averaged weights on the first held-out samples, with equal noise; {} without any."""
    if held_out is None:
        return {}
    batches = -(-config.run.eval_samples // config.data.global_batch)
    weights = dict(learner.averaged)
    sums: dict[str, Tensor] = {}
    with torch.no_grad(), autocast(peers, config.run.precision):
        for b in range(batches):
            for name, pair in functional_call(learner.model, weights, (prepare(held_out.batch(b)),)).items():
                sums[name] = sums.get(name, 0) + torch.stack([value.double() for value in pair]).cpu()
    if int(peers.sum(torch.tensor([replaced.new(HELD_OUT)]))):
        replaced.take(batches * config.data.global_batch, HELD_OUT)
    means = {}
    for name in sorted(sums):
        total, count = peers.sum(sums[name]).tolist()
        means[f"held_out/{name}"] = total / max(count, 1)
    return {"held_out": sum(means.values()), **means, "held_out_substituted": replaced.counts[HELD_OUT]}
