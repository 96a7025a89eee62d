"""The training loop. It knows no modality: inputs become named losses, each a sum and a count."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.trainer.metering import phases
from robot_foundry.trainer.metering.phases import Phases
from robot_foundry.trainer.metering.sinks import Sink
from robot_foundry.trainer.meters import Meters
from robot_foundry.trainer.models.layers.by_dataset import separated
from robot_foundry.trainer.optim.average import Ema
from robot_foundry.trainer.optim.optimizers import Optimizers
from robot_foundry.trainer.optim.spikes import Spikes
from robot_foundry.trainer.ranks.numerics import autocast
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.ranks.shares import whole
from robot_foundry.trainer.signals import StopFlag
from robot_foundry.trainer.streams import Prepared


class Replaced(Protocol):
    """Samples that were read in the place of damaged ones: how many are new, and how all ranks take note."""

    @property
    def total(self) -> int: ...
    def new(self) -> int: ...
    def take(self, seen: int) -> None: ...


class Save(Protocol):
    """Writes the checkpoint of a step; `figures` go into the records."""

    def __call__(self, step: int) -> None: ...
    def figures(self) -> dict[str, float]: ...


@dataclass(frozen=True)
class StepPlan:
    """Lengths and intervals, in optimiser steps, and how one step is taken."""

    num_steps: int
    global_batch: int
    log_every: int
    save_every: int
    eval_every: int | None
    clip: float
    precision: str
    schedule: Callable[[int], float]
    loss_weights: Mapping[str, float] = field(default_factory=dict)  # 1 for those that are not named


@dataclass(frozen=True)
class RunParts:
    """What a run is made of. `model` is the wrapped one."""

    ranks: Ranks
    model: nn.Module
    optimizers: Optimizers
    ema: Ema | None
    spikes: Spikes | None
    replaced: Replaced
    meters: Meters
    sink: Sink
    phases: Phases
    save: Save
    evaluate: Callable[[], dict[str, float]]
    advance: Callable[[], None]


def train(parts: RunParts, plan: StepPlan, batches: Iterator[Prepared], start: int, stop: StopFlag) -> int:
    """Run optimiser steps `start` … `num_steps`-1; returns the step reached, less when a stop was requested.

    A checkpoint is begun at each interval, at the end and at a stop.
    """
    for step in range(start, plan.num_steps):
        parts.phases.enter(phases.DATA)
        begin = time.perf_counter()
        batch = next(batches)
        parts.meters.waited(time.perf_counter() - begin)
        parts.phases.enter(phases.RANKS)
        counts, stopped, replaced = parts.ranks.exchange(
            batch.counts, stop.requested is not None, parts.replaced.new()
        )
        if stopped:
            if parts.meters.pending:
                parts.sink.write(record(parts, step, lr=parts.optimizers.lr))
            parts.phases.enter(phases.CHECKPOINT)
            parts.save(step)
            return step
        if replaced:
            parts.replaced.take((step + 1) * plan.global_batch)
        loss, norm = gradients(parts, plan, batch, counts)
        parts.phases.enter(phases.OPTIMIZER)
        usual = parts.spikes
        taken = torch.isfinite(norm) if usual is None else usual(parts.ranks.total(loss), norm)
        parts.optimizers.step(taken, plan.schedule(step))
        if parts.ema is not None:
            parts.ema.update(step, taken)
        parts.meters.step(
            samples=plan.global_batch, counts=batch.counts, sizes=batch.sizes, norm=norm, taken=taken
        )
        parts.phases.ended(step + 1)
        parts.advance()
        parts.ranks.reached(step + 1)
        kill_point("train-step")
        report(parts, plan, step + 1)
    return plan.num_steps


def gradients(
    parts: RunParts, plan: StepPlan, batch: Prepared, counts: Mapping[str, int]
) -> tuple[Tensor, Tensor]:
    """Accumulate the clipped gradient of Σ weight · sum / global count; returns this rank's part of that sum,
    and the norm. A loss that the batches do not count is as it is: `Meters.record` refuses it."""
    parts.optimizers.zero_grad()
    loss = torch.zeros((), device=parts.ranks.device)
    for i, inputs in enumerate(batch.inputs, start=1):
        parts.phases.enter(phases.FORWARD)
        with parts.ranks.grad_sync(parts.model, on=i == len(batch.inputs)):
            with autocast(parts.ranks.device, plan.precision):
                losses, by_dataset = separated(parts.model(inputs.to(parts.ranks.device)))
            # Gradients are means over ranks, so each rank's share is scaled up by their number.
            weights = plan.loss_weights
            terms = [
                weights.get(name, 1.0) * (total / max(counts.get(name, 0), 1))
                for name, (total, _) in losses.items()
            ]
            share = torch.stack(terms).sum()
            parts.phases.enter(phases.BACKWARD)
            (share * parts.ranks.size).backward()
            loss += share.detach()
        parts.meters.losses(losses, by_dataset)
    norm = whole(torch.nn.utils.clip_grad_norm_(parts.model.parameters(), plan.clip))
    return loss, norm


def report(parts: RunParts, plan: StepPlan, done: int) -> None:
    """Records, held-out losses and checkpoints that are due after `done` steps."""
    last = done == plan.num_steps
    saving = last or done % plan.save_every == 0
    if saving or done % plan.log_every == 0:
        parts.phases.enter(phases.RECORD)
        parts.sink.write(record(parts, done, lr=parts.optimizers.lr))
    if last or (plan.eval_every is not None and done % plan.eval_every == 0):
        parts.phases.enter(phases.HELD_OUT)
        held_out = parts.evaluate()
        if held_out:
            parts.sink.write({"step": done, **held_out})
    if saving:
        parts.phases.enter(phases.CHECKPOINT)
        parts.save(done)


def record(parts: RunParts, step: int, **extra: float) -> dict[str, Any]:
    """What happened since the last record, with the totals of the whole run."""
    if parts.spikes is not None:
        extra["spikes"] = parts.spikes.count
    return parts.meters.record(step, substituted=parts.replaced.total, **extra, **parts.save.figures())
