"""ROS 1 bags along their index, chunk by chunk."""

from __future__ import annotations

import heapq
import os
from collections import OrderedDict
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from rosbags.rosbag1 import Reader
from rosbags.rosbag1.reader import Header, RecordType, read_bytes, read_uint32

from robot_foundry.ingest.sources.ros.bags.container import ERRORS, Asked, Container, Message
from robot_foundry.ingest.sources.ros.bags.damage import Damage

# Chunks whose messages lie across each other in time.
CHUNKS_AT_HAND = 4


class Rosbag1(Container):
    """See `Container`."""

    is_ros1 = True

    def __init__(self, path: Path) -> None:
        self.reader = Reader(path)
        self._chunks: OrderedDict[int, BytesIO | None] = OrderedDict()

    @property
    def span(self) -> tuple[int, int]:
        return self.reader.start_time, self.reader.end_time

    def messages(self, asked: Asked, damage: Damage) -> Iterator[Message]:
        indexes = [self.reader.indexes[number] for number in sorted(asked.wanted)]
        self._chunks.clear()
        for entry in heapq.merge(*indexes):
            if not asked.low <= entry.time < asked.high:
                continue
            chunk = self._chunk(entry.chunk_pos, damage)
            if chunk is None:
                damage.add(f"the chunk at byte {entry.chunk_pos} of its file cannot be decompressed", 1)
                continue
            try:
                found = self._message(chunk, entry.offset)
                if found is None or found[1] != entry.time or found[0] not in asked.wanted:
                    raise ValueError("no such message")
            except ERRORS:
                damage.add("its index names places where no such message lies", 1)
                continue
            yield Message(asked.wanted[found[0]], entry.time, found[2])

    def _chunk(self, position: int, damage: Damage) -> BytesIO | None:
        """The records of a chunk; None if it is broken. A few chunks are kept."""
        if position in self._chunks:
            self._chunks.move_to_end(position)
            return self._chunks[position]
        header, file = self.reader.chunks[position], self.reader.bio
        assert file is not None
        try:
            file.seek(header.datapos)
            chunk = BytesIO(header.decompressor(read_bytes(file, header.datasize)))
        except ERRORS:
            chunk = None
        self._chunks[position] = chunk
        if len(self._chunks) > CHUNKS_AT_HAND:
            self._chunks.popitem(last=False)
        return chunk

    @staticmethod
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
