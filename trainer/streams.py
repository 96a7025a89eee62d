"""Streams: what a rank takes of each step, as inputs of a model that are made before the loop needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
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


class Joined:
    """Several streams as one: of each step the rows of all of them.

    Inputs of a microbatch are those that `join` makes of those of each stream, by its name. What streams
    count by different names is apart; amounts of equal names are added up. `substitutions` are those of all,
    in the order in which they were found.
    """

    def __init__(self, streams: Mapping[str, Stream], join: Callable[[Mapping[str, Any]], Inputs]) -> None:
        self._streams, self._join = dict(streams), join
        self._seen = dict.fromkeys(self._streams, 0)
        self._substitutions: list[Any] = []

    @property
    def substitutions(self) -> Sequence[Any]:
        for name, stream in self._streams.items():
            found = stream.substitutions
            self._substitutions += found[self._seen[name] :]
            self._seen[name] = len(found)
        return self._substitutions

    def __enter__(self) -> Joined:
        return self

    def __exit__(self, *error: object) -> None:
        with ExitStack() as stack:  # all are closed, also where closing one fails
            for stream in self._streams.values():
                stack.push(stream.__exit__)

    def __iter__(self) -> Iterator[Prepared]:
        return self

    def __next__(self) -> Prepared:
        return self._joined({name: next(stream) for name, stream in self._streams.items()})

    def batch(self, b: int) -> Prepared:
        return self._joined({name: stream.batch(b) for name, stream in self._streams.items()})

    def state_dict(self) -> dict[str, Any]:
        states = {name: stream.state_dict() for name, stream in self._streams.items()}
        mixtures = {name: state["mixture_id"] for name, state in states.items()}
        [b] = {state["b"] for state in states.values()}
        return {"b": b, "mixture_id": mixtures, "streams": states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, stream in self._streams.items():
            stream.load_state_dict({**state["streams"][name], "b": state["b"]})
        self._seen = dict.fromkeys(self._streams, 0)
        self._substitutions = []

    def _joined(self, of: Mapping[str, Prepared]) -> Prepared:
        first, *others = of.values()
        counts: dict[str, int] = {}
        sizes: dict[str, float] = {}
        for name, prepared in of.items():
            if twice := counts.keys() & prepared.counts.keys():
                raise ValueError(f"the stream {name} counts {', '.join(sorted(twice))} as another one does")
            counts |= prepared.counts
            for size, amount in prepared.sizes.items():
                sizes[size] = sizes.get(size, 0.0) + amount
        if any((other.step, len(other.inputs)) != (first.step, len(first.inputs)) for other in others):
            raise ValueError("the joined streams are not at one step, in equally many microbatches")
        microbatches = zip(*(prepared.inputs for prepared in of.values()), strict=True)
        inputs = tuple(self._join(dict(zip(of, parts, strict=True))) for parts in microbatches)
        return Prepared(first.step, inputs, counts, sizes)


# Of a batch and the inputs of its microbatches: amounts by name, the same names for each batch.
Amounts = Callable[[Any, Sequence[Any]], Mapping[str, float]]


@dataclass(frozen=True)
class Preparation:
    """From a rank's batch to what the loop takes; a function of the batch alone, that any thread may call."""

    inputs_of: Callable[[Any], Inputs]
    amounts: Amounts | None = None  # what its rows stand for beside `Rows.sizes`
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
                hint="choose the global_batch of each stream as a multiple of ranks × run.accumulate",
            )
        parts = (batch.rows(slice(i * size, (i + 1) * size)) for i in range(self.accumulate))
        inputs = tuple(self.inputs_of(part) for part in parts)
        more = {} if self.amounts is None else self.amounts(batch, inputs)
        if self.pinned:
            inputs = tuple(one.pin_memory() for one in inputs)
        return Prepared(batch.step, inputs, batch.counts, {**batch.sizes, **more})
