"""MCAP files chunk by chunk, in order of time; what a file says of itself comes from rosbags.

Chunks are read here because rosbags copies each message twice and holds an iterator of every chunk of the
file at once. Bytes of messages lie in the memory of their chunk, which the next chunk uses again.
"""

from __future__ import annotations

import heapq
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import zstandard
from rosbags.interfaces import Connection
from rosbags.rosbag2.storage_mcap import DECOMPRESSORS, MAXSIZE, ChunkInfo, McapReader

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.ros.bags.container import ERRORS, NOWHERE, Channel, Message, further
from robot_foundry.ingest.sources.ros.bags.damage import Damage, in_words

# Of a chunk: the opcode, the length of the record, times, size, CRC-32, and the length of the compression's
# name. Of a record in it: opcode and length; of a message then channel, sequence, and time of receipt.
_CHUNK, _RECORD, _MESSAGE = struct.Struct("<BQQQQII"), struct.Struct("<BQ"), struct.Struct("<BQHIQ")
_MESSAGE_OP, _MESSAGE_HEAD = 5, 31
_NUMBER = struct.Struct("<Q")
_zstd = zstandard.ZstdDecompressor()
ZSTD, STORED = "zstd", ""
# Nothing that is recorded comes near it; an index that lies may say anything.
LARGEST_CHUNK = 1 << 31


class Mcap:
    """See `Container`."""

    is_ros1 = False

    def __init__(self, path: Path) -> None:
        self.reader = McapReader(path)
        self._free: list[bytearray] = []
        self._checked: set[int] = set()

    @property
    def connections(self) -> list[Connection]:
        return self.reader.connections

    @property
    def span(self) -> tuple[int, int]:
        return self.reader.metadata.start_time, self.reader.metadata.end_time

    def messages(
        self, wanted: Mapping[int, Channel], start: int | None, stop: int | None, damage: Damage
    ) -> Iterator[Message]:
        if not self.reader.chunks:
            named = [connection for connection in self.connections if connection.id in wanted]
            for connection, time, raw in further(self.reader.messages(named, start, stop), damage):
                yield Message(wanted[connection.id], time, raw)
            return
        low, high = (0 if start is None else start), (MAXSIZE if stop is None else stop)
        chunks = [
            chunk
            for chunk in self.reader.chunks
            if chunk.message_end_time >= low
            and chunk.message_start_time < high
            # Without an index of its messages nobody knows what a chunk holds.
            and (not chunk.channel_count or not wanted.keys().isdisjoint(chunk.channel_count))
        ]
        for group in _overlapping(chunks):
            if len(group) == 1:
                yield from self._messages(group[0], wanted, low, high, damage)
                continue
            sources = [self._queued(chunk, wanted, low, high, damage) for chunk in group]
            for _, message in heapq.merge(*sources, key=lambda queued: queued[0]):
                if message is not None:
                    yield message

    def _queued(
        self, chunk: ChunkInfo, wanted: Mapping[int, Channel], low: int, high: int, damage: Damage
    ) -> Iterator[tuple[tuple[int, int], Message | None]]:
        """Its messages by time, behind one entry that tells when it begins: until then it is not read."""
        place = chunk.chunk_start_offset
        yield (chunk.message_start_time, place), None
        for message in self._messages(chunk, wanted, low, high, damage):
            yield (message.received_ns, place), message

    def _messages(
        self, chunk: ChunkInfo, wanted: Mapping[int, Channel], low: int, high: int, damage: Damage
    ) -> Iterator[Message]:
        """Its messages in order of time; none if it is broken anywhere."""
        with self._memory(chunk) as memory:
            try:
                records, begin = self._records(chunk, memory)
                messages = _messages(records, begin, wanted, low, high)
            except (*ERRORS, zstandard.ZstdError) as error:
                counts = [chunk.channel_count.get(number, 0) for number in wanted]
                damage.add(
                    f"the chunk at byte {chunk.chunk_start_offset} of its file cannot be read: "
                    f"{in_words(error)}",
                    sum(counts) if chunk.channel_count else None,
                )
                return
            yield from messages

    def _records(self, chunk: ChunkInfo, memory: bytearray) -> tuple[memoryview, int]:
        """The records of a chunk and where they begin in the file, NOWHERE if they are compressed.

        The CRC-32 is looked at the first time. ValueError if it is not sound.
        """
        file, size, place = self.reader.bio, chunk.uncompressed_size, chunk.chunk_start_offset
        begin = NOWHERE
        assert file is not None
        file.seek(place)
        *_, crc, name_bytes = _CHUNK.unpack(_exactly(file, _CHUNK.size))
        file.seek(name_bytes + _NUMBER.size, 1)
        if chunk.compression == STORED:
            if size != chunk.compressed_size:
                raise ValueError(f"it has {chunk.compressed_size} bytes and is said to have {size}")
            if size > len(memory):
                raise ValueError(f"it has {size} bytes")
            records, begin = memoryview(memory)[:size], file.tell()
            if file.readinto(records) != size:  # type: ignore[attr-defined]
                raise EOFError("the file ends in it")
        else:
            records = memoryview(_decompressed(_exactly(file, chunk.compressed_size), chunk))
        if len(records) != size:
            raise ValueError(f"it has {len(records)} bytes and is said to have {size}")
        if crc and place not in self._checked:
            if crc32(records) != crc:
                raise ValueError("its checksum is another one")
            self._checked.add(place)
        return records, begin

    def read(self, place: int, num_bytes: int) -> bytes:
        assert self.reader.bio is not None
        try:
            data = os.pread(self.reader.bio.fileno(), num_bytes, place)
        except OSError as error:
            raise Refused(f"its file cannot be read a second time: {in_words(error)}") from error
        if len(data) != num_bytes:
            raise Refused("its file is shorter than when it was read first")
        return data

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


def _messages(
    records: memoryview, begin: int, wanted: Mapping[int, Channel], low: int, high: int
) -> list[Message]:
    """Messages of a chunk in order of time. ValueError if the records do not fill it."""
    messages: list[Message] = []
    place, end, newest, in_order = 0, len(records), -1, True
    record_at, message_at, channel_of = _RECORD.unpack_from, _MESSAGE.unpack_from, wanted.get
    while place < end:
        if place + _MESSAGE_HEAD <= end:
            op, size, number, _, time = message_at(
                records, place
            )  # of another record, numbers without a meaning
        else:
            op, size = record_at(records, place)
        next_place = place + _RECORD.size + size
        if next_place > end:
            raise ValueError("a record of it is longer than the chunk")
        if op == _MESSAGE_OP:
            start = place + _MESSAGE_HEAD
            if next_place < start:
                raise ValueError("a message of it is too short")
            channel = channel_of(number)
            if channel is not None and low <= time < high:
                lies_at = begin + start if begin != NOWHERE else NOWHERE
                messages.append(Message(channel, time, records[start:next_place], lies_at))
                in_order = in_order and time >= newest
                newest = time
        place = next_place
    if not in_order:
        messages.sort(key=itemgetter(1))
    return messages


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
