"""Which tokens a packed row has, in closed form over the blocks of a version and the ranges selected of it.

Row j of a block has the tokens j·length … (j + 1)·length - 1 of those that are selected of it, in order; the
last row may be short.

Legend: N blocks, R ranges of a selection, n rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.selection import Selection


@dataclass(frozen=True)
class Row:
    """A row: its shard, its block (counted in the shard), and from where to where its tokens lie, counted in
    the shard: several spans where some between them are not selected."""

    shard: int
    block: int
    spans: tuple[tuple[int, int], ...]


class PackedRows:
    """The rows of a selection at a length, numbered through its blocks in order.

    Tokens are counted through the whole version, its shards one behind the other.
    """

    def __init__(self, opened: OpenVersion, selection: Selection, length: int) -> None:
        blocks, counts = opened.table("blocks"), [shard.num_samples for shard in opened.manifest.shards]
        self._length = length
        self._first_of_shard = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self._shard_N = blocks["shard"].to_numpy()
        start_N = self._first_of_shard[self._shard_N] + blocks["row_start"].to_numpy()
        self._begin_R = self._first_of_shard[selection.shard_R] + selection.start_R
        self._ends_R1 = np.concatenate([[0], np.cumsum(selection.stop_R - selection.start_R)])
        # How many selected tokens lie before each block, and behind the last.
        self._before_N1 = self._selected_before(np.append(start_N, self._first_of_shard[-1]))
        rows_N = -(-np.diff(self._before_N1) // length)
        self._rows_before_N1 = np.concatenate([[0], np.cumsum(rows_N)])

    def __len__(self) -> int:
        return int(self._rows_before_N1[-1])

    def at(self, row_n: NDArray[np.int64]) -> list[Row]:
        """What the rows with these numbers have."""
        block_n = np.searchsorted(self._rows_before_N1, row_n, side="right") - 1
        begin_n = self._before_N1[block_n] + (row_n - self._rows_before_N1[block_n]) * self._length
        end_n = np.minimum(begin_n + self._length, self._before_N1[block_n + 1])
        shard_n = self._shard_N[block_n]
        in_shard_n = block_n - np.searchsorted(self._shard_N, shard_n)
        first_n = np.searchsorted(self._ends_R1, begin_n, side="right") - 1
        last_n = np.searchsorted(self._ends_R1, end_n, side="left") - 1
        columns = (array.tolist() for array in (shard_n, in_shard_n, begin_n, end_n, first_n, last_n))
        return [
            Row(shard, block, self._spans(shard, begin, end, range(first, last + 1)))
            for shard, block, begin, end, first, last in zip(*columns, strict=True)
        ]

    def _spans(self, shard: int, begin: int, end: int, ranges: range) -> tuple[tuple[int, int], ...]:
        """Where the selected tokens `begin` … `end` lie, which are of these ranges."""
        spans = []
        for r in ranges:
            # What a token's place in the shard is more than its number among those selected.
            ahead = int(self._begin_R[r] - self._ends_R1[r] - self._first_of_shard[shard])
            start, stop = max(begin, int(self._ends_R1[r])), min(end, int(self._ends_R1[r + 1]))
            spans.append((start + ahead, stop + ahead))
        return tuple(spans)

    def _selected_before(self, place_n: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many of the selected tokens lie before each place of the version."""
        range_n = np.searchsorted(self._begin_R, place_n, side="right") - 1
        inside_n = np.minimum(place_n - self._begin_R[range_n], np.diff(self._ends_R1)[range_n])
        return np.where(range_n < 0, 0, self._ends_R1[range_n] + inside_n)
