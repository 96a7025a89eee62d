"""Which samples a rank has of each global batch.

Legend: B rows of the rank, C lanes, n batches that are planned at once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robot_foundry.loader.order import Order
from robot_foundry.runtime.errors import UsageError

_PLANNED_ROWS = 8192  # the order costs least for many positions at once


class Samples(NamedTuple):
    """A rank's rows of one global batch: positions in the order, components of the mixture, and their samples
    (0 … count - 1, in the order of the component's selection)."""

    k_B: NDArray[np.int64]
    dataset_B: NDArray[np.int32]
    sample_B: NDArray[np.int64]


def check_topology(global_batch: int, rank: int, world: int, threads: int) -> None:
    """UsageError where the rows of a global batch cannot be shared so."""
    problems = []
    if global_batch < 1 or world < 1 or global_batch % world:
        problems.append(f"global_batch {global_batch} cannot be shared equally by {world} ranks")
    if not 0 <= rank < world:
        problems.append(f"rank {rank} is not in 0 … {world - 1}")
    if threads < 0:
        problems.append(f"threads {threads} is negative")
    if problems:
        raise UsageError("; ".join(problems))


class Share:
    """The rows of rank `rank` of `world` in the global batches of an order over `lanes` lanes.

    With `repeat` the first so many positions of the order come again and again, and there are no others.
    """

    def __init__(
        self,
        order: Order,
        lanes: int,
        *,
        global_batch: int,
        rank: int,
        world: int,
        repeat: int | None = None,
    ) -> None:
        self._order, self._global_batch, self._repeat = order, global_batch, repeat
        self._offset_B = _offsets(lanes, global_batch, rank, world)
        self._batches_per_plan = max(1, _PLANNED_ROWS * world // global_batch)
        self._plan = lru_cache(maxsize=4)(self._plan_run)

    def __len__(self) -> int:
        """Rows of a batch."""
        return len(self._offset_B)

    def positions(self, b: int) -> NDArray[np.int64]:
        """The positions k of the rows of global batch b, ascending but where they repeat.

        Where world divides C and C divides the global batch, a rank owns a range of lanes (k mod C), so that
        it alone reads their spans; otherwise a contiguous part of the batch.
        """
        return self._again(b * self._global_batch + self._offset_B)

    def samples(self, b: int) -> Samples:
        """What stands at the positions of global batch b."""
        run, place = divmod(b, self._batches_per_plan)
        k_nB, dataset_nB, sample_nB = self._plan(run)
        return Samples(k_nB[place], dataset_nB[place], sample_nB[place])

    def at(self, k_n: NDArray[np.int64]) -> Samples:
        """What stands at any positions [n], of which other ranks may have some."""
        k_n = self._again(k_n)
        dataset_n, _, sample_n = self._order.at(k_n)
        return Samples(k_n, dataset_n, sample_n)

    def _plan_run(self, run: int) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
        first = run * self._batches_per_plan
        b_n = np.arange(first, first + self._batches_per_plan, dtype=np.int64)
        k_nB = b_n[:, None] * self._global_batch + self._offset_B
        k_n, dataset_n, sample_n = self.at(k_nB.reshape(-1))
        return k_n.reshape(k_nB.shape), dataset_n.reshape(k_nB.shape), sample_n.reshape(k_nB.shape)

    def _again(self, k: NDArray[np.int64]) -> NDArray[np.int64]:
        return k if self._repeat is None else k % self._repeat


def _offsets(lanes: int, global_batch: int, rank: int, world: int) -> NDArray[np.int64]:
    """Where the rows of a rank lie in a global batch, ascending."""
    if lanes % world == 0 and global_batch % lanes == 0:
        width = lanes // world
        lane_c = np.arange(rank * width, (rank + 1) * width, dtype=np.int64)
        return (np.arange(0, global_batch, lanes, dtype=np.int64)[:, None] + lane_c).reshape(-1)
    share = global_batch // world
    return np.arange(rank * share, (rank + 1) * share, dtype=np.int64)
