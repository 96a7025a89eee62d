"""Reads members of a tar by their place in its index, from any thread, and checks every byte.

Legend: M members.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from threading import Lock

import google_crc32c
import pyarrow as pa

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.storage.storage import Storage
from robot_foundry.shards.errors import CorruptData, CorruptMember
from robot_foundry.shards.index import bad_index, tar_bytes

__all__ = ["CorruptData", "CorruptMember", "ShardReader"]

# Of a remote tar: what is fetched at once, and what lies between two members that is fetched with them,
# because another request takes as long.
SPAN_BYTES, GAP_BYTES = 8 * 1024 * 1024, 512 * 1024


class ShardReader:
    """Random access to the members of the tar at `tar_path`, whose members table is `index`.

    Local tars are read with `pread` through one descriptor, opened at the first read; others by ranges. Safe
    to share between threads. An index that was not made from a tar of this size raises FoundryError.
    """

    def __init__(self, storage: Storage, tar_path: str, index: pa.Table) -> None:
        self.storage = storage
        self.tar_path = tar_path
        self.index = index
        self._offset_M, self._size_M, self._crc32c_M = (
            index[name].to_numpy() for name in ("offset", "size", "crc32c")
        )
        self._local = storage.local_path(tar_path)
        self._file: _File | None = None
        self._lock = Lock()
        actual, expected = storage.size(tar_path), tar_bytes(index)
        if actual != expected:
            raise bad_index(
                f"the index of {self.where}", f"is of a tar of {expected} bytes, but this one has {actual}"
            )

    @property
    def where(self) -> str:
        """The tar, as errors name it."""
        return f"{self.storage.url}/{self.tar_path}"

    def __len__(self) -> int:
        return len(self._offset_M)

    def read(self, row: int) -> bytes:
        """The bytes of the member at this row of the index.

        CorruptMember if they are not what was written, and were not when they were fetched a second time.
        """
        offset, size, crc32c = int(self._offset_M[row]), int(self._size_M[row]), self._crc32c_M[row]
        for _ in range(2):
            data = self._fetch(offset, size)
            if google_crc32c.value(data) == crc32c and len(data) == size:
                return data
        raise CorruptMember(f"member {self.name(row)!r} of {self.where} is damaged: its checksum differs")

    def read_many(self, rows: Iterable[int]) -> Iterator[bytes]:
        """`read` of each of these rows, which ascend; of a remote tar, neighbours are fetched at once."""
        for span in self._spans(rows):
            if len(span) == 1:
                yield self.read(span[0])
                continue
            begin, end = int(self._offset_M[span[0]]), self._end(span[-1])
            fetched = self._fetch(begin, end - begin)
            for row in span:
                start = int(self._offset_M[row]) - begin
                data = fetched[start : start + int(self._size_M[row])]
                is_sound = google_crc32c.value(data) == self._crc32c_M[row]
                yield data if is_sound else self.read(row)

    def keys(self, ending: str) -> list[str]:
        """Names of the members that end so, in their order, without the ending."""
        names = self.index["name"].to_pylist()
        return [name.removesuffix(ending) for name in names if name.endswith(ending)]

    def size(self, row: int) -> int:
        """Bytes of the member."""
        return int(self._size_M[row])

    def read_part(self, row: int, begin: int, size: int) -> bytes:
        """Bytes of the member from `begin`, or fewer where the tar ends; they are not proven here."""
        return self._fetch(int(self._offset_M[row]) + begin, size)

    def name(self, row: int) -> str:
        """The member's name."""
        return self.index["name"][row].as_py()

    def tar_of(self, row: int) -> str:
        """The path of the tar in its storage, whatever the row."""
        return self.tar_path

    def row(self, name: str) -> int:
        """The member's row in the index; FoundryError if the shard has none of this name."""
        row = self._rows.get(name)
        if row is None:
            raise FoundryError(f"{self.where} has no member {name!r}")
        return row

    def read_name(self, name: str) -> bytes:
        """`read` of the member of this name."""
        return self.read(self.row(name))

    def close(self) -> None:
        """Let go of the descriptor; a later read opens it again."""
        self._file = None

    def _spans(self, rows: Iterable[int]) -> Iterator[list[int]]:
        """The rows in runs that are worth one request each; by themselves where the tar is local."""
        span: list[int] = []
        for row in rows:
            if span:
                gap = int(self._offset_M[row]) - self._end(span[-1])
                reach = self._end(row) - int(self._offset_M[span[0]])
                if self._local is not None or gap > GAP_BYTES or reach > SPAN_BYTES:
                    yield span
                    span = []
            span.append(row)
        if span:
            yield span

    def _end(self, row: int) -> int:
        return int(self._offset_M[row]) + int(self._size_M[row])

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.index["name"].to_pylist())}

    def _fetch(self, offset: int, size: int) -> bytes:
        if self._local is None:
            return self.storage.read_range(self.tar_path, offset, size)
        # A local reference: `close` in another thread cannot take the descriptor away in mid-read.
        file = self._file or self._open(self._local)
        return file.read(offset, size)

    def _open(self, path: Path) -> _File:
        with self._lock:
            if self._file is None:
                self._file = _File(path)
            return self._file


class _File:
    """A descriptor that closes when nobody refers to it any more."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, or fewer at the end of the file."""
        data = os.pread(self._descriptor, size, offset)
        while len(data) < size:
            more = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)
