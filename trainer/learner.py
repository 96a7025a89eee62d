"""The model of a run and what moves its weights, filled with the first weights or those of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

from torch import Tensor, nn

from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.checkpoints.resume import Start
from robot_foundry.trainer.optim.optimizers import Ema, Optimizers
from robot_foundry.trainer.ranks.agreement import everywhere
from robot_foundry.trainer.ranks.ranks import World
from robot_foundry.trainer.tasks.vla.build import build_model, geometry
from robot_foundry.trainer.tasks.vla.resolve import Job


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
        """Every tensor of a checkpoint, by name."""
        found = {f"model/{name}": parameter.detach() for name, parameter in self.model.named_parameters()}
        found |= {f"optim/{name}": tensor for name, tensor in self.optimizers.tensors()}
        return found | {
            f"ema/{name}": tensor for name, tensor in (self.ema.weights if self.ema else {}).items()
        }


def build_learner(job: Job, start: Start, peers: World) -> tuple[Learner, tuple[str, ...]]:
    """Filled with the first weights or those of the checkpoint, and notes about the first ones."""
    config = job.config
    model = build_model(config.model, geometry(config, job.spaces), config.seed)
    fresh: tuple[str, ...] = ()
    if job.origin is not None and start.folder is None:
        fresh = everywhere(peers, partial(job.origin.load_weights, model, job.spaces, config.init.only))
    model.to(peers.device)
    optim = config.optim
    ema = Ema(model, power=optim.ema_power, maximum=optim.ema_max) if optim.ema_max else None
    learner = Learner(model, Optimizers(model, optim), ema)
    if start.folder is not None:
        everywhere(peers, partial(checkpoint.load, start.folder, learner.tensors))
    return learner, fresh
