"""The model of a run and what moves its weights, filled with the first weights or those of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

from torch import Tensor, nn

from robot_foundry.trainer.checkpoints import tensors
from robot_foundry.trainer.checkpoints.resume import Start
from robot_foundry.trainer.models.layers.initial import initialise
from robot_foundry.trainer.models.units import recompute
from robot_foundry.trainer.optim.average import Ema
from robot_foundry.trainer.optim.optimizers import Optimizers, freeze
from robot_foundry.trainer.optim.spikes import Spikes
from robot_foundry.trainer.ranks.agreement import everywhere
from robot_foundry.trainer.ranks.compiling import compile_units
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.tasks.task import Task


@dataclass(frozen=True)
class Learner:
    """The model and all that moves its weights."""

    model: nn.Module
    optimizers: Optimizers
    ema: Ema | None
    spikes: Spikes | None

    @property
    def averaged(self) -> Mapping[str, Tensor]:
        """The weights that are evaluated."""
        return self.ema.weights if self.ema else dict(self.model.named_parameters())

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of a checkpoint, by name; what is frozen is there once."""
        weights = {f"{tensors.MODEL}{name}": p.detach() for name, p in self.model.named_parameters()}
        weights |= {f"{tensors.OPTIM}{name}": tensor for name, tensor in self.optimizers.tensors()}
        averages = self.ema.averages if self.ema else {}
        usual = self.spikes.tensors if self.spikes else {}
        weights |= {f"{tensors.EMA}{name}": tensor for name, tensor in averages.items()}
        return weights | {f"{tensors.SPIKES}{name}": tensor for name, tensor in usual.items()}

    @property
    def frozen(self) -> frozenset[str]:
        """Names of those of `tensors` that never change."""
        named = self.model.named_parameters()
        return frozenset(f"{tensors.MODEL}{name}" for name, p in named if not p.requires_grad)


def build_learner(task: Task, start: Start, ranks: Ranks) -> tuple[Learner, tuple[str, ...]]:
    """Filled with the first weights or those of the checkpoint, and notes about the first ones.

    The model is made without memory and given it as the ranks hold it; only then come values, and what is as
    large as they are. Where others' weights fill it, and ranks share it, each rank fills it whole first.
    """
    config = task.config
    notes: list[str] = []

    def begin(model: nn.Module) -> None:
        initialise(model, config.seed)
        notes.extend(everywhere(ranks, partial(task.take_origin, model)))

    begins_whole = start.folder is None and task.origin is not None
    model = ranks.place(task.build_model, config.run.precision, begin if begins_whole else None)
    if start.folder is None and not begins_whole:
        begin(model)
    if config.run.compile:
        everywhere(ranks, partial(compile_units, model, ranks.device, config.run.determinism))
    if config.run.recompute:
        recompute(model)
    optim = config.optim
    freeze(model, optim)
    ema = Ema(model, power=optim.ema_power, maximum=optim.ema_max) if optim.ema_max else None
    limit = optim.max_sigmas
    spikes = None if limit is None else Spikes(limit, ranks.device)
    learner = Learner(model, Optimizers(model, optim), ema, spikes)
    if start.folder is not None:
        everywhere(ranks, partial(tensors.load, start.folder, learner.tensors))
    return learner, tuple(notes)
