"""A tar of a storage as a file that is read from its start to its end."""

from __future__ import annotations

import io
from typing import BinaryIO, cast

from robot_foundry.runtime.storage.storage import Storage

_RANGE_BYTES = 8 * 1024 * 1024


def streamed(storage: Storage, path: str) -> BinaryIO:
    """The file, to be closed by the caller; a remote one is fetched in ranges of 8 MiB."""
    local = storage.local_path(path)
    if local is None:
        return cast(BinaryIO, io.BufferedReader(_Ranges(storage, path), _RANGE_BYTES))
    return local.open("rb")


class _Ranges(io.RawIOBase):
    """Reads forward through a remote file."""

    def __init__(self, storage: Storage, path: str) -> None:
        self._storage, self._path = storage, path
        self._position, self._size = 0, storage.size(path)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        size = min(len(buffer), self._size - self._position)
        if size:
            buffer[:size] = self._storage.read_range(self._path, self._position, size)
            self._position += size
        return size
