"""The streams that a run draws from: mixtures, each with rows of its own a step, joined where there are some.

Each has its own order, a function of its mixture, rows and the seed: another stream beside it changes none.
Nothing here knows which kind of data a stream is of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.loader.kind import SampleSettings
from robot_foundry.runtime.errors import NothingSelected, UsageError
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.streams import TRAIN, Amounts, Inputs, Joined, Rows, Stream
from robot_foundry.trainer.tasks import mixtures
from robot_foundry.trainer.tasks.datasets import dataset_names
from robot_foundry.trainer.tasks.mixtures import BatchSettings


@dataclass(frozen=True)
class Drawn:
    """One stream.

    section    of the recipe that says how much is drawn: data.text
    samples    what a sample is
    inputs_of  makes what the model takes of some rows
    until      of a batch and `k`: the batch with nothing in the rows at or behind that position of the order
    used       what of a batch is used, where it is not all
    amounts    what rows stand for beside their sizes
    loss       the loss that is told by dataset, None where it cannot be
    """

    section: str
    opened: OpenMixture
    samples: SampleSettings
    batch: BatchSettings
    inputs_of: Callable[[Any], Inputs]
    until: Callable[..., Rows]
    used: Callable[[Any], Rows] | None = None
    amounts: Amounts | None = None
    loss: str | None = None

    def open(
        self, split: str, seed: int, accumulate: int, ranks: Ranks, rows: int | None, repeat: int | None
    ) -> Stream:
        """The rank's batches of a split; of a held-out one the first `rows` rows."""
        return mixtures.open_stream(
            self.opened, self.samples, self.batch, self.inputs_of, split=split, seed=seed,
            accumulate=accumulate, ranks=ranks,
            taken=self.used if rows is None else partial(self.until, k=rows),
            amounts=self.amounts, told_apart=self.loss is not None, repeat=repeat,
        )  # fmt: skip

    def held_out_rows(self, asked: int) -> int:
        """How many held-out rows are taken where so many are asked: of one dataset none twice, so that enough
        are exactly all that is held out. NothingSelected where nothing is."""
        rows = mixtures.counts_of(self.opened, self.samples, split="val")
        return min(asked, rows[0]) if len(rows) == 1 else asked

    def order(self, seed: int, repeat: int | None) -> str:
        """Its order, as a digest."""
        return mixtures.order_digest(self.opened, self.samples, self.batch.global_batch, seed, repeat)


Streams = Mapping[str, Drawn]  # by name; the first has the samples that a run counts


def datasets_of(streams: Streams) -> dict[str, tuple[str, ...]]:
    """The datasets of each loss that is told by dataset."""
    named = {one.loss: dataset_names(one.opened) for one in streams.values() if one.loss is not None}
    return {loss: names for loss, names in named.items() if names}


def open_streams(
    streams: Streams,
    split: str,
    *,
    seed: int,
    accumulate: int,
    ranks: Ranks,
    held_out: Mapping[str, int],
    join: Callable[[Mapping[str, Any]], Inputs],
    repeat: int | None,
) -> Stream:
    """The rank's batches of all streams, whose inputs `join` joins; one that is alone is as it is.

    `held_out` says of how many rows of each a held-out loss is; those that it does not name have none. Of
    each the first `repeat` rows are learnt again and again, where it is not None.
    UsageError where the rows of a stream do not divide by ranks and microbatches.
    """
    check_shares(streams, accumulate, ranks)
    opened = {
        name: one.open(split, seed, accumulate, ranks, None if split == TRAIN else held_out[name], repeat)
        for name, one in streams.items()
        if split == TRAIN or name in held_out
    }
    return next(iter(opened.values())) if len(opened) == 1 else Joined(opened, join)


def check_shares(streams: Streams, accumulate: int, ranks: Ranks) -> None:
    """UsageError where the rows of a stream do not divide by ranks and microbatches."""
    parts = ranks.size * accumulate
    for one in streams.values():
        key, rows = f"{one.section}.global_batch", one.batch.global_batch
        if rows % parts:
            raise UsageError(
                f"{key}: {rows} rows do not divide by {ranks.size} ranks × {accumulate} microbatches",
                hint=f"{key}={-(-rows // parts) * parts}",
            )


def rows_held_out(streams: Streams, asked: int) -> dict[str, int]:
    """How many rows of each stream a held-out loss is of, without those of which nothing is held out."""
    rows = {}
    for name, one in streams.items():
        with suppress(NothingSelected):  # which `nothing_held_out` tells
            rows[name] = one.held_out_rows(asked)
    return rows


def nothing_held_out(streams: Streams, asked: int) -> list[str]:
    """A line for each stream of which nothing is held out."""
    lines = []
    for name, one in streams.items():
        try:
            one.held_out_rows(asked)
        except NothingSelected as error:
            lines.append(f"no held-out loss of {name}: {error}")
    return lines


def batches_for(streams: Streams, rows: Mapping[str, int]) -> int:
    """How many batches have so many rows of each stream."""
    return max(-(-count // streams[name].batch.global_batch) for name, count in rows.items())
