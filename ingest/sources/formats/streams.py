"""Files as streams of blocks of bytes, decompressed on the way. Memory does not grow with what they hold.

A stream that is cut off raises `Broken` after its last byte. One that is damaged, as its checksum or the
decompressor tells, raises `Refused`: nobody knows since where it is wrong.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO

import zstandard

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.unusable import Broken

GZIP, ZSTD = "gzip", "zstd"
BLOCK_BYTES = 1 << 20
# A block of zstd has 3 bytes at least and becomes 128 KiB at most, so a slice becomes 22 MiB at most.
ZSTD_SLICE_BYTES = 512
# `zstd --long=31` needs so much to be decompressed.
LARGEST_WINDOW = 1 << 31
_SKIPPABLE = (0x184D2A50, 0x184D2A5F)


def blocks_of(file: BinaryIO) -> Iterator[bytes]:
    """What is left of a file."""
    while block := file.read(BLOCK_BYTES):
        yield block


def compression_of(head: bytes) -> str | None:
    """By the first bytes of a file, whatever its name says."""
    if head.startswith(b"\x1f\x8b\x08"):
        return GZIP
    magic = int.from_bytes(head[:4], "little")
    is_zstd = magic == 0xFD2FB528 or _SKIPPABLE[0] <= magic <= _SKIPPABLE[1]
    return ZSTD if is_zstd else None


def decompressed(blocks: Iterable[bytes], compression: str | None) -> Iterator[bytes]:
    """The blocks as they were before the compression: all members of gzip, all frames of zstd."""
    if compression is None:
        yield from blocks
    elif compression == GZIP:
        yield from _gunzipped(iter(blocks))
    else:
        yield from _unzstd(blocks)


def peeked(blocks: Iterator[bytes], compression: str | None) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes of the decompressed blocks, none where the stream breaks before, and all blocks."""
    content = decompressed(blocks, compression)
    try:
        first = next((block for block in content if block), b"")
    except Broken as error:
        return b"", _breaking(error)
    return first, chain((first,), content)


def whole(blocks: Iterable[bytes], limit: int) -> bytes | None:
    """All bytes; None for more than `limit`, which are read and dropped."""
    parts, size = [], 0
    for block in blocks:
        size += len(block)
        if size <= limit:
            parts.append(block)
        else:
            parts.clear()
    return b"".join(parts) if size <= limit else None


def lines(blocks: Iterable[bytes], limit: int) -> Iterator[bytes | None]:
    """Lines without their ends; None for one of more than `limit` bytes, which memory never holds."""
    parts: list[bytes] = []
    size = 0
    for block in blocks:
        first, *others = block.split(b"\n")
        for piece in others:
            size += len(first)
            yield b"".join((*parts, first)) if size <= limit else None
            parts, size, first = [], 0, piece
        size += len(first)
        if size <= limit:
            parts.append(first)
        else:
            parts.clear()
    if size:
        yield b"".join(parts) if size <= limit else None


def _breaking(error: Broken) -> Iterator[bytes]:
    raise error
    yield b""


def _gunzipped(blocks: Iterator[bytes]) -> Iterator[bytes]:
    data, member, at = b"", None, _At(GZIP)
    while data := data or next(blocks, b""):
        if member is None:
            data = data.lstrip(b"\0") if at.part else data  # some writers pad with zeros
            if not data:
                continue
            member = zlib.decompressobj(wbits=31)
        try:
            content = member.decompress(data, BLOCK_BYTES)
        except zlib.error as error:
            raise at.damage(error) from error
        yield from at.given(content)
        data = member.unused_data if member.eof else member.unconsumed_tail
        if member.eof:
            at.end()
            member = None
    if member is not None:
        yield from at.given(member.flush())
        if not member.eof:
            raise at.cut()


def _unzstd(blocks: Iterable[bytes]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
    frame, at = None, _At(ZSTD)
    for block in blocks:
        for start in range(0, len(block), ZSTD_SLICE_BYTES):
            data = block[start : start + ZSTD_SLICE_BYTES]
            while data:
                frame = frame or decompressor.decompressobj()
                try:
                    content = frame.decompress(data)
                except zstandard.ZstdError as error:
                    raise at.damage(error) from error
                yield from at.given(content)
                data = frame.unused_data if frame.eof else b""
                if frame.eof:
                    at.end()
                    frame = None
    if frame is not None:
        raise at.cut()


class _At:
    """Where a decompressor is: in which `part`, a member or a frame, and whether that gave anything."""

    def __init__(self, compression: str) -> None:
        self._compression = compression
        self.part = 0
        self._is_fresh = True

    def given(self, content: bytes) -> Iterator[bytes]:
        if content:
            self._is_fresh = False
            yield content

    def end(self) -> None:
        self.part += 1
        self._is_fresh = True

    def cut(self) -> Broken:
        return Broken(f"the file is cut off: its {self._compression} compression has no end")

    def damage(self, error: Exception) -> Exception:
        """`Broken` behind whole parts, `Refused` in what was given already in part."""
        if self.part and self._is_fresh:
            return Broken(f"behind its {self._compression} compression are other bytes")
        return Refused(f"its {self._compression} compression is damaged: {error}")
