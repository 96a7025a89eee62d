"""Chunks of zarr's format 2: their compression, bounded by what the array says of itself.

What a compressed chunk says of its own size is compared with that before anything is allocated.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.formats.streams import GZIP, ZSTD, decompressed
from robot_foundry.ingest.sources.unusable import Broken
from robot_foundry.ingest.sources.zarr.metadata import Described
from robot_foundry.ingest.sources.zarr.places import Place
from robot_foundry.runtime.errors import UsageError

# The header of Blosc 1: after four bytes the sizes of what it makes, of its blocks, and of itself.
_BLOSC_HEADER = 16
# Random numbers grow a little by compression.
MOST_GROWTH = 1 << 16


def read_chunk(place: Place, array: Described, at: tuple[int, ...]) -> NDArray[Any]:
    """The chunk there in the grid, of the shape `array.chunks`. Refused if it is missing or damaged."""
    name = array.chunk_name(at)
    if name not in place.names:
        raise Refused(absent(array, at))
    size = array.chunk_bytes
    data = place.read(name, size + size // 8 + MOST_GROWTH)
    codec = None if array.compressor is None else str(array.compressor["id"])
    try:
        raw = data if codec is None else _DECODERS[codec](data, size)
    except (_Damaged, Refused, Broken) as error:
        raise Refused(f"its chunk '{name}' is damaged: {error}") from error
    if len(raw) != size:
        raise Refused(
            f"its chunk '{name}' is damaged: it has {len(raw)} bytes and not the {size} of its array"
        )
    return np.frombuffer(raw, array.dtype).reshape(array.chunks, order="F" if array.order == "F" else "C")


def absent(array: Described, at: tuple[int, ...]) -> str:
    """What is said of a chunk that is not there."""
    first = at[0] * array.chunks[0]
    return (
        f"its chunk '{array.chunk_name(at)}' (rows {first} to {first + array.chunks[0] - 1}) is not there; "
        "zarr would make up its numbers from the fill value, so copy it again, or, if it was never written, "
        f"leave the array out: --set 'content.skip=[{array.name.partition('/')[2]}]'"
    )


class _Damaged(Exception):
    """The message is the reason."""


def _blosc(data: bytes, size: int) -> bytes:
    if len(data) < _BLOSC_HEADER:
        raise _Damaged(f"it has {len(data)} bytes, fewer than a header of blosc")
    makes, own = (int.from_bytes(data[at : at + 4], "little") for at in (4, 12))
    if makes != size:
        raise _Damaged(f"its header says {makes} bytes, and a chunk of its array has {size}")
    if own != len(data):
        raise _Damaged(f"its header says that it has {own} bytes, and it has {len(data)}")
    return _by_package("blosc", data)


def _lz4(data: bytes, size: int) -> bytes:
    makes = int.from_bytes(data[:4], "little")
    if makes != size:
        raise _Damaged(f"its header says {makes} bytes, and a chunk of its array has {size}")
    return _by_package("lz4", data)


def _by_package(codec: str, data: bytes) -> bytes:
    try:
        return bytes(getattr(_numcodecs(), codec).decompress(data))
    except (RuntimeError, ValueError) as error:
        raise _Damaged(" ".join(str(error).split())) from error


def _zlib(data: bytes, size: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(data, size + 1)
    except zlib.error as error:
        raise _Damaged(str(error)) from error
    if not stream.eof and len(content) <= size:
        raise _Damaged("its zlib compression has no end")
    return content


def _stream(compression: str) -> Callable[[bytes, int], bytes]:
    def read(data: bytes, size: int) -> bytes:
        content = bytearray()
        for block in decompressed([data], compression):
            content += block
            if len(content) > size:
                raise _Damaged(f"it becomes more than the {size} bytes of its array")
        return bytes(content)

    return read


# By what `metadata.CODECS` names.
_DECODERS: Mapping[str, Callable[[bytes, int], bytes]] = {
    "blosc": _blosc,
    "lz4": _lz4,
    "zlib": _zlib,
    "gzip": _stream(GZIP),
    "zstd": _stream(ZSTD),
}


def _numcodecs() -> ModuleType:
    """The package that reads Blosc and LZ4, on one thread. UsageError if it is not installed."""
    try:
        import numcodecs
        from numcodecs import blosc, lz4  # noqa: F401
    except ImportError:
        raise UsageError(
            "this source has compressed chunks of zarr, and the package that reads them is not installed",
            hint="pip install 'robot-foundry[zarr]'",
        ) from None
    blosc.use_threads = False  # ingest runs a process a core
    return numcodecs
