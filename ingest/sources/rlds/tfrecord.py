"""TFRecord files: records of bytes, each with its length, and masked CRC32C sums of the length and the bytes.

    uint64 length   uint32 masked crc32c(length)   bytes   uint32 masked crc32c(bytes)        little-endian

The masking is ((crc >> 15 | crc << 17) + 0xa282ead8) mod 2^32 (TensorFlow's lib/hash/crc32c.h).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import google_crc32c

from robot_foundry.ingest.sources.base import GIT_LFS, Refused

HEADER, FOOTER = struct.Struct("<QI"), struct.Struct("<I")
SMALLEST_RECORD = HEADER.size + FOOTER.size
# Protocol buffers hold no message of 2 GiB or more.
LARGEST_RECORD = (1 << 31) - 1
_MASK_DELTA = 0xA282EAD8
_OTHER_FORMATS = {
    GIT_LFS: "the file is a Git LFS pointer and not the data, which `git lfs pull` would fetch",
    b"\x1f\x8b\x08": "the file is compressed with gzip as a whole: unpack it with gunzip",
}


def masked_crc32c(data: bytes) -> int:
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def framed(record: bytes) -> bytes:
    """The record as it stands in a file."""
    length = len(record).to_bytes(8, "little")
    return b"".join(
        (HEADER.pack(len(record), masked_crc32c(length)), record, FOOTER.pack(masked_crc32c(record)))
    )


@dataclass(frozen=True)
class Records:
    """Where the records of a file lie: `spans` are (offset, length) of their bytes.

    `damage` says why the file cannot be followed beyond them, None if it ends where its last record does.
    """

    spans: tuple[tuple[int, int], ...]
    damage: str | None


def find_records(path: Path) -> Records:
    """All records of the file by their headers alone, 12 bytes of each. Refused if it is no TFRecord.

    A file is looked through once while it stays the same, however many of its records are then read.
    """
    status = os.stat(path)
    return _find_records(str(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _find_records(path: str, size: int, _modified_ns: int) -> Records:
    spans: list[tuple[int, int]] = []
    with open(path, "rb", buffering=0) as file:
        start = file.read(64)
        # A record whose length has its checksum is one, whatever its first bytes look like.
        if not _is_header(start[: HEADER.size]):
            for magic, reason in _OTHER_FORMATS.items():
                if start.startswith(magic):
                    raise Refused(reason)
        position = 0
        while position < size:
            file.seek(position)
            header = file.read(HEADER.size)
            damage = _damage(header, len(spans), position, size)
            if damage is not None:
                return Records(tuple(spans), damage)
            length = HEADER.unpack(header)[0]
            spans.append((position + HEADER.size, length))
            position += HEADER.size + length + FOOTER.size
    return Records(tuple(spans), None)


def _is_header(header: bytes) -> bool:
    """Whether these are 12 bytes, a length and its checksum."""
    return len(header) == HEADER.size and masked_crc32c(header[:8]) == HEADER.unpack(header)[1]


def _damage(header: bytes, number: int, position: int, size: int) -> str | None:
    """What is wrong with the record of this header, as far as the header tells."""
    where = f"record {number} at byte {position}"
    if len(header) < HEADER.size:
        return f"the file is cut off in {where}"
    length = HEADER.unpack(header)[0]
    if not _is_header(header):
        return f"the length of {where} fails its checksum, so nothing can be found from there on"
    if length > LARGEST_RECORD:
        return f"{where} claims {length} bytes, and a record has less than 2 GiB"
    missing = position + HEADER.size + length + FOOTER.size - size
    if missing > 0:
        return f"the file is cut off in {where}: its last {missing} bytes are missing"
    return None


def read_record(path: Path, number: int) -> bytes:
    """The bytes of a record, counted from 0, after its checksum was compared; Refused says what is wrong."""
    records = find_records(path)
    if number >= len(records.spans):
        raise Refused(records.damage or f"the file ends after {len(records.spans)} records")
    offset, length = records.spans[number]
    with open(path, "rb") as file:
        file.seek(offset)
        data, footer = file.read(length), file.read(FOOTER.size)
    if FOOTER.pack(masked_crc32c(data)) != footer:
        raise Refused(f"record {number} at byte {offset - HEADER.size} fails its checksum")
    return data
