"""What a run of a recipe takes, without its data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import nn

from robot_foundry.trainer.memory import GpuMemory, StateBytes
from robot_foundry.trainer.models.sizes.communication import Traffic, strategies
from robot_foundry.trainer.models.sizes.cost import TokenCost
from robot_foundry.trainer.models.sizes.picture_cost import PictureCost
from robot_foundry.trainer.tasks.task import TaskConfig


@dataclass(frozen=True)
class Tokens:
    """Where a sample is a row of tokens: what one costs, and how many a run takes."""

    length: int  # of a row
    cost: TokenCost
    in_run: int


@dataclass(frozen=True)
class BesideCost:
    """A stream of rows that is learnt beside that of a run; `picture` where its rows have pictures."""

    rows: int  # an optimiser step
    tokens: Tokens
    picture: PictureCost | None = None


@dataclass(frozen=True)
class RunCost:
    """What a run takes of arithmetic and memory."""

    name: str
    assumed: str | None  # of the data, where the size of the model depends on it
    global_batch: int
    accumulate: int
    precision: str
    parameters: Mapping[str, int]  # by part; `total` is the last
    tokens: Tokens | None
    state: StateBytes
    memory: tuple[GpuMemory, ...]
    picture: PictureCost | None = None  # where rows have pictures
    beside: Mapping[str, BesideCost] = field(default_factory=dict)  # by the name of the stream
    traffic: tuple[Traffic, ...] = ()  # between ranks, by number of GPUs and ways to share weights


def traffic_of(model: nn.Module, config: TaskConfig, memory: Iterable[GpuMemory]) -> tuple[Traffic, ...]:
    """For each number of GPUs of which the memory is told, but one alone."""
    optim, precision = config.optim, config.run.precision
    numbers = [row.gpus for row in memory if row.gpus > 1]
    return tuple(one for number in numbers for one in strategies(model, optim, precision, number))
