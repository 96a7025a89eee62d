"""A tar whose bytes depend on nothing but its members: ustar, sorted, no times, owners or modes.

The header is written here, not by `tarfile`, whose bytes differ between Python versions.
"""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

import google_crc32c
import pyarrow as pa

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.index import MemberRow, members_table
from robot_foundry.shards.keys import split_name

BLOCK = 512
RECORD = 20 * BLOCK
MAX_MEMBER_BYTES = 8**11 - 1  # eleven octal digits
# Large, because between two blocks a thread waits for the interpreter.
BLOCK_BYTES = 2 * 1024 * 1024
MOST_BEHIND = 8  # blocks, so that reading goes on meanwhile
_PADDING = bytes(BLOCK)


@dataclass(frozen=True)
class TarSummary:
    """What was written: SHA-256 (64 hex digits) and size of the tar, and its members table (see `index`)."""

    sha256: str
    num_bytes: int
    members: pa.Table


class TarWriter:
    """Writes members to `fileobj` in strictly increasing order of name, hashing while it writes.

    `fileobj` needs only `write`; it is neither flushed nor closed here. A thread writes and hashes, some
    blocks behind; what fails there is raised by a later call, at the latest by `close`. Blocks come from and
    go to `spare`, which several writers may share, one after the other or at once: new memory is slow.
    """

    def __init__(self, fileobj: BinaryIO, spare: list[BytesIO] | None = None) -> None:
        self._file = fileobj
        self._sha256 = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._spare: list[BytesIO] = [] if spare is None else spare
        self._behind: deque[Future[None]] = deque()
        self._block = self._new_block()
        self._position = 0
        self._rows: list[MemberRow] = []
        self._last_name = ""

    def add(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Append one member. FoundryError: a name outside the grammar, repeated or out of order."""
        key, _ = split_name(name)
        if name <= self._last_name:
            wrong = "is there twice" if name == self._last_name else f"comes after {self._last_name!r}"
            raise FoundryError(f"tar member {name!r} {wrong}: members must be added in sorted order")
        payload = bytes(data)
        size = len(payload)
        header, padding = ustar_header(name, size), _PADDING[: -size % BLOCK]
        offset = self._position + BLOCK
        self._rows.append((key, name, offset, size, google_crc32c.value(payload)))
        self._block.write(header)
        for start in range(0, size, BLOCK_BYTES):
            self._block.write(payload[start : start + BLOCK_BYTES])
            if self._block.tell() >= BLOCK_BYTES:
                self._write()
        self._block.write(padding)
        self._position = offset + size + len(padding)
        self._last_name = name

    def close(self) -> TarSummary:
        """Write the end mark and fill the last record. Nothing may be added after."""
        end = 2 * BLOCK
        self._position += self._block.write(bytes(end + -(self._position + end) % RECORD))
        self._write()
        while self._behind:
            self._behind.popleft().result()
        self._thread.shutdown()
        sha256 = self._sha256.hexdigest()
        return TarSummary(sha256, self._position, members_table(self._rows, sha256, self._position))

    def _write(self) -> None:
        """Hand the block to the thread, which may be some behind, and go on with another one."""
        self._behind.append(self._thread.submit(self._write_block, self._block))
        while len(self._behind) > MOST_BEHIND or (self._behind and self._behind[0].done()):
            self._behind.popleft().result()
        self._block = self._new_block()

    def _new_block(self) -> BytesIO:
        try:
            return self._spare.pop()
        except IndexError:
            return BytesIO()

    def _write_block(self, block: BytesIO) -> None:
        with block.getbuffer() as whole, whole[: block.tell()] as data:
            self._file.write(data)
            self._sha256.update(data)
        block.seek(0)
        self._spare.append(block)


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
    encoded, length = name.encode("ascii"), b"%011o\0" % size
    checksum = b"%06o\0 " % (_FIXED_SUM + sum(encoded) + sum(length))
    return b"".join((encoded.ljust(100, b"\0"), _MODE_TO_GID, length, _MTIME, checksum, _TYPE_TO_END))
