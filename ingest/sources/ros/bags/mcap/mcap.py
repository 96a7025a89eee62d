"""MCAP files chunk by chunk, in order of time.

They are read here because rosbags copies each message twice, holds an iterator of every chunk of the file at
once, and believes what the file says of itself. Bytes of messages lie in the memory of their chunk, which the
next chunk uses again.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from zlib import crc32

import zstandard

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.ros.bags.container import (
    ERRORS,
    NOWHERE,
    Asked,
    Channel,
    Container,
    Message,
    further,
)
from robot_foundry.ingest.sources.ros.bags.damage import Damage, in_words
from robot_foundry.ingest.sources.ros.bags.mcap.index import Loose, McapIndex
from robot_foundry.ingest.sources.ros.bags.mcap.layout import LARGEST_CHUNK, STORED, Chunk, decompressed
from robot_foundry.ingest.sources.ros.bags.mcap.records import heads_in, messages_in

UNSOUND: tuple[type[Exception], ...] = (*ERRORS, zstandard.ZstdError)
# Bytes of a message on average from which reading only their beginnings is worth its calls.
WORTH_SKIPPING = 1 << 16


def _is_skipped(chunk: Chunk, asked: Asked) -> bool:
    """Whether most bytes of a chunk are of messages whose beginnings will do."""
    counts = chunk.channel_count
    is_large = chunk.uncompressed_size > WORTH_SKIPPING * sum(counts.values())
    return is_large and any(number in counts for number in asked.heads)


class Mcap(Container):
    """See `Container`."""

    def __init__(self, path: Path) -> None:
        self.reader = McapIndex(path)
        self._free: list[bytearray] = []
        self._checked: set[int] = set()
        self._misindexed: set[int] = set()

    def messages(self, asked: Asked, damage: Damage) -> Iterator[Message]:
        for reason in self.reader.gaps:
            damage.add(reason, None)
        loose = further(self._loose(asked), damage)
        in_chunks = self._in_chunks(asked, damage)
        yield from heapq.merge(in_chunks, loose, key=itemgetter(1)) if self.reader.chunks else loose

    def _loose(self, asked: Asked) -> Iterator[Message]:
        """Messages outside of chunks in order of time."""
        found: Iterator[Loose] = (
            item
            for item in self.reader.loose()
            if item.channel in asked.wanted and asked.low <= item.received_ns < asked.high
        )
        if not self.reader.loose_in_order:
            found = iter(sorted(found, key=itemgetter(1)))
        for channel, received_ns, place, num_bytes in found:
            yield Message(asked.wanted[channel], received_ns, self.reader.at(place, num_bytes), place)

    def _in_chunks(self, asked: Asked, damage: Damage) -> Iterator[Message]:
        chunks = [
            chunk
            for chunk in self.reader.chunks
            if chunk.message_end_time >= asked.low
            and chunk.message_start_time < asked.high
            and self._may_hold(chunk, asked.wanted)
        ]
        for group in _overlapping(chunks):
            if len(group) == 1:
                yield from self._messages(group[0], asked, damage)
                continue
            sources = [self._queued(chunk, asked, damage) for chunk in group]
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
        self, chunk: Chunk, asked: Asked, damage: Damage
    ) -> Iterator[tuple[tuple[int, int], Message | None]]:
        """Its messages by time, behind one entry that tells when it begins: until then it is not read."""
        place = chunk.chunk_start_offset
        yield (chunk.message_start_time, place), None
        for message in self._messages(chunk, asked, damage):
            yield (message.received_ns, place), message

    def _messages(self, chunk: Chunk, asked: Asked, damage: Damage) -> Iterator[Message]:
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
            unindexed = asked.wanted.keys() - chunk.channel_count.keys()
            if unindexed:
                found = {id(message.channel) for message in messages}
                if any(id(asked.wanted[number]) in found for number in unindexed):
                    self._misindexed.add(chunk.chunk_start_offset)
            yield from messages

    def _read(self, chunk: Chunk, asked: Asked, memory: bytearray) -> list[Message]:
        """Its messages; ValueError or the like if it is not sound. Its CRC-32 is looked at the first time."""
        file, size, place = self.reader.bio, chunk.uncompressed_size, chunk.chunk_start_offset
        assert file is not None
        if chunk.problem is not None:
            raise ValueError(chunk.problem)
        begin = chunk.data_start
        is_checked = not chunk.crc or place in self._checked
        if chunk.compression == STORED:
            if size != chunk.compressed_size:
                raise ValueError(f"it has {chunk.compressed_size} bytes and is said to have {size}")
            if is_checked and _is_skipped(chunk, asked):
                return heads_in(self._bytes, begin, size, asked)
            if size > len(memory):
                raise ValueError(f"it has {size} bytes")
            records = memoryview(memory)[:size]
            file.seek(begin)
            if file.readinto(records) != size:
                raise EOFError("the file ends in it")
        else:
            records = memoryview(decompressed(self.reader.at(begin, chunk.compressed_size), chunk))
            begin = NOWHERE
        if len(records) != size:
            raise ValueError(f"it has {len(records)} bytes and is said to have {size}")
        if not is_checked and crc32(records) != chunk.crc:
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
