"""Files of messages through rosbags, each in order of time, chunk by chunk, and further after a broken chunk.

rosbags reads what a file says of itself and the records in a chunk. It stops at the first broken chunk, and
its reader of folders matches the topics of metadata.yaml with those of the files by their settings, by which
all messages of some bags are lost: so files are opened one by one, and chunks as well.
"""

from __future__ import annotations

import heapq
import os
import tempfile
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader as Rosbag1
from rosbags.rosbag1 import ReaderError as Error1
from rosbags.rosbag1.reader import Header, RecordType, read_bytes, read_uint32
from rosbags.rosbag2 import ReaderError as Error2
from rosbags.rosbag2.storage_mcap import MAXSIZE, ChunkInfo, McapReader, msgsrc
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

from robot_foundry.ingest.sources.base import GIT_LFS, Refused
from robot_foundry.ingest.sources.ros.bags.damage import BROKEN, Damage, in_words

ROS1_MAGIC, MCAP_MAGIC, SQLITE_MAGIC = b"#ROSBAG", b"\x89MCAP0\r\n", b"SQLite format 3\0"
ERRORS: tuple[type[Exception], ...] = (*BROKEN, Error1, Error2)
# Chunks of ROS 1 whose messages lie across each other in time.
CHUNKS_AT_HAND = 4
# What a path may not hold that stands in an SQLite URI.
OF_URIS = "?#%"

Message = tuple[Connection, int, Any]  # and its time of receipt in ns, and its bytes


class Container(Protocol):
    """An open file. `connections` have the numbers of messages that it says of itself."""

    is_ros1: bool

    @property
    def connections(self) -> list[Connection]: ...

    def messages(
        self, ids: Collection[int], start: int | None, stop: int | None, damage: Damage
    ) -> Iterator[Message]:
        """Messages of these connections from `start` ns up to and without `stop`."""
        ...


@contextmanager
def open_container(path: Path, name: str) -> Iterator[Container]:
    """The file at a path, called `name` in messages. Refused if it is none, or cannot be used as a whole."""
    with path.open("rb") as file:
        head = file.read(16)
    with ExitStack() as until_closed:
        if head.startswith(ROS1_MAGIC):
            made: Container = _Rosbag1(path)
        elif head.startswith(MCAP_MAGIC):
            made = _Mcap(path)
        elif head == SQLITE_MAGIC:
            made = _Sqlite(until_closed.enter_context(_plain_path(path)))
        elif GIT_LFS.startswith(head[:16]) and head:
            raise Refused(
                f"its file {name} is a pointer of Git LFS in place of the bag: fetch it (git lfs pull)"
            )
        else:
            raise Refused(f"its file {name} is no ROS 1 bag, MCAP file or SQLite database")
        reader: Any = made.reader  # type: ignore[attr-defined]
        try:
            reader.open()
        except ERRORS as error:
            raise Refused(f"its file {name} cannot be read: {_why(error, path)}") from error
        until_closed.callback(reader.close)
        yield made


def _why(error: Exception, path: Path) -> str:
    """What rosbags says, without the path of a copy."""
    text = in_words(error).replace(str(path), "it")
    if "not indexed" in text:
        text += " (`rosbag reindex` does)"
    if "end magic" in text:
        text = "it is cut off, for its end is missing (`mcap recover` saves what is whole)"
    if isinstance(error, KeyError):
        text = f"rosbags does not know {text} in it"
    return text[:1].lower() + text[1:]


@contextmanager
def _plain_path(path: Path) -> Iterator[Path]:
    """The path, or a link to it where rosbags would take a part of it for something else."""
    if not any(letter in str(path) for letter in OF_URIS):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="robot-foundry-") as folder:
        link = Path(folder, "bag.db3")
        os.symlink(path.resolve(), link)
        yield link


class _Rosbag1:
    is_ros1 = True

    def __init__(self, path: Path) -> None:
        self.reader = Rosbag1(path)
        self._chunks: OrderedDict[int, BytesIO | None] = OrderedDict()

    @property
    def connections(self) -> list[Connection]:
        return self.reader.connections

    def messages(
        self, ids: Collection[int], start: int | None, stop: int | None, damage: Damage
    ) -> Iterator[Message]:
        by_id = {connection.id: connection for connection in self.connections}
        indexes = [self.reader.indexes[number] for number in sorted(ids)]
        self._chunks.clear()
        for entry in heapq.merge(*indexes):
            if (start is not None and entry.time < start) or (stop is not None and entry.time >= stop):
                continue
            chunk = self._chunk(entry.chunk_pos, damage)
            if chunk is None:
                damage.add(f"the chunk at byte {entry.chunk_pos} of its file cannot be decompressed", 1)
                continue
            try:
                found = self._message(chunk, entry.offset)
                if found is None or found[1] != entry.time or found[0] not in by_id:
                    raise ValueError("no such message")
            except ERRORS:
                damage.add("its index names places where no such message lies", 1)
                continue
            yield by_id[found[0]], entry.time, found[2]

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


class _Mcap:
    is_ros1 = False

    def __init__(self, path: Path) -> None:
        self.reader = McapReader(path)

    @property
    def connections(self) -> list[Connection]:
        return self.reader.connections

    def messages(
        self, ids: Collection[int], start: int | None, stop: int | None, damage: Damage
    ) -> Iterator[Message]:
        wanted = {connection.id: connection for connection in self.connections if connection.id in ids}
        if not self.reader.chunks:
            yield from _further(self.reader.messages(list(wanted.values()), start, stop), damage)
            return
        low, high = (0 if start is None else start), (MAXSIZE if stop is None else stop)
        chunks = [
            self._chunk(chunk, wanted, low, high, damage)
            for chunk in self.reader.chunks
            if chunk.message_end_time >= low
            and chunk.message_start_time < high
            # Without an index of its messages nobody knows what a chunk holds.
            and (not chunk.channel_count or not wanted.keys().isdisjoint(chunk.channel_count))
        ]
        for time, _, connection, data in heapq.merge(*chunks, key=lambda message: message[:2]):
            if connection is not None:
                yield connection, time, data

    def _chunk(
        self, chunk: ChunkInfo, wanted: dict[int, Connection], low: int, high: int, damage: Damage
    ) -> Iterator[Any]:
        """Its messages in order of time, the first of which tells only when it begins."""
        assert self.reader.bio is not None
        try:
            yield from msgsrc(chunk, wanted, low, high, self.reader.bio)
        except ERRORS as error:
            counts = [chunk.channel_count.get(number, 0) for number in wanted]
            damage.add(
                f"the chunk at byte {chunk.chunk_start_offset} of its file cannot be read: {in_words(error)}",
                sum(counts) if chunk.channel_count else None,
            )


class _Sqlite:
    is_ros1 = False

    def __init__(self, path: Path) -> None:
        self.reader = Sqlite3Reader(path)

    @property
    def connections(self) -> list[Connection]:
        return self.reader.connections

    def messages(
        self, ids: Collection[int], start: int | None, stop: int | None, damage: Damage
    ) -> Iterator[Message]:
        wanted = [connection for connection in self.connections if connection.id in ids]
        for connection, time, data in _further(self.reader.messages(wanted, start, stop), damage):
            if isinstance(time, int) and isinstance(data, bytes):
                yield connection, time, data
            else:
                damage.add("its database has rows without a time or without bytes", 1)


def _further(messages: Iterator[Message], damage: Damage) -> Iterator[Message]:
    """The messages up to where the file cannot be read any more."""
    try:
        yield from messages
    except Refused:
        raise
    except Exception as error:  # of SQLite, whose errors have no common base with the others
        if not isinstance(error, ERRORS) and type(error).__module__ != "apsw":
            raise
        damage.add(f"its file cannot be read further: {in_words(error)}", None)
