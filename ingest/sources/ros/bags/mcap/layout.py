"""Records of MCAP, one after the other, and the bytes of a chunk within bounds."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lz4.frame  # type: ignore[import-untyped]
import zstandard
from rosbags.rosbag2 import ReaderError

HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX, STATISTICS, DATA_END = (
    1, 2, 3, 4, 5, 6, 7, 8, 11, 15,
)  # fmt: skip
# Opcode and length of a record; channel, sequence, and times of receipt and sending of a message.
HEAD, MESSAGE_HEAD = struct.Struct("<BQ"), struct.Struct("<HIQQ")
ZSTD, LZ4, STORED = "zstd", "lz4", ""
# Nothing that is recorded comes near it; a chunk that lies may say anything.
LARGEST_CHUNK = 1 << 31


@dataclass(frozen=True)
class Chunk:
    """A chunk as its own record has it: its bytes lie from `data_start` on, in the form `compression`.

    `channel_count` are numbers of messages by channel, empty where nothing tells them. `problem` says why it
    cannot be read.
    """

    chunk_start_offset: int
    data_start: int
    message_start_time: int
    message_end_time: int
    compression: str
    compressed_size: int
    uncompressed_size: int
    crc: int
    channel_count: dict[int, int]
    problem: str | None = None


class Fields:
    """Fields of a record, one after the other. ReaderError where it ends before, or holds no text."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def number(self, num_bytes: int) -> int:
        return int.from_bytes(self._take(num_bytes), "little")

    def text(self) -> str:
        try:
            return self.sized().decode("utf-8")
        except UnicodeDecodeError as error:
            raise ReaderError("a name in it is no text") from error

    def sized(self) -> bytes:
        return self._take(self.number(4))

    def _take(self, count: int) -> bytes:
        data = self._content[self._at : self._at + count]
        if len(data) != count:
            raise ReaderError("a record of it is cut off")
        self._at += count
        return data


def decompressed(data: bytes, chunk: Chunk) -> bytes:
    """As many bytes as the chunk says at most. ValueError or ZstdError if they are others."""
    size = chunk.uncompressed_size
    if size > LARGEST_CHUNK:
        raise ValueError(f"it is said to have {size} bytes")
    if chunk.compression == ZSTD:
        told = zstandard.frame_content_size(data)  # -1 where the frame does not tell
        if told not in (-1, size):
            raise ValueError(f"it has {told} bytes and is said to have {size}")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
    if chunk.compression == LZ4:
        return bytes(lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1))
    if chunk.compression != STORED:
        raise ValueError(f"nothing decompresses '{chunk.compression}'")
    return data


def records_in(content: Any) -> Iterator[tuple[int, int, int]]:
    """Opcode, where the content begins, and its length, of each record. ValueError if they do not fill it."""
    place = 0
    while place < len(content):
        op, size = HEAD.unpack_from(content, place)
        if place + HEAD.size + size > len(content):
            raise ValueError("a record of it is longer than the chunk")
        yield op, place + HEAD.size, size
        place += HEAD.size + size
