"""Which windows go into which tar: decided by counts and the order of training alone, before any is made.

Legend: n windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.export.windows.asked import Asked
from robot_foundry.loader.order import Order
from robot_foundry.loader.robot.source import WindowSource
from robot_foundry.loader.share import Samples
from robot_foundry.runtime.errors import FoundryError

MOST_WINDOWS = 10**9  # nine digits number them


@dataclass(frozen=True, eq=False)
class Group:
    """Tars of one folder of the export, '' for its top: `count` windows in the order of training.

    `component` is the number of the one that they are of, None where all are drawn by their weights. `kept`
    are, for each component, the samples that there is a window of; None for all.
    """

    folder: str
    component: int | None
    count: int
    per_shard: int
    order: Order = field(repr=False)
    kept: Sequence[NDArray[np.int64] | None] = field(repr=False)

    @property
    def num_shards(self) -> int:
        return -(-self.count // self.per_shard)

    def path(self, name: str) -> str:
        """Of a file of this group."""
        return f"{self.folder}/{name}" if self.folder else name

    def shard_name(self, shard: int) -> str:
        """Without the ending: 'shard_000000'."""
        return f"shard_{shard:06d}"

    def windows_of(self, shard: int) -> range:
        """The numbers of the windows of a tar."""
        return range(shard * self.per_shard, min(self.count, (shard + 1) * self.per_shard))

    def samples(self, numbers: range) -> Samples:
        """What the windows of these numbers are of, in the mixture's own numbers of components."""
        k_n = np.arange(numbers.start, numbers.stop, dtype=np.int64)
        dataset_n, _, sample_n = self.order.at(k_n)
        if self.component is not None:
            dataset_n = np.full_like(dataset_n, self.component)
        for number, kept in enumerate(self.kept):
            if kept is not None:
                here = dataset_n == number
                sample_n[here] = kept[sample_n[here]]
        return Samples(k_n, dataset_n, sample_n)


def groups_of(opened: OpenMixture, sources: Sequence[WindowSource], asked: Asked) -> list[Group]:
    """What goes out: one group by the weights, or one for each component with each of its windows once."""
    kept = [_kept(source, asked.every) for source in sources]
    counts = [
        source.component.num_samples if rows is None else len(rows)
        for source, rows in zip(sources, kept, strict=True)
    ]
    mixture = opened.mixture
    if asked.samples is not None:
        order = Order(mixture, seed=asked.seed, counts=counts)
        groups = [Group("", None, asked.samples, asked.per_shard, order, kept)]
    else:
        groups = [
            Group(
                component.name if len(counts) > 1 else "",
                number,
                counts[number],
                asked.per_shard,
                Order(mixture.alone(number), seed=asked.seed, counts=[counts[number]]),
                kept,
            )
            for number, component in enumerate(mixture.components)
        ]
    if too_many := [group.count for group in groups if group.count > MOST_WINDOWS]:
        raise FoundryError(
            f"{too_many[0]:,} windows are more than the {MOST_WINDOWS:,} that their names can number",
            hint="take every N-th with --every N, or the first N with --samples N",
        )
    return groups


def _kept(source: WindowSource, every: int) -> NDArray[np.int64] | None:
    """The samples at every so-many-th frame of their episodes; None where that is all."""
    if every == 1:
        return None
    anchors = source.anchors(np.arange(source.component.num_samples, dtype=np.int64))
    kept = np.flatnonzero((anchors.row_n - anchors.start_n) % every == 0)
    if not kept.size:
        raise FoundryError(
            f"no selected frame of '{source.component.name}' is one in {every} of its episode",
            hint="a smaller --every takes more of them",
        )
    return kept
