"""Reads a tar from a stream, header by header, and trusts none of it.

POSIX ustar, GNU and pax archives of regular files are read, with long names. Compressed, sparse and
truncated archives, links, devices, folders, and names with a folder in them are refused with the reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import google_crc32c

from robot_foundry.runtime.errors import FoundryError

_BLOCK = 512
_CHUNK = 1 << 20
_MAX_EXTENSION_BYTES = 1 << 20
_MAX_NAME_BYTES = 255
_REGULAR, _PAX, _PAX_GLOBAL, _GNU_LONG_NAME = (b"0", b"\0"), b"x", b"g", b"L"
_MAGICS = (b"ustar\x0000", b"ustar  \0", bytes(8))
_KINDS = {
    b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"5": "a folder",
    b"6": "a FIFO", b"S": "a sparse file", b"K": "a link with a long name",
}  # fmt: skip
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}


@dataclass(frozen=True)
class ScannedMember:
    """A regular file in a tar: `offset` and `size` of its payload in bytes, and the payload's CRC-32C."""

    name: str
    offset: int
    size: int
    crc32c: int


def stands_before(header: bytes, size: int) -> bool:
    """Whether this is the header of a regular file of that size, whoever wrote it."""
    is_file = header[156:157] in _REGULAR and _octal(header[148:156]) == _checksum(header)
    # The size of a larger file stands in an extended header.
    return is_file and (size >= 8**11 or _octal(header[124:136]) == size)


class TarScan:
    """Iterates the members of `fileobj` (needs only `read`) in tar order; afterwards the whole was hashed.

    `where` names the tar in errors. `sha256` and `num_bytes` are of the whole file, valid after the end.
    """

    def __init__(self, fileobj: BinaryIO, where: str) -> None:
        self._file = fileobj
        self._where = where
        self._sha256 = hashlib.sha256()
        self.num_bytes = 0

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def __iter__(self) -> Iterator[ScannedMember]:
        extended: dict[str, str] = {}
        while (header := self._read(_BLOCK)) != bytes(_BLOCK):
            kind, size = self._parse(header)
            if kind in (_PAX, _PAX_GLOBAL, _GNU_LONG_NAME):
                extended |= self._extension(kind, size)
                continue
            if kind not in _REGULAR:
                what = _KINDS.get(kind, f"of the unknown type {kind!r}")
                raise self._refusal(f"a member {_text(header[:100])!r} that is {what}")
            size = self._decimal(extended["size"]) if "size" in extended else size
            name = extended.get("path") or self._short_name(header)
            yield self._member(name, size)
            extended = {}
        self._finish(bool(extended))

    def _member(self, name: str, size: int) -> ScannedMember:
        _check_name(name, self._where)
        offset, crc = self.num_bytes, 0
        for start in range(0, size, _CHUNK):
            crc = google_crc32c.extend(crc, self._read(min(_CHUNK, size - start)))
        self._read(-size % _BLOCK)
        return ScannedMember(name, offset, size, crc)

    def _parse(self, header: bytes) -> tuple[bytes, int]:
        """Type and size. The first bytes of a compressed file are told from those of a damaged one."""
        if _octal(header[148:156]) != _checksum(header):
            compression = _COMPRESSED.get(header[:2]) if self.num_bytes == _BLOCK else None
            if compression:
                raise self._refusal(f"{compression} compression, which an index cannot seek in")
            raise self._refusal(f"a damaged header at byte {self.num_bytes - _BLOCK}")
        size = _octal(header[124:136])
        if size is None or header[257:265] not in _MAGICS:
            raise self._refusal(f"an unreadable header at byte {self.num_bytes - _BLOCK}")
        return header[156:157], size

    def _short_name(self, header: bytes) -> str:
        name = self._utf8(header[:100].split(b"\0")[0])
        prefix = header[345:500].split(b"\0")[0] if header[257:265] == _MAGICS[0] else b""
        return f"{self._utf8(prefix)}/{name}" if prefix else name

    def _extension(self, kind: bytes, size: int) -> dict[str, str]:
        """The `path` and `size` that the next header leaves to this one."""
        if size > _MAX_EXTENSION_BYTES:
            raise self._refusal(f"an extended header of {size} bytes")
        data = self._read(size)
        self._read(-size % _BLOCK)
        if kind == _GNU_LONG_NAME:
            return {"path": self._utf8(data.split(b"\0")[0])}
        records = self._pax_records(data)
        if any(name.startswith("GNU.sparse.") for name in records):
            raise self._refusal("a sparse file")
        overrides = {name: value for name, value in records.items() if name in ("path", "size")}
        if overrides and kind == _PAX_GLOBAL:
            raise self._refusal("a global header that sets names or sizes")
        return overrides

    def _pax_records(self, data: bytes) -> dict[str, str]:
        """'<length> <name>=<value>\\n' …, where the length counts the whole record."""
        records = {}
        while data:
            digits, space, _ = data[:20].partition(b" ")
            length = self._decimal(_text(digits)) if space else 0
            record, data = data[len(digits) + 1 : length], data[length:]
            name, equals, value = record.partition(b"=")
            if not equals or not value.endswith(b"\n") or length != len(digits) + 1 + len(record):
                raise self._refusal("a damaged extended header")
            if name in (b"path", b"size") or name.startswith(b"GNU.sparse."):
                records[_text(name)] = self._utf8(value[:-1])
        return records

    def _finish(self, open_extension: bool) -> None:
        """After the first zero block: another, then zeros to the end of the file."""
        if open_extension:
            raise self._refusal("an extended header without its member")
        self._read(_BLOCK, zero=True)
        while data := self._file.read(_CHUNK):
            self._account(data)
            if data.count(0) != len(data):
                raise self._refusal("data after its end mark, as tars have that were joined end to end")

    def _read(self, size: int, zero: bool = False) -> bytes:
        data = b""
        while len(data) < size:
            part = self._file.read(size - len(data))
            if not part:
                raise self._refusal(f"no end mark: it is cut off at byte {self.num_bytes + len(data)}")
            data = data + part if data else part
        self._account(data)
        if zero and data.count(0) != size:
            raise self._refusal("a single zero block in place of its end mark")
        return data

    def _account(self, data: bytes) -> None:
        self._sha256.update(data)
        self.num_bytes += len(data)

    def _decimal(self, text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            raise self._refusal("a damaged extended header")
        return int(text)

    def _utf8(self, data: bytes) -> str:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise self._refusal(f"the name {_text(data)!r}, which is not UTF-8") from None

    def _refusal(self, what: str) -> FoundryError:
        return FoundryError(f"{self._where} cannot be indexed: it has {what}")


def _checksum(header: bytes) -> int:
    """What a header's checksum should be, which counts as spaces itself."""
    return sum(header[:148]) + 8 * ord(" ") + sum(header[156:])


def _octal(field: bytes) -> int | None:
    digits = field.strip(b" \0")
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        return None
    return int(digits, 8)


def _check_name(name: str, where: str) -> None:
    bad = not name or name in (".", "..") or "/" in name or "\\" in name or not name.isprintable()
    if bad or len(name.encode("utf-8")) > _MAX_NAME_BYTES:
        raise FoundryError(
            f"{where} cannot be indexed: its member name {name[:120]!r} is not a plain file name",
            hint="a shard is flat: names hold no '/', '..' or control characters",
        )


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode("utf-8", "replace")
