"""Streams: what a rank takes of each step, as inputs of a model that are made before the loop needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch

from robot_foundry.runtime.errors import FoundryError

TRAIN, HELD_OUT = "train", "held_out"  # the splits of a run


class Inputs(Protocol):
    """The tensors that a model takes of some rows."""

    def to(self, device: torch.device) -> Self: ...
    def pin_memory(self) -> Self: ...


class Rows(Protocol):
    """What is asked of a batch: its step, slices of itself, and on the host what counts in it.

    counts  by name of the loss
    sizes   further amounts that its rows stand for, by name (tokens, bytes); the same names in each
    """

    @property
    def step(self) -> int: ...
    @property
    def counts(self) -> Mapping[str, int]: ...
    @property
    def sizes(self) -> Mapping[str, float]: ...
    def __len__(self) -> int: ...
    def rows(self, rows: slice) -> Rows: ...


@dataclass(frozen=True)
class Prepared:
    """One rank's part of an optimiser step, on the CPU.

    inputs  of each microbatch, in page-locked memory where they go to a GPU
    counts  what of the rank's rows counts, by name of the loss
    sizes   what else they stand for, by name
    """

    step: int
    inputs: tuple[Inputs, ...]
    counts: Mapping[str, int]
    sizes: Mapping[str, float]


class Stream(Protocol):
    """This rank's rows of the optimiser steps b, b + 1, … of one split; `batch(b)` gives any one.

    state_dict, load_state_dict  where it stands: `b`, and whose order it is, `mixture_id` among it
    substitutions                what was read in the place of damaged samples so far
    """

    @property
    def substitutions(self) -> Sequence[Any]: ...
    def __enter__(self) -> Stream: ...
    def __exit__(self, *_: object) -> None: ...
    def __iter__(self) -> Iterator[Prepared]: ...
    def __next__(self) -> Prepared: ...
    def batch(self, b: int) -> Prepared: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Preparation:
    """From a rank's batch to what the loop takes; a function of the batch alone, that any thread may call."""

    inputs_of: Callable[[Any], Inputs]
    taken: Callable[[Any], Rows] | None = None  # what of a batch is used, where it is not all
    accumulate: int = 1  # microbatches
    pinned: bool = False  # whether the inputs go to a GPU

    def __call__(self, batch: Rows) -> Prepared:
        if self.taken is not None:
            batch = self.taken(batch)
        size, rest = divmod(len(batch), self.accumulate)
        if rest:
            raise FoundryError(
                f"the {len(batch)} samples of a rank do not divide into run.accumulate={self.accumulate} "
                "microbatches",
                hint="choose data.global_batch as a multiple of ranks × run.accumulate",
            )
        parts = (batch.rows(slice(i * size, (i + 1) * size)) for i in range(self.accumulate))
        inputs = tuple(self.inputs_of(part) for part in parts)
        if self.pinned:
            inputs = tuple(one.pin_memory() for one in inputs)
        return Prepared(batch.step, inputs, batch.counts, batch.sizes)
