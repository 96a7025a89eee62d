"""Where the samples that are measured lie, and what was commanded before them.

Shapes: B rows of a batch, m of them of one dataset, d dims of the dataset's stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.loader.order import Order
from robot_foundry.loader.robot.drafts import Drafts
from robot_foundry.normalization.space import ActionSpace

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Place:
    """The episode of a sample, and the target of the row before it over the dims `space` of the stream.

    `last_d` is None where that row is of no use or there is none.
    """

    episode: int
    last_d: FloatArray | None
    space: ActionSpace


@dataclass(frozen=True)
class Anchors:
    """Finds the samples at positions of an order."""

    drafts: Drafts
    order: Order = field(repr=False)

    def at(self, k_B: NDArray[np.int64]) -> list[Place]:
        dataset_B, _, sample_B = self.order.at(k_B)
        found: dict[int, Place] = {}
        for number in np.unique(dataset_B).tolist():
            (here_m,) = np.nonzero(dataset_B == number)
            found |= zip(here_m.tolist(), self._of(number, sample_B[here_m]), strict=True)
        return [found[row] for row in range(len(k_B))]

    def _of(self, number: int, sample_m: NDArray[np.int64]) -> Iterator[Place]:
        source = self.drafts.sources[number]
        anchors = source.anchors(sample_m)
        shards, _ = self.drafts.open_shards(source, anchors)
        for shard, row, start, episode in zip(
            anchors.shard_n.tolist(), anchors.row_n.tolist(), anchors.start_n.tolist(),
            anchors.episode_n.tolist(), strict=True,
        ):  # fmt: skip
            last_d = None
            if row > start and shard in shards:
                frames = shards[shard].frames
                if not frames.flags_R[row - 1] & Flag.INVALID_ACTION:
                    last_d = frames.target_RA[row - 1].astype(np.float64)
            yield Place(int(episode), last_d, source.target_space)
