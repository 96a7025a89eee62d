"""A segment of kept features: a few rows in one file, that tells which row is not what was written.

    8 bytes   magic
    12        rows, bytes of a row's values, CRC-32C of the two tables below; uint32 each, little endian
    16 · N    the key of each row
    4 · N     CRC-32C of each row: its key, then its values
    …         the values of row 0, 1, …

Legend: N rows.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import google_crc32c

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.storage.storage import Storage

KEY_BYTES = 16
_MAGIC = b"FEATURE1"
_COUNTS = struct.Struct("<III")
_HEAD_BYTES = len(_MAGIC) + _COUNTS.size
_CRC_BYTES = 4


class DamagedSegment(FoundryError):
    """A file that is no segment, or none any more."""


@dataclass(frozen=True)
class Place:
    """Where the values of a row lie, and the CRC-32C of its key and them."""

    path: str
    offset: int
    size: int
    crc: bytes


def segment(rows: Mapping[bytes, bytes]) -> bytes:
    """The file of one row or more: values of equal length by key."""
    [size] = {len(values) for values in rows.values()}
    tables = b"".join(rows) + b"".join(_crc(key + values) for key, values in rows.items())
    head = _MAGIC + _COUNTS.pack(len(rows), size, int(google_crc32c.value(tables)))
    return head + tables + b"".join(rows.values())


def places(storage: Storage, path: str) -> dict[bytes, Place]:
    """Where each row of a file lies, by key. DamagedSegment where its tables are not what was written."""
    length = storage.size(path)
    head = storage.read_range(path, 0, min(length, _HEAD_BYTES))
    if len(head) < _HEAD_BYTES or not head.startswith(_MAGIC):
        raise DamagedSegment(f"{path} does not begin as it was written")
    rows, size, crc = _COUNTS.unpack(head[len(_MAGIC) :])
    if length != _size(rows, size):
        raise DamagedSegment(f"{path} has {length} bytes in place of {_size(rows, size)}")
    tables = storage.read_range(path, _HEAD_BYTES, rows * (KEY_BYTES + _CRC_BYTES))
    if int(google_crc32c.value(tables)) != crc:
        raise DamagedSegment(f"the checksum of the tables of {path} differs")
    start, crcs = _HEAD_BYTES + len(tables), tables[rows * KEY_BYTES :]
    return {
        tables[row * KEY_BYTES :][:KEY_BYTES]: Place(
            path, start + row * size, size, crcs[row * _CRC_BYTES :][:_CRC_BYTES]
        )
        for row in range(rows)
    }


def read(storage: Storage, key: bytes, place: Place) -> bytes:
    """The values of a row. DamagedSegment where they are not what was written, MissingFileError if gone."""
    values = storage.read_range(place.path, place.offset, place.size)
    if _crc(key + values) != place.crc:
        raise DamagedSegment(f"the checksum of features in {place.path} differs")
    return values


def _size(rows: int, size: int) -> int:
    return _HEAD_BYTES + rows * (KEY_BYTES + _CRC_BYTES + size)


def _crc(data: bytes) -> bytes:
    return int(google_crc32c.value(data)).to_bytes(_CRC_BYTES)
