"""MCAP files chunk by chunk, in order of time.

They are read here because rosbags copies each message twice, holds an iterator of every chunk of the file at
once, and believes what the file says of itself. Bytes of messages lie in the memory of their chunk, which the
next chunk uses again.
"""

from __future__ import annotations

import heapq
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from zlib import crc32

import zstandard
from rosbags.interfaces import Connection

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.ros.bags.container import ERRORS, NOWHERE, Channel, Message, further
from robot_foundry.ingest.sources.ros.bags.damage import Damage, in_words
from robot_foundry.ingest.sources.ros.bags.mcap_index import McapIndex
from robot_foundry.ingest.sources.ros.bags.mcap_layout import LARGEST_CHUNK, STORED, Chunk, decompressed

# Of a record in a chunk: opcode and length; of a message then channel, sequence, and time of receipt.
_RECORD, _MESSAGE = struct.Struct("<BQ"), struct.Struct("<BQHIQ")
_MESSAGE_OP, _MESSAGE_HEAD = 5, 31
MAXSIZE = (1 << 63) - 1


class Mcap:
    """See `Container`."""

    is_ros1 = False

    def __init__(self, path: Path) -> None:
        self.reader = McapIndex(path)
        self._free: list[bytearray] = []
        self._checked: set[int] = set()
        self._misindexed: set[int] = set()

    @property
    def connections(self) -> list[Connection]:
        return self.reader.connections

    @property
    def span(self) -> tuple[int, int]:
        return self.reader.span

    @property
    def remarks(self) -> list[str]:
        return self.reader.remarks

    def messages(
        self, wanted: Mapping[int, Channel], start: int | None, stop: int | None, damage: Damage
    ) -> Iterator[Message]:
        low, high = (0 if start is None else start), (MAXSIZE if stop is None else stop)
        for reason in self.reader.gaps:
            damage.add(reason, None)
        in_chunks = self._in_chunks(wanted, low, high, damage)
        loose = further(self._loose(wanted, low, high), damage)
        yield from heapq.merge(in_chunks, loose, key=itemgetter(1)) if self.reader.chunks else loose

    def _loose(self, wanted: Mapping[int, Channel], low: int, high: int) -> Iterator[Message]:
        """Messages outside of chunks in order of time."""
        found = (
            item for item in self.reader.loose() if item.channel in wanted and low <= item.received_ns < high
        )
        if not self.reader.loose_in_order:
            found = iter(sorted(found, key=itemgetter(1)))
        for channel, received_ns, place, num_bytes in found:
            yield Message(wanted[channel], received_ns, self.reader.at(place, num_bytes), place)

    def _in_chunks(
        self, wanted: Mapping[int, Channel], low: int, high: int, damage: Damage
    ) -> Iterator[Message]:
        chunks = [
            chunk
            for chunk in self.reader.chunks
            if chunk.message_end_time >= low
            and chunk.message_start_time < high
            and self._may_hold(chunk, wanted)
        ]
        for group in _overlapping(chunks):
            if len(group) == 1:
                yield from self._messages(group[0], wanted, low, high, damage)
                continue
            sources = [self._queued(chunk, wanted, low, high, damage) for chunk in group]
            for _, message in heapq.merge(*sources, key=lambda queued: queued[0]):
                if message is not None:
                    yield message

    def _may_hold(self, chunk: Chunk, wanted: Mapping[int, Channel]) -> bool:
        """Whether its messages are indexed so. Without an index, or by one that lied before, nobody knows."""
        return (
            not chunk.channel_count
            or chunk.chunk_start_offset in self._misindexed
            or not wanted.keys().isdisjoint(chunk.channel_count)
        )

    def _queued(
        self, chunk: Chunk, wanted: Mapping[int, Channel], low: int, high: int, damage: Damage
    ) -> Iterator[tuple[tuple[int, int], Message | None]]:
        """Its messages by time, behind one entry that tells when it begins: until then it is not read."""
        place = chunk.chunk_start_offset
        yield (chunk.message_start_time, place), None
        for message in self._messages(chunk, wanted, low, high, damage):
            yield (message.received_ns, place), message

    def _messages(
        self, chunk: Chunk, wanted: Mapping[int, Channel], low: int, high: int, damage: Damage
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
            found = {id(message.channel) for message in messages}
            if any(id(wanted[number]) in found for number in wanted.keys() - chunk.channel_count.keys()):
                self._misindexed.add(chunk.chunk_start_offset)
            yield from messages

    def _records(self, chunk: Chunk, memory: bytearray) -> tuple[memoryview, int]:
        """The records of a chunk and where they begin in the file, NOWHERE if they are compressed.

        The CRC-32 is looked at the first time. ValueError if it is not sound.
        """
        file, size, place = self.reader.bio, chunk.uncompressed_size, chunk.chunk_start_offset
        begin = NOWHERE
        assert file is not None
        if chunk.problem is not None:
            raise ValueError(chunk.problem)
        if chunk.compression == STORED:
            if size != chunk.compressed_size:
                raise ValueError(f"it has {chunk.compressed_size} bytes and is said to have {size}")
            if size > len(memory):
                raise ValueError(f"it has {size} bytes")
            records, begin = memoryview(memory)[:size], chunk.data_start
            file.seek(begin)
            if file.readinto(records) != size:  # type: ignore[attr-defined]
                raise EOFError("the file ends in it")
        else:
            records = memoryview(decompressed(self.reader.at(chunk.data_start, chunk.compressed_size), chunk))
        if len(records) != size:
            raise ValueError(f"it has {len(records)} bytes and is said to have {size}")
        if chunk.crc and place not in self._checked:
            if crc32(records) != chunk.crc:
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
    def _memory(self, chunk: Chunk) -> Iterator[bytearray]:
        """Memory for a chunk that is stored as it is, used again when all its messages were asked for."""
        size = chunk.uncompressed_size if chunk.compression == STORED else 0
        size = size if size == chunk.compressed_size <= LARGEST_CHUNK else 0
        memory = self._free.pop() if self._free else bytearray()
        # Memory that a message still lies in cannot grow.
        memory = memory if len(memory) >= size else bytearray(size)
        try:
            yield memory
        finally:
            self._free.append(memory)


def _overlapping(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    """The chunks in order of time; those that may hold messages of the same time together."""
    group: list[Chunk] = []
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
