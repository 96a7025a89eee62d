"""A tar whose bytes depend on nothing but its members: ustar, sorted, no times, owners or modes.

The header is written here, not by `tarfile`, whose bytes differ between Python versions.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

import google_crc32c
import pyarrow as pa

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.index import MemberRow, members_table
from robot_foundry.shards.keys import member_key

BLOCK = 512
RECORD = 20 * BLOCK
MAX_MEMBER_BYTES = 8**11 - 1  # eleven octal digits
WRITTEN_AT_ONCE = 1024 * 1024
_PADDING = bytes(BLOCK)


@dataclass(frozen=True)
class TarSummary:
    """What was written: SHA-256 (64 hex digits) and size of the tar, and its members table (see `index`)."""

    sha256: str
    num_bytes: int
    members: pa.Table


class TarWriter:
    """Writes members to `fileobj` in strictly increasing order of name, hashing while it writes.

    `fileobj` needs only `write`; it is neither flushed nor closed here. Blocks are hashed in a thread while
    they are written.
    """

    def __init__(self, fileobj: BinaryIO) -> None:
        self._file = fileobj
        self._sha256 = hashlib.sha256()
        self._hashing = ThreadPoolExecutor(1)
        self._hashed: Future[None] | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._position = 0
        self._rows: list[MemberRow] = []
        self._last_name = ""

    def add(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Append one member. FoundryError: a name outside the grammar, repeated or out of order."""
        key = member_key(name)
        if name <= self._last_name:
            wrong = "is there twice" if name == self._last_name else f"comes after {self._last_name!r}"
            raise FoundryError(f"tar member {name!r} {wrong}: members must be added in sorted order")
        payload = bytes(data)
        size = len(payload)
        header, padding = ustar_header(name, size), _PADDING[: -size % BLOCK]
        self._rows.append((key, name, self._position + BLOCK, size, google_crc32c.value(payload)))
        self._append(header, payload, padding)
        self._last_name = name

    def close(self) -> TarSummary:
        """Write the end mark and fill the last record. Nothing may be added after."""
        end = 2 * BLOCK
        self._append(bytes(end + -(self._position + end) % RECORD))
        self._write()
        self._hashing.shutdown()
        sha256 = self._sha256.hexdigest()
        return TarSummary(sha256, self._position, members_table(self._rows, sha256, self._position))

    def _append(self, *parts: bytes) -> None:
        self._waiting += parts
        added = sum(map(len, parts))
        self._position += added
        self._waiting_bytes += added
        if self._waiting_bytes >= WRITTEN_AT_ONCE:
            self._write()

    def _write(self) -> None:
        """Write what waits, while it is hashed after what was written before."""
        data = b"".join(self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        if self._hashed is not None:
            self._hashed.result()
        self._hashed = self._hashing.submit(self._sha256.update, data)
        self._file.write(data)


_MODE_TO_GID = b"0000644\0" + 2 * b"0000000\0"
_MTIME = b"%011o\0" % 0
_TYPE_TO_END = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + 2 * b"0000000\0" + bytes(155 + 12)
# Of all that is the same in every header; while it is summed, the checksum's own field counts as spaces.
_FIXED_SUM = sum(_MODE_TO_GID) + sum(_MTIME) + 8 * ord(" ") + sum(_TYPE_TO_END)


def ustar_header(name: str, size: int) -> bytes:
    """The 512 bytes before a regular file (POSIX.1-1988): mode 0644, all else that may vary is zero."""
    if size > MAX_MEMBER_BYTES:
        raise FoundryError(
            f"tar member {name!r} has {size} bytes, but a member holds at most {MAX_MEMBER_BYTES}"
        )
    encoded, length = name.encode("ascii").ljust(100, b"\0"), b"%011o\0" % size
    checksum = b"%06o\0 " % (_FIXED_SUM + sum(encoded) + sum(length))
    return b"".join((encoded, _MODE_TO_GID, length, _MTIME, checksum, _TYPE_TO_END))
