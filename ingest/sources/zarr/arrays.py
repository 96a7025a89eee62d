"""Rows of an array of a replay buffer, chunk by chunk.

Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.zarr.chunks import read_chunk
from robot_foundry.ingest.sources.zarr.metadata import Described
from robot_foundry.ingest.sources.zarr.places import Place


@dataclass(frozen=True)
class Rows:
    """Rows `start` to `stop` (exclusive) of an array, all of which it has."""

    place: Place
    array: Described
    start: int
    stop: int

    def chunks(self) -> Iterator[tuple[int, ...]]:
        """The places in the grid of the chunks that hold them."""
        every = self.array.chunks[0]
        first, last = self.start // every, -(-self.stop // every)
        return product(range(first, last), *map(range, self.array.parts))

    def lacking(self) -> tuple[int, ...] | None:
        """The first chunk of them that is not there."""
        names = self.place.names
        return next((at for at in self.chunks() if self.array.chunk_name(at) not in names), None)

    def blocks(self) -> Iterator[NDArray[Any]]:
        """The rows in runs that memory holds. Refused for a chunk that is missing or damaged."""
        every = self.array.chunks[0]
        for row in range(self.start // every, -(-self.stop // every)):
            block = self._block(row)
            first = row * every
            yield block[max(self.start - first, 0) : self.stop - first]

    def one_by_one(self) -> Iterator[NDArray[Any]]:
        for block in self.blocks():
            yield from block

    def read(self) -> NDArray[Any]:
        """All of them [N, …], in the byte order of this machine."""
        native = self.array.dtype.newbyteorder("=")
        blocks = [block.astype(native, copy=False) for block in self.blocks()]
        return np.concatenate(blocks) if blocks else np.empty((0, *self.array.shape[1:]), native)

    def _block(self, row: int) -> NDArray[Any]:
        """The rows of one run of chunks; behind the end of the array, what the chunks happen to hold."""
        array, shape = self.array, self.array.shape[1:]
        if all(count == 1 for count in array.parts):
            chunk = read_chunk(self.place, array, (row, *(0 for _ in shape)))
            return chunk[(slice(None), *map(slice, shape))]
        block = np.empty((array.chunks[0], *shape), array.dtype)
        for at in product(*map(range, array.parts)):
            chunk = read_chunk(self.place, array, (row, *at))
            starts = [n * size for n, size in zip(at, array.chunks[1:], strict=True)]
            ends = [
                min(start + size, side)
                for start, size, side in zip(starts, array.chunks[1:], shape, strict=True)
            ]
            inside = tuple(slice(0, end - start) for start, end in zip(starts, ends, strict=True))
            block[(slice(None), *map(slice, starts, ends))] = chunk[(slice(None), *inside)]
        return block
