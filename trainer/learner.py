"""The model of a run and what moves its weights, filled with the first weights or those of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

from torch import Tensor, nn

from robot_foundry.trainer.checkpoints import tensors
from robot_foundry.trainer.checkpoints.resume import Start
from robot_foundry.trainer.models.layers.initial import initialise
from robot_foundry.trainer.optim.average import Ema
from robot_foundry.trainer.optim.optimizers import Optimizers, freeze
from robot_foundry.trainer.ranks.agreement import everywhere
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.tasks.task import Task


@dataclass(frozen=True)
class Learner:
    """The model and all that moves its weights."""

    model: nn.Module
    optimizers: Optimizers
    ema: Ema | None

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
        return weights | {f"{tensors.EMA}{name}": tensor for name, tensor in averages.items()}


def build_learner(task: Task, start: Start, ranks: Ranks) -> tuple[Learner, tuple[str, ...]]:
    """Filled with the first weights or those of the checkpoint, and notes about the first ones.

    The model is made without memory and given it as the ranks hold it; only then come values, and what is as
    large as they are.
    """
    model = ranks.place(task.build_model)
    notes: tuple[str, ...] = ()
    if start.folder is None:
        initialise(model, task.config.seed)
        notes = everywhere(ranks, partial(task.take_origin, model))
    optim = task.config.optim
    freeze(model, optim)
    ema = Ema(model, power=optim.ema_power, maximum=optim.ema_max) if optim.ema_max else None
    learner = Learner(model, Optimizers(model, optim), ema)
    if start.folder is not None:
        everywhere(ranks, partial(tensors.load, start.folder, learner.tensors))
    return learner, notes
