"""A loop that trains the model of a task and does nothing else: forward, backward, clip, step.

Its batches lie ready; there is no record, no average of weights, nothing that skips a step, no checkpoint.
It computes in the precision and with the determinism of the run.
"""

from __future__ import annotations

from itertools import cycle
from typing import Any

import torch
from torch import nn

from compared.turns import Loop, Taken, Turn
from robot_foundry.trainer.models.layers.initial import allocated, initialise
from robot_foundry.trainer.optim.muon import Muon
from robot_foundry.trainer.optim.optimizers import parameter_groups
from robot_foundry.trainer.ranks.numerics import autocast, numerics
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.streams import TRAIN, Prepared

READY = 16  # batches


def bare_loop(task: Any, device: torch.device) -> Loop:
    """Of a resolved task, on the same data with the same optimisers."""
    config = task.config
    model: nn.Module = initialise(allocated(task.build_model, device), seed=0)
    adamw, muon = parameter_groups(model, config.optim)
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(adamw, betas=config.optim.betas, fused=True)]
    if muon:
        optimizers.append(Muon(muon))
    batches = cycle(ready(task, device))

    def step() -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        for inputs in next(batches).inputs:
            with autocast(device, config.run.precision):
                losses = model(inputs.to(device))
            torch.stack([total / count for total, count in losses.values()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip)
        for optimizer in optimizers:
            optimizer.step()

    def steps(count: int) -> Turn:
        taken = []
        with numerics(config.run.determinism):
            for _ in range(count):
                begin = Taken.now()
                step()
                taken.append(Taken.now().since(begin))
        return taken

    return steps


def ready(task: Any, device: torch.device, count: int = READY) -> list[Prepared]:
    """The first batches of a task."""
    ranks = Ranks(0, 1, device)
    with task.measured(task.measure(quiet=True)).open_stream(TRAIN, ranks) as stream:
        return [stream.batch(b) for b in range(count)]
