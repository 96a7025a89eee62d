"""ROS 1 bags along their index, chunk by chunk."""

from __future__ import annotations

import bz2
import heapq
import os
from collections import Counter, OrderedDict
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import lz4.frame  # type: ignore[import-untyped]
from rosbags.rosbag1 import Reader, ReaderError
from rosbags.rosbag1.reader import Header, IndexData, RecordType, read_bytes, read_uint32

from robot_foundry.ingest.sources.ros.bags.container import ERRORS, Asked, Container, Message
from robot_foundry.ingest.sources.ros.bags.damage import Damage
from robot_foundry.ingest.sources.ros.bags.mcap.layout import LARGEST_CHUNK

# Chunks whose messages lie across each other in time.
CHUNKS_AT_HAND = 4
DECOMPRESSORS: dict[str, Any] = {"bz2": bz2.BZ2Decompressor, "lz4": lz4.frame.LZ4FrameDecompressor}


class Rosbag1(Container):
    """See `Container`."""

    is_ros1 = True

    def __init__(self, path: Path) -> None:
        self.reader = _Reader(path)
        self._chunks: OrderedDict[int, BytesIO | None] = OrderedDict()

    @property
    def span(self) -> tuple[int, int]:
        return self.reader.start_time, self.reader.end_time

    def messages(self, asked: Asked, damage: Damage) -> Iterator[Message]:
        self._chunks.clear()
        for _, number, entry in heapq.merge(*map(self._entries, sorted(asked.wanted))):
            if not asked.low <= entry.time < asked.high:
                continue
            chunk = self._chunk(entry.chunk_pos)
            if chunk is None:
                damage.add(f"the chunk at byte {entry.chunk_pos} of its file cannot be decompressed", 1)
                continue
            try:
                found = _message(chunk, entry.offset)
                if found is None or found[:2] != (number, entry.time):
                    raise ValueError("no such message")
            except ERRORS:
                damage.add("its index names places where no such message lies", 1)
                continue
            yield Message(asked.wanted[number], entry.time, found[2])

    def _entries(self, number: int) -> Iterator[tuple[int, int, IndexData]]:
        """Of a connection by time: the index may name the message of another, which is none of this one's."""
        return ((entry.time, number, entry) for entry in self.reader.indexes[number])

    def _chunk(self, position: int) -> BytesIO | None:
        """The records of a chunk; None if it is broken. A few chunks are kept."""
        if position in self._chunks:
            self._chunks.move_to_end(position)
            return self._chunks[position]
        try:
            chunk = BytesIO(self.reader.records(position))
        except ERRORS:
            chunk = None
        self._chunks[position] = chunk
        if len(self._chunks) > CHUNKS_AT_HAND:
            self._chunks.popitem(last=False)
        return chunk


class _Reader(Reader):
    """The reader of rosbags, which believes the index, together with the chunks that the index lacks.

    The numbers of messages of its connections are those that the index says of each chunk.
    """

    def open(self) -> None:
        super().open()
        self.remarks: list[str] = []
        try:
            counts: Counter[int] = Counter()
            places = [info.pos for info in self.chunk_infos]
            if len(set(places)) < len(places):
                raise ReaderError("its index names a chunk twice")
            for info in self.chunk_infos:
                counts.update(info.connection_counts)
            counts.update(self._add_chunks())
            self.connections = [one._replace(msgcount=counts[one.id]) for one in self.connections]
        except BaseException:
            self.close()
            raise

    def records(self, position: int) -> bytes:
        """The records of the chunk there, of as many bytes as it says. ValueError if they are others."""
        assert self.bio is not None
        self.bio.seek(position)
        header = Header.read(self.bio, RecordType.CHUNK)
        compression, size = header.get_string("compression"), header.get_uint32("size")
        data = read_bytes(self.bio, read_uint32(self.bio))
        if size > LARGEST_CHUNK:
            raise ValueError(f"it is said to have {size} bytes")
        if compression in DECOMPRESSORS:
            data = DECOMPRESSORS[compression]().decompress(data, max_length=size + 1)
        if len(data) != size:
            raise ValueError(f"it has other than {size} bytes")
        return data

    def _add_chunks(self) -> Counter[int]:
        """Index the chunks that the index lacks; what comes is how many messages they have by connection."""
        counts: Counter[int] = Counter()
        added = [place for place in self._chunk_places() if place not in self.chunks]
        for place in added:
            assert self.bio is not None
            self.bio.seek(place)
            self.chunks[place] = self.read_chunk()
            for number, time, offset in _messages_in(BytesIO(self.records(place))):
                counts[number] += 1
                if number in self.indexes:
                    self.indexes[number].append(IndexData(time, place, offset))
        if added:
            self.indexes = {number: sorted(entries) for number, entries in self.indexes.items()}
            more = f" and {len(added) - 1} more" if len(added) > 1 else ""
            self.remarks.append(
                f"has an index without the chunk at byte {added[0]}{more}, which is read all the same"
            )
            for number in counts.keys() - self.indexes.keys():
                self.remarks.append(
                    f"has {counts[number]} messages of connection {number}, which its index does not describe"
                )
        return counts

    def _chunk_places(self) -> list[int]:
        """Where chunks are, record by record, up to the index; behind a damaged one as the index has it."""
        assert self.bio is not None
        file, known, places = self.bio, sorted(self.chunks), []
        file.seek(0)
        file.readline()
        begin = file.tell()
        end = Header.read(file, RecordType.BAGHEADER).get_uint64("index_pos")
        file.seek(begin)
        while file.tell() < end:
            place = file.tell()
            try:
                header = Header.read(file)
                size = read_uint32(file)
                if header.get_uint8("op") == RecordType.CHUNK:
                    places.append(place)
                file.seek(size, os.SEEK_CUR)
            except ERRORS:
                following = next((chunk for chunk in known if chunk > place), end)
                file.seek(following)
        return places


def _messages_in(chunk: BytesIO) -> Iterator[tuple[int, int, int]]:
    """Connection, time and place of each message of a chunk."""
    end = len(chunk.getbuffer())
    while chunk.tell() < end:
        place = chunk.tell()
        header = Header.read(chunk)
        size = read_uint32(chunk)
        if header.get_uint8("op") == RecordType.MSGDATA:
            yield header.get_uint32("conn"), header.get_time("time"), place
        chunk.seek(size, os.SEEK_CUR)


def _message(chunk: BytesIO, offset: int) -> tuple[int, int, bytes] | None:
    """Connection, time and bytes of the message at a place in a chunk; None if there is none."""
    chunk.seek(offset)
    header = Header.read(chunk)
    while header.get_uint8("op") == RecordType.CONNECTION:
        chunk.seek(read_uint32(chunk), os.SEEK_CUR)
        header = Header.read(chunk)
    if header.get_uint8("op") != RecordType.MSGDATA:
        return None
    return header.get_uint32("conn"), header.get_time("time"), read_bytes(chunk, read_uint32(chunk))
