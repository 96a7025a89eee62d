"""Named arrays as an .npz with the same bytes for the same arrays: sorted, uncompressed, no dates."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.errors import CorruptArrays

__all__ = ["CorruptArrays", "read_npz", "write_npz"]

_KINDS = "biufcSU"  # numbers and fixed-width text: nothing that holds references, fields or dates
_EARLIEST = (1980, 1, 1, 0, 0, 0)


def write_npz(arrays: Mapping[str, NDArray]) -> bytes:
    """The arrays in order of name, each C-ordered and little-endian; `numpy.load` reads them.

    Names may have '/' inside (HDF5 paths). FoundryError for a name that is unsafe as a path, and for dtypes
    other than bool, integers, floats, complex numbers and fixed-width text.
    """
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            _check_name(name)
            entry = zipfile.ZipInfo(f"{name}.npy", _EARLIEST)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, _npy_bytes(name, arrays[name]))
    return sink.getvalue()


def read_npz(data: bytes) -> dict[str, NDArray]:
    """The arrays of `write_npz`, in order of name, as read-only views where possible.

    What comes out is never larger than `data`. Damage, pickles, compression and dtypes that `write_npz`
    refuses raise CorruptArrays.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            # Entries that overlap, or are compressed, could expand without bound.
            if sum(entry.file_size for entry in entries) > len(data) or any(e.compress_type for e in entries):
                raise CorruptArrays("an .npz file is compressed or claims more bytes than it has")
            return {_array_name(entry.filename): _read_npy(archive.read(entry)) for entry in entries}
    except (zipfile.BadZipFile, ValueError, RuntimeError, EOFError, OSError, SyntaxError, KeyError) as error:
        if isinstance(error, FoundryError):
            raise
        raise CorruptArrays(f"an .npz file is damaged: {error}") from error


def _npy_bytes(name: str, array: NDArray) -> bytes:
    array = np.asarray(array)
    if array.dtype.kind not in _KINDS:
        raise FoundryError(
            f"array {name!r} has the dtype {array.dtype}, which an .npz file of a shard cannot hold"
        )
    # `ascontiguousarray` would turn a scalar into an array of one.
    array = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    sink = io.BytesIO()
    npy.write_array(sink, array, version=(1, 0), allow_pickle=False)
    return sink.getvalue()


def _read_npy(data: bytes) -> NDArray:
    file = io.BytesIO(data)
    if npy.read_magic(file) != (1, 0):
        raise CorruptArrays("an .npz file holds an array of another version than 1.0")
    shape, fortran_order, dtype = npy.read_array_header_1_0(file)
    if fortran_order or dtype.kind not in _KINDS:
        raise CorruptArrays(f"an .npz file holds an array of dtype {dtype} or order that is not allowed")
    start = file.tell()
    # `count` is exact in Python's integers, so that a hostile shape cannot wrap around.
    count = 1
    for length in shape:
        count *= length
    if count < 0 or count * dtype.itemsize != len(data) - start:
        raise CorruptArrays(f"an .npz file holds an array of shape {shape} that does not match its bytes")
    if not count * dtype.itemsize:
        return np.empty(shape, dtype)
    return np.frombuffer(data, dtype, count, start).reshape(shape)


def _check_name(name: str) -> None:
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name or not name.isprintable():
        raise FoundryError(f"array name {name!r} is not allowed: use a relative path without '..'")


def _array_name(filename: str) -> str:
    name = filename.removesuffix(".npy")
    _check_name(name)
    if name == filename:
        raise CorruptArrays(f"an .npz file holds {filename!r}, which is not an array")
    return name
