"""The members of a tar of a source, read from a stream, header by header, and none of it trusted.

POSIX ustar, GNU and pax archives are read, with long names, and tars that were joined end to end.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from robot_foundry.ingest.sources.formats.streams import BLOCK_BYTES
from robot_foundry.ingest.sources.unusable import Broken

# Of a file of 0 bytes, which a writer left that never came to write.
EMPTY_TAR = "it is empty, and a tar without members has an end mark"
_BLOCK = 512
_MOST_EXTENSION_BYTES = 1 << 20
_GNU_LINK = b"K"
_KINDS = {
    tarfile.LNKTYPE: "a hard link", tarfile.SYMTYPE: "a symbolic link", tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a FIFO", tarfile.GNUTYPE_SPARSE: "a sparse file",
}  # fmt: skip


class BrokenTar(Exception):
    """The tar itself ends before its end, or its next header is damaged. The message is the reason."""


@dataclass(frozen=True)
class Member:
    """A file of the tar; `blocks` is its content, to be read before the next member is asked for.

    `reason` is why it is not to be read, None if it is.
    """

    name: str
    size: int
    blocks: Iterator[bytes]
    reason: str | None


def members(blocks: Iterator[bytes]) -> Iterator[Member]:
    """All members but folders, in order. BrokenTar where the tar breaks off or is damaged."""
    stream, extended, is_ended = _Stream(blocks), _Extended(), False
    while header := stream.header():
        if header.count(0) == _BLOCK:
            is_ended = True
            continue
        is_ended = False
        info = _parsed(header, stream.position - _BLOCK)
        if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, _GNU_LINK):
            extended.take(info.type, stream.extension(info.size))
            continue
        if info.type == tarfile.XGLTYPE:
            stream.extension(info.size)  # of names and sizes it says nothing that a member would not
            continue
        name, size = extended.name or info.name, info.size if extended.size is None else extended.size
        reason = "it is a sparse file" if extended.is_sparse else _reason(name, info)
        extended = _Extended()
        has_content = info.isreg() or info.type == tarfile.GNUTYPE_SPARSE
        if info.type == tarfile.DIRTYPE:
            continue
        size = size if has_content else 0
        end = stream.position + size
        yield Member(name, size, stream.content(size), reason)
        stream.pass_to(end + -size % _BLOCK)  # what nobody read, too
    if not is_ended:
        raise BrokenTar(f"the tar is cut off at byte {stream.position}: it has no end mark")


class _Extended:
    """What headers before a member say of it."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.size: int | None = None
        self.is_sparse = False

    def take(self, kind: bytes, data: bytes) -> None:
        if kind == tarfile.GNUTYPE_LONGNAME:
            self.name = _text(data.split(b"\0")[0])
        elif kind != _GNU_LINK:
            self._records(data)

    def _records(self, data: bytes) -> None:
        """'<length> <name>=<value>\\n' …, where the length counts the whole record."""
        while data:
            digits, _, _ = data[:20].partition(b" ")
            length = int(digits) if digits.isdigit() else 0
            record, rest = data[len(digits) + 1 : length], data[length:]
            name, equals, value = record.partition(b"=")
            if not equals or not value.endswith(b"\n") or len(rest) + length != len(data):
                raise BrokenTar("an extended header of the tar is damaged")
            if name == b"path":
                self.name = _text(value[:-1])
            elif name == b"size" and value[:-1].isdigit() and len(value) < 20:
                self.size = int(value)
            elif name.startswith(b"GNU.sparse."):
                self.is_sparse = True
            data = rest


class _Stream:
    """Reads forward through the blocks of a tar."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._held = memoryview(b"")
        self.position = 0

    def header(self) -> bytes:
        """The next 512 bytes; none at the end, where a few zeros more do no harm."""
        header = b"".join(self._read(_BLOCK))
        if len(header) == _BLOCK:
            return header
        if header.strip(b"\0"):
            raise self._cut()
        return b""

    def extension(self, size: int) -> bytes:
        """The content of a header that tells of the next member."""
        if size > _MOST_EXTENSION_BYTES:
            raise BrokenTar(f"an extended header of the tar has {size} bytes")
        content = b"".join(self.content(size))
        self.pass_to(self.position + -size % _BLOCK)
        return content

    def content(self, size: int) -> Iterator[bytes]:
        """The next bytes, so many."""
        end = self.position + size
        yield from self._read(size)
        if self.position < end:
            raise self._cut()

    def pass_to(self, position: int) -> None:
        for _ in self._read(position - self.position):
            pass
        if self.position < position:
            raise self._cut()

    def _read(self, size: int) -> Iterator[bytes]:
        while size:
            if not self._held:
                try:
                    self._held = memoryview(next(self._blocks, b""))
                except Broken as error:
                    raise BrokenTar(str(error)) from error
                if not self._held:
                    return
            part = self._held[: min(size, BLOCK_BYTES)]
            self._held = self._held[len(part) :]
            self.position += len(part)
            size -= len(part)
            yield bytes(part)

    def _cut(self) -> BrokenTar:
        return BrokenTar(f"the tar is cut off at byte {self.position}")


def _parsed(header: bytes, position: int) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise BrokenTar(f"the tar has a damaged header at byte {position}") from error
    if info.size < 0:
        raise BrokenTar(f"the tar has a damaged header at byte {position}")
    info.name = _text(info.name.encode("utf-8", "surrogateescape"))
    return info


def _text(data: bytes) -> str:
    """Names are only told, so what is no UTF-8 in them is written as escapes."""
    return data.decode("utf-8", "backslashreplace")


def _reason(name: str, info: tarfile.TarInfo) -> str | None:
    if not info.isreg():
        return f"it is {_KINDS.get(info.type, 'of an unknown type')}"
    parts = name.split("/")
    if not name or ".." in parts or name.startswith("/") or not name.isprintable():
        return "its name is no plain path within the tar"
    return None
