"""The members of a unit, held back until all of it was read."""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO

from robot_foundry.ingest.sources.base import Data

MEMORY_BYTES = 64 * 1024 * 1024


class Spool:
    """Names and contents in the order in which they were added: in memory, beyond `memory_bytes` on disk."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._most = memory_bytes
        self._held: list[tuple[str, Data]] = []
        self._held_bytes = 0
        self._on_disk: list[tuple[str, int]] = []
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, name: str, data: Data) -> None:
        """Append a member."""
        self._held.append((name, data))
        self._held_bytes += len(data)
        if self._held_bytes > self._most:
            self._spill()

    def members(self) -> Iterator[tuple[str, Data]]:
        """All members; nothing may be added after."""
        if self._file is not None:
            self._file.seek(0)
            for name, size in self._on_disk:
                yield name, self._file.read(size)
        yield from self._held

    def _spill(self) -> None:
        if self._file is None:
            self._file = TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._file.writelines(data for _, data in self._held)
        self._on_disk += [(name, len(data)) for name, data in self._held]
        self._held, self._held_bytes = [], 0
