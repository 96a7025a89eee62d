"""MCAP files chunk by chunk, in order of time; what a file says of itself comes from rosbags.

Chunks are read here because rosbags copies each message twice and holds an iterator of every chunk of the
file at once. Bytes of messages lie in the memory of their chunk, which the next chunk uses again.
"""

from __future__ import annotations

import heapq
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import zstandard
from rosbags.rosbag2.storage_mcap import DECOMPRESSORS, ChunkInfo, McapReader

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.ros.bags.container import (
    ERRORS,
    NOWHERE,
    Asked,
    Container,
    Message,
    further,
)
from robot_foundry.ingest.sources.ros.bags.damage import Damage, in_words
from robot_foundry.ingest.sources.ros.bags.mcap_records import heads_in, messages_in

# The opcode of a chunk, the length of its record, times, size, CRC-32, and the length of the compression's
# name, which stands behind; then the number of bytes of its records.
_CHUNK, _NUM_BYTES = struct.Struct("<BQQQQII"), 8
_zstd = zstandard.ZstdDecompressor()
UNSOUND: tuple[type[Exception], ...] = (*ERRORS, zstandard.ZstdError)
ZSTD, STORED = "zstd", ""
# Nothing that is recorded comes near it; an index that lies may say anything.
LARGEST_CHUNK = 1 << 31
# Bytes of a message on average from which reading only their beginnings is worth its calls.
WORTH_SKIPPING = 1 << 16


def _is_skipped(chunk: ChunkInfo, asked: Asked) -> bool:
    """Whether most bytes of a chunk are of messages whose beginnings will do."""
    counts = chunk.channel_count
    is_large = chunk.uncompressed_size > WORTH_SKIPPING * sum(counts.values())
    return is_large and any(number in counts for number in asked.heads)


class Mcap(Container):
    """See `Container`."""

    def __init__(self, path: Path) -> None:
        self.reader = McapReader(path)
        self._free: list[bytearray] = []
        self._checked: set[int] = set()

    def messages(self, asked: Asked, damage: Damage) -> Iterator[Message]:
        if not self.reader.chunks:
            named = asked.connections(self.connections)
            for connection, time, raw in further(self.reader.messages(named, asked.low, asked.high), damage):
                yield Message(asked.wanted[connection.id], time, raw)
            return
        chunks = [
            chunk
            for chunk in self.reader.chunks
            if chunk.message_end_time >= asked.low
            and chunk.message_start_time < asked.high
            # Without an index of its messages nobody knows what a chunk holds.
            and (not chunk.channel_count or not asked.wanted.keys().isdisjoint(chunk.channel_count))
        ]
        for group in _overlapping(chunks):
            if len(group) == 1:
                yield from self._messages(group[0], asked, damage)
                continue
            sources = [self._queued(chunk, asked, damage) for chunk in group]
            for _, message in heapq.merge(*sources, key=lambda queued: queued[0]):
                if message is not None:
                    yield message

    def _queued(
        self, chunk: ChunkInfo, asked: Asked, damage: Damage
    ) -> Iterator[tuple[tuple[int, int], Message | None]]:
        """Its messages by time, behind one entry that tells when it begins: until then it is not read."""
        place = chunk.chunk_start_offset
        yield (chunk.message_start_time, place), None
        for message in self._messages(chunk, asked, damage):
            yield (message.received_ns, place), message

    def _messages(self, chunk: ChunkInfo, asked: Asked, damage: Damage) -> Iterator[Message]:
        """Its messages in order of time; none if it is broken anywhere."""
        with self._memory(chunk) as memory:
            try:
                messages = self._read(chunk, asked, memory)
            except UNSOUND as error:
                counts = [chunk.channel_count.get(number, 0) for number in asked.wanted]
                damage.add(
                    f"the chunk at byte {chunk.chunk_start_offset} of its file cannot be read: "
                    f"{in_words(error)}",
                    sum(counts) if chunk.channel_count else None,
                )
                return
            yield from messages

    def _read(self, chunk: ChunkInfo, asked: Asked, memory: bytearray) -> list[Message]:
        """Its messages; ValueError or the like if it is not sound. Its CRC-32 is looked at the first time."""
        file, size, place = self.reader.bio, chunk.uncompressed_size, chunk.chunk_start_offset
        assert file is not None
        file.seek(place)
        *_, crc, name_bytes = _CHUNK.unpack(_exactly(file, _CHUNK.size))
        begin = place + _CHUNK.size + name_bytes + _NUM_BYTES
        file.seek(begin)
        is_checked = not crc or place in self._checked
        if chunk.compression == STORED:
            if size != chunk.compressed_size:
                raise ValueError(f"it has {chunk.compressed_size} bytes and is said to have {size}")
            if is_checked and _is_skipped(chunk, asked):
                return heads_in(self._bytes, begin, size, asked)
            if size > len(memory):
                raise ValueError(f"it has {size} bytes")
            records = memoryview(memory)[:size]
            if file.readinto(records) != size:
                raise EOFError("the file ends in it")
        else:
            records = memoryview(_decompressed(_exactly(file, chunk.compressed_size), chunk))
            begin = NOWHERE
        if len(records) != size:
            raise ValueError(f"it has {len(records)} bytes and is said to have {size}")
        if not is_checked and crc32(records) != crc:
            raise ValueError("its checksum is another one")
        self._checked.add(place)
        return messages_in(records, begin, asked)

    def _bytes(self, place: int, num_bytes: int) -> bytes:
        assert self.reader.bio is not None
        data = os.pread(self.reader.bio.fileno(), num_bytes, place)
        if len(data) != num_bytes:
            raise EOFError("the file ends in it")
        return data

    def read(self, place: int, num_bytes: int) -> bytes:
        try:
            return self._bytes(place, num_bytes)
        except (EOFError, OSError) as error:
            raise Refused(f"its file cannot be read a second time: {in_words(error)}") from error

    @contextmanager
    def _memory(self, chunk: ChunkInfo) -> Iterator[bytearray]:
        """Memory for a chunk that is stored as it is, used again when all its messages were asked for."""
        size = chunk.uncompressed_size if chunk.compression == STORED else 0
        size = size if size <= LARGEST_CHUNK else 0
        memory = self._free.pop() if self._free else bytearray()
        # Memory that a message still lies in cannot grow.
        memory = memory if len(memory) >= size else bytearray(size)
        try:
            yield memory
        finally:
            self._free.append(memory)


def _overlapping(chunks: Sequence[ChunkInfo]) -> Iterator[list[ChunkInfo]]:
    """The chunks in order of time; those that may hold messages of the same time together."""
    group: list[ChunkInfo] = []
    end = -1
    for chunk in sorted(chunks, key=lambda chunk: (chunk.message_start_time, chunk.chunk_start_offset)):
        if group and chunk.message_start_time > end:
            yield group
            group = []
        group.append(chunk)
        end = max(end, chunk.message_end_time)
    if group:
        yield group


def _decompressed(data: bytes, chunk: ChunkInfo) -> bytes:
    if chunk.uncompressed_size > LARGEST_CHUNK:
        raise ValueError(f"it is said to have {chunk.uncompressed_size} bytes")
    if chunk.compression == ZSTD:
        told = zstandard.frame_content_size(data)  # -1 where the frame does not tell
        if told not in (-1, chunk.uncompressed_size):
            raise ValueError(f"it has {told} bytes and is said to have {chunk.uncompressed_size}")
        return _zstd.decompress(data, max_output_size=chunk.uncompressed_size)
    if chunk.compression not in DECOMPRESSORS:
        raise ValueError(f"nothing decompresses '{chunk.compression}'")
    return DECOMPRESSORS[chunk.compression](data, chunk.uncompressed_size)


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise EOFError("the file ends in it")
    return data
