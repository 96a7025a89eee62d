"""What a task says, so that every run trains it alike; nothing else in a run knows what is learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from robot_foundry.trainer.checkpoints.resume import Resumable
from robot_foundry.trainer.checkpoints.saving import Described
from robot_foundry.trainer.evaluate import HeldOutSums
from robot_foundry.trainer.optim.optimizers import OptimConfig
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.settings import RunConfig
from robot_foundry.trainer.streams import Stream


class TaskConfig(Protocol):
    """What the configuration of any task has."""

    @property
    def name(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def optim(self) -> OptimConfig: ...
    @property
    def run(self) -> RunConfig: ...
    @property
    def global_batch(self) -> int: ...


class Task(Resumable, Protocol):
    """What a run learns, resolved: its data found, nothing measured, read or made of it yet.

    It is equal on all ranks, or the run does not start. Values that it gives as JSON are plain dicts.
    """

    @property
    def config(self) -> TaskConfig: ...

    @property
    def origin(self) -> Any:
        """What its first weights come from; None where they are random."""

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """By name of the loss its factor in what is learnt; 1 where there is none."""

    def measure(self, *, quiet: bool) -> dict[str, Any]:
        """What a run that starts needs to know of its data, as JSON. The main rank alone asks."""

    def measures_in(self, checkpoint: Path) -> dict[str, Any]:
        """What the run of a checkpoint measured when it started."""

    def measured(self, measures: Mapping[str, Any]) -> MeasuredTask:
        """The task with what was measured."""

    def build_model(self) -> nn.Module:
        """The model, on the default device, with no values yet.

        `forward(inputs)` gives each of its losses by name, as the sum over what counts, and its count, which
        must be that of the batches. What `models.layers.initial` says begins its parameters.
        """

    def take_origin(self, model: nn.Module) -> tuple[str, ...]:
        """Fill what begins with the weights of another run, if any does; returns notes on what does not."""

    def equip(self, model: nn.Module, ranks: Ranks) -> AbstractContextManager[tuple[str, ...]]:
        """Around training, the model, which has its weights, with what it takes from outside; gives notes."""


class MeasuredTask(Described, Protocol):
    """What a run learns, and all that it needs of its data before the first step."""

    @property
    def digest(self) -> dict[str, str]:
        """By name what must be equal on all ranks beside the identity."""

    def warnings(self) -> list[str]:
        """What in the data may be a reason not to train. The main rank alone asks."""

    @property
    def datasets(self) -> Mapping[str, Sequence[str]]:
        """The datasets of each loss that its inputs tell by dataset, in their order."""

    @property
    def held_out_samples(self) -> int:
        """How many samples of the held-out stream, from its first, a held-out loss is of."""

    def open_stream(self, split: str, ranks: Ranks) -> Stream:
        """The rank's batches of a split, prepared; NothingSelected where it has no samples."""

    def figures(self, sums: HeldOutSums) -> dict[str, float]:
        """What it says of held-out samples beside their losses, by name."""
