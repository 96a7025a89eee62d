"""Named arrays as an .npz with the same bytes for the same arrays: sorted, uncompressed, no dates."""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Mapping

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.errors import CorruptArrays

__all__ = ["CorruptArrays", "is_safe_name", "npy_bytes", "read_npy", "read_npz", "write_npz"]

_KINDS = "biufcSU"  # numbers and fixed-width text: nothing that holds references, fields or dates
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00[\x00-\xff]{2}"
    rb"\{'descr': '([<|][%b][0-9]{1,9})', 'fortran_order': False, 'shape': \(([0-9, ]*)\), \} *\n"
    % _KINDS.encode()
)
_EARLIEST = (1980, 1, 1, 0, 0, 0)


def write_npz(arrays: Mapping[str, NDArray]) -> bytes:
    """The arrays in order of name, each C-ordered and little-endian; `numpy.load` reads them.

    Names may have '/' inside (HDF5 paths). FoundryError for a name that is unsafe as a path, and for dtypes
    other than bool, integers, floats, complex numbers and fixed-width text.
    """
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            if not is_safe_name(name):
                raise FoundryError(f"array name {name!r} is not allowed: use a relative path without '..'")
            entry = zipfile.ZipInfo(f"{name}.npy", _EARLIEST)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, npy_bytes(name, arrays[name]))
    return sink.getvalue()


def read_npz(data: bytes) -> dict[str, NDArray]:
    """The arrays of `write_npz`, in order of name, as read-only views where possible.

    What comes out is never larger than `data`. Damage, and all that `write_npz` does not write (pickles,
    compression, other dtypes, unsafe names), raise CorruptArrays.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            # Entries that overlap, or are compressed, could expand without bound.
            if sum(entry.file_size for entry in entries) > len(data) or not all(map(_is_plain, entries)):
                raise CorruptArrays("an .npz file is compressed, has comments or claims more than its bytes")
            return {_array_name(entry.filename): read_npy(archive.read(entry)) for entry in entries}
    except (zipfile.BadZipFile, ValueError, TypeError, RuntimeError, EOFError, OSError) as error:
        if isinstance(error, FoundryError):
            raise
        raise CorruptArrays(f"an .npz file is damaged: {error}") from error


def npy_bytes(name: str, array: NDArray) -> bytes:
    """The array as an .npy file. FoundryError names it where its dtype is none of those of `write_npz`."""
    array = np.asarray(array)
    if array.dtype.kind not in _KINDS:
        raise FoundryError(
            f"array {name!r} has the dtype {array.dtype}, which an .npz file of a shard cannot hold"
        )
    # Without the dtype's metadata, such as the names of an enumeration in HDF5: an .npz cannot hold those.
    plain = np.dtype(array.dtype.newbyteorder("<").str)
    # `ascontiguousarray` would turn a scalar into an array of one.
    array = np.asarray(array, dtype=plain, order="C").view(plain)
    sink = io.BytesIO()
    npy.write_array(sink, array, version=(1, 0), allow_pickle=False)
    return sink.getvalue()


def read_npy(data: bytes) -> NDArray:
    """The array of `npy_bytes`, a view where possible. CorruptArrays for all that it does not write."""
    # NumPy's own parser of headers is lenient: it evaluates them, and guesses at what Python 2 wrote.
    header = _HEADER.match(data)
    if not header or header.end() != 10 + int.from_bytes(data[8:10], "little"):
        raise CorruptArrays("an array is not plain, little-endian and in C order")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(length) for length in header[2].replace(b",", b" ").split())
    count = math.prod(shape)
    if not dtype.itemsize or count * dtype.itemsize != len(data) - header.end():
        raise CorruptArrays(f"an array has the shape {shape} that does not match its bytes")
    if not count:
        return np.empty(shape, dtype)
    return np.frombuffer(data, dtype, count, header.end()).reshape(shape)


def _is_plain(entry: zipfile.ZipInfo) -> bool:
    # A comment or unknown extra field could swallow the entry after it; sizes above 2 GiB are a known one.
    return not entry.compress_type and not entry.comment and entry.extra[:2] in (b"", b"\1\0")


def is_safe_name(name: str) -> bool:
    """Whether an array may have this name: a relative path without '..' that can be printed."""
    parts = name.split("/")
    return name.isprintable() and "\\" not in name and not any(part in ("", ".", "..") for part in parts)


def _array_name(filename: str) -> str:
    name = filename.removesuffix(".npy")
    if name == filename or not is_safe_name(name):
        raise CorruptArrays(f"an .npz file holds {filename!r}, which is not an array with a safe name")
    return name
