"""Which pairs a packed row has: a pure function of how many tokens the pairs of a selection have.

A window is WINDOW neighbouring pairs of the selection. The longest of its pairs first, each goes into the row
where it leaves the least room, or into a new row (best-fit decreasing). In a row, pairs stand in the order of
the selection, and rows of a window in that of their first pairs. So rows are read near-sequentially.

Legend: n pairs of a selection, R rows.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

PACKING_VERSION = 1
WINDOW = 1024


class PairRowsOf(Protocol):
    """The rows of a selection: which of its pairs each has."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> NDArray[np.int32]: ...


class PackedRows:
    """Rows of pairs: pair_n has the pairs of all rows one behind the other, count_R how many each has."""

    def __init__(self, count_R: NDArray[np.int32], pair_n: NDArray[np.int32]) -> None:
        self.count_R, self.pair_n = count_R, pair_n
        self._start_R1 = np.concatenate([[0], np.cumsum(count_R, dtype=np.int64)])

    def __len__(self) -> int:
        return len(self.count_R)

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        return self.pair_n[self._start_R1[row] : self._start_R1[row + 1]]


class SingleRows:
    """Rows of one pair each."""

    def __init__(self, num_pairs: int) -> None:
        self._num_pairs = num_pairs

    def __len__(self) -> int:
        return self._num_pairs

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        return np.array([row], np.int32)


def packed(tokens_n: NDArray[np.int32], length: int) -> PackedRows:
    """The rows of `length` tokens of pairs that have so many each; a longer one is a row by itself."""
    size_n = np.minimum(tokens_n, length)
    rows: list[Sequence[int]] = []
    for first in range(0, len(size_n), WINDOW):
        rows += _packed_window(size_n[first : first + WINDOW], first, length)
    count_R = np.fromiter(map(len, rows), np.int32, len(rows))
    return PackedRows(count_R, np.fromiter((pair for row in rows for pair in row), np.int32, len(size_n)))


def _packed_window(size_n: NDArray[np.int32], first: int, length: int) -> list[list[int]]:
    rows: list[list[int]] = []
    open_rows: list[tuple[int, int]] = []  # (room, row), ascending: the first that has enough is the tightest
    sizes = size_n.tolist()
    for pair in np.argsort(-size_n, kind="stable").tolist():
        at = bisect_left(open_rows, (sizes[pair], -1))
        if at < len(open_rows):
            room, row = open_rows.pop(at)
        else:
            room, row = length, len(rows)
            rows.append([])
        rows[row].append(first + pair)
        if room > sizes[pair]:
            insort(open_rows, (room - sizes[pair], row))
    return sorted(sorted(row) for row in rows)
