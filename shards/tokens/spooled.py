"""The documents of a shard on their way into blocks, held by band: in memory, beyond some bytes on disk.

A shard of text may be as large as a file of its source. Of each document memory holds its row of `docs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import NDArray

from robot_foundry.shards.tokens.blocks import END, TokenDocuments, by_band

MEMORY_BYTES = 128 * 1024 * 1024


class SpooledDocuments:
    """Documents in the order in which they were added, `memory_bytes` of tokens in memory at most."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._most, self._held_bytes = memory_bytes, 0
        self._bands: dict[int, _Band] = {}

    def __enter__(self) -> SpooledDocuments:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for band in self._bands.values():
            band.close()

    def __len__(self) -> int:
        return sum(map(len, self._bands.values()))

    def add(self, documents: TokenDocuments) -> None:
        """Append documents."""
        for number, part in by_band(documents):
            self._bands.setdefault(number, _Band()).add(part)
        self._held_bytes += documents.token_N.nbytes
        if self._held_bytes > self._most:
            for band in self._bands.values():
                band.spill()
            self._held_bytes = 0

    def by_band(self) -> Iterator[tuple[int, TokenDocuments]]:
        """As `blocks.by_band` of all documents; nothing may be added after, and they end with the spool."""
        for number in sorted(self._bands):
            yield number, self._bands[number].documents()


class _Band:
    """The documents of one band."""

    def __init__(self) -> None:
        self._docs: list[NDArray[np.uint64]] = []
        self._inexact: list[NDArray[np.bool_]] = []
        self._held: list[NDArray[np.unsignedinteger]] = []
        self._num_tokens = 0
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._docs))

    def add(self, part: TokenDocuments) -> None:
        docs_D4 = part.docs_D4.copy()
        docs_D4[:, END] += np.uint64(self._num_tokens)
        self._num_tokens += len(part.token_N)
        self._docs.append(docs_D4)
        self._inexact.append(part.inexact_D)
        self._held.append(part.token_N)

    def spill(self) -> None:
        if self._file is None:
            self._file = TemporaryFile()  # noqa: SIM115 (closed by close)
        self._file.writelines(token_N.tobytes() for token_N in self._held)
        self._held = [self._held[-1][:0]]  # which has their dtype

    def documents(self) -> TokenDocuments:
        """All of them; tokens on disk are mapped."""
        if self._file is None:
            token_N = np.concatenate(self._held)
        else:
            self.spill()
            self._file.flush()
            token_N = np.memmap(self._file, self._held[0].dtype, "r", shape=(self._num_tokens,))
        return TokenDocuments(token_N, np.concatenate(self._docs), np.concatenate(self._inexact))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
