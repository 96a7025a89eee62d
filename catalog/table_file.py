"""Files of canonical tables: every byte is proven against the manifest before anything in them is used."""

from __future__ import annotations

import mmap
import os
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from blake3 import blake3

from robot_foundry.runtime.errors import FoundryError, MissingFileError
from robot_foundry.runtime.storage.storage import Storage

_DIGITS = 32
Proven = MutableMapping[str, tuple[int, ...]]  # by path, what the file's status was when it was proven


@dataclass(frozen=True, slots=True)
class TableFile:
    """The bytes of a table's Arrow file: how many, and the first 32 hex digits of their BLAKE3."""

    num_bytes: int
    blake3: str

    @classmethod
    def of(cls, data: bytes | memoryview) -> TableFile:
        return cls(len(data), blake3(data).hexdigest()[:_DIGITS])


class MeasuredFile:
    """Passes on what is written to `file`, and says at the end which file it became."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hasher, self._num_bytes = file, blake3(), 0

    def write(self, data: bytes | pa.Buffer) -> int:
        view = memoryview(data)
        self._hasher.update(view)
        self._num_bytes += view.nbytes
        self._file.write(view)
        return view.nbytes

    def flush(self) -> None:
        self._file.flush()

    def measured(self) -> TableFile:
        return TableFile(self._num_bytes, self._hasher.hexdigest()[:_DIGITS])


def open_table(
    storage: Storage, path: str, file: TableFile, schema: pa.Schema, proven: Proven | None = None
) -> pa.Table:
    """The table at `path`, memory-mapped where it is local. FoundryError unless it is `file`, of `schema`.

    What is mapped must not change afterwards: bytes that a disk loses later are seen by nobody, and reading
    where a file was cut off ends the process. `proven` has a local file read in whole once an opened store.
    """
    where = f"{storage.url}/{path}"
    local = storage.local_path(path)
    try:
        if local is None:
            return _parsed(_fetched(storage, path, file), schema)
        return _mapped(local, file, schema, {} if proven is None else proven)
    except MissingFileError:
        raise
    except FileNotFoundError:
        raise MissingFileError(f"there is no file {where}") from None
    except (pa.ArrowException, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # of the system, not of the content
        raise FoundryError(f"{where} is not a whole Arrow file: {error}") from error
    except _Unlike as error:
        raise FoundryError(f"{where} {error}") from None


class _Unlike(Exception):
    """How a file differs from the one that the manifest names."""


def _fetched(storage: Storage, path: str, file: TableFile) -> pa.Buffer:
    data = storage.read_bytes(path)
    _check_size(len(data), file)
    _check_content(memoryview(data), file)
    return pa.py_buffer(data)


def _mapped(path: Path, file: TableFile, schema: pa.Schema, proven: Proven) -> pa.Table:
    status = os.stat(path)
    _check_size(status.st_size, file)
    with path.open("rb") as source:
        mapped = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
    _check_size(len(mapped), file)
    data = pa.py_buffer(mapped)
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if proven.get(str(path)) == key:
        return pa.ipc.open_file(data).read_all()
    _check_content(memoryview(data), file)
    table = _parsed(data, schema)
    mapped.madvise(mmap.MADV_DONTNEED)  # most of what was proven is not used soon, and need not stay resident
    proven[str(path)] = key
    return table


def _parsed(data: pa.Buffer, schema: pa.Schema) -> pa.Table:
    table = pa.ipc.open_file(data).read_all()
    if table.schema.names != schema.names or table.schema.types != schema.types:
        raise _Unlike("does not have the columns of its kind")
    table.validate(full=True)
    return table


def _check_size(size: int, file: TableFile) -> None:
    if size != file.num_bytes:
        raise _Unlike(f"has {size:,} bytes where the manifest says {file.num_bytes:,}")


def _check_content(data: memoryview, file: TableFile) -> None:
    if blake3(data).hexdigest()[:_DIGITS] != file.blake3:
        raise _Unlike("is damaged: its bytes are not those that the manifest names")
