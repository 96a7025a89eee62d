"""What every task that learns from a mixture says alike."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.tasks import run_identity


@dataclass(frozen=True)
class MixtureTask:
    """The part of a task (see `tasks.task.Task`) that follows from its configuration and its mixture.

    `origin` is what its first weights come from, with the `id` of these weights; None where they are random,
    or where it is gone and the run no longer needs it. `notes` are told to the user.
    """

    config: Any
    opened: OpenMixture
    notes: tuple[str, ...]
    origin: Any = field(default=None, kw_only=True)

    @property
    def mixture(self) -> Mixture:
        return self.opened.mixture

    @property
    def run_dir(self) -> Path:
        return Path(self.config.run.dir or self.default_dir)

    @property
    def default_dir(self) -> str:
        """The folder of the run where its configuration names none."""
        return run_identity.default_dir(self.config, self.mixture.id)

    @property
    def num_steps(self) -> int:
        steps: int = self.config.num_steps
        return steps

    @property
    def loss_weights(self) -> Mapping[str, float]:
        return {}

    def equip(self, model: nn.Module, ranks: Ranks) -> AbstractContextManager[tuple[str, ...]]:
        return nullcontext(())

    @property
    def identity(self) -> dict[str, Any]:
        origin = None if self.origin is None else self.origin.id
        return run_identity.identity(self.mixture, run_identity.decisive(self.config), origin)

    @property
    def defaults(self) -> Any:
        """The configuration of its kind in which nothing is said."""
        return type(self.config)()

    def completed(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        before = run_identity.completed(identity, self.defaults)
        if self.origin is None and self.config.init.begins:
            before.pop("origin", None)  # it is gone, and no longer needed
        return before
