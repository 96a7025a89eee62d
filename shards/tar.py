"""A tar whose bytes depend on nothing but its members: ustar, sorted, no times, owners or modes.

The header is written here, not by `tarfile`, whose bytes differ between Python versions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import BinaryIO

import google_crc32c
import pyarrow as pa

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.index import MemberRow, members_table
from robot_foundry.shards.keys import parse

BLOCK = 512
RECORD = 20 * BLOCK
MAX_MEMBER_BYTES = 8**11 - 1  # eleven octal digits


@dataclass(frozen=True)
class TarSummary:
    """What was written: SHA-256 (64 hex digits) and size of the tar, and its members table (see `index`)."""

    sha256: str
    num_bytes: int
    members: pa.Table


class TarWriter:
    """Writes members to `fileobj` in strictly increasing order of name, hashing while it writes.

    `fileobj` needs only `write`; it is neither flushed nor closed here.
    """

    def __init__(self, fileobj: BinaryIO) -> None:
        self._file = fileobj
        self._sha256 = hashlib.sha256()
        self._position = 0
        self._rows: list[MemberRow] = []
        self._last_name = ""

    def add(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Append one member. FoundryError: a name outside the grammar, repeated or out of order."""
        key = parse(name).key
        if name <= self._last_name:
            wrong = "is there twice" if name == self._last_name else f"comes after {self._last_name!r}"
            raise FoundryError(f"tar member {name!r} {wrong}: members must be added in sorted order")
        payload = bytes(data)
        self._write(ustar_header(name, len(payload)))
        self._rows.append((key, name, self._position, len(payload), google_crc32c.value(payload)))
        self._write(payload)
        self._write(bytes(-len(payload) % BLOCK))
        self._last_name = name

    def close(self) -> TarSummary:
        """Write the end mark and fill the last record. Nothing may be added after."""
        end = 2 * BLOCK
        self._write(bytes(end + -(self._position + end) % RECORD))
        sha256 = self._sha256.hexdigest()
        return TarSummary(sha256, self._position, members_table(self._rows, sha256, self._position))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self._position += len(data)


def ustar_header(name: str, size: int) -> bytes:
    """The 512 bytes before a regular file (POSIX.1-1988): mode 0644, all else that may vary is zero."""
    if size > MAX_MEMBER_BYTES:
        raise FoundryError(
            f"tar member {name!r} has {size} bytes, but a member holds at most {MAX_MEMBER_BYTES}"
        )
    before = name.encode("ascii").ljust(100, b"\0") + b"0000644\0" + 2 * b"0000000\0" + b"%011o\0" % size
    before += b"%011o\0" % 0
    after = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + 2 * b"0000000\0" + bytes(155 + 12)
    checksum = sum(before) + 8 * ord(" ") + sum(after)
    return before + b"%06o\0 " % checksum + after
