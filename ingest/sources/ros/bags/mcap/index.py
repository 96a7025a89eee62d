"""What an MCAP file says of itself, held against the records that lie in it.

The records of the data section are walked from one head to the next: chunks, the counts of their messages and
messages outside of chunks are found whether the summary lists them or not. Schemas, channels and numbers of
messages are those of the summary; a file that lacks them there is read once for them.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

import zstandard
from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2 import ReaderError

from robot_foundry.ingest.sources.ros.bags.damage import BROKEN, in_words
from robot_foundry.ingest.sources.ros.bags.mcap import layout as records
from robot_foundry.ingest.sources.ros.bags.mcap.layout import Chunk, Fields
from robot_foundry.ingest.sources.unusable import shown

MAGIC, PROFILE = b"\x89MCAP0\r\n", "ros2"
FOOT, CHUNK_HEAD, INDEX_HEAD = struct.Struct("<QQI"), struct.Struct("<QQQII"), struct.Struct("<QQQQ")
# Of schemas, channels and statistics; what is larger is no such record.
LARGEST_RECORD, LARGEST_NAME = 1 << 26, 64
# Heads of records lie close together where messages are short: they are read by the page.
HEAD_BYTES, PAGE = 512, 8192
FORMATS = {
    "ros2msg": MessageDefinitionFormat.MSG,
    "ros2idl": MessageDefinitionFormat.IDL,
    "omgidl": MessageDefinitionFormat.IDL,
}
UNDESCRIBED = "unknown"
Record = tuple[int, int, int]  # its opcode, where its content begins, and the length of that
ERRORS: tuple[type[Exception], ...] = (*BROKEN, ReaderError, zstandard.ZstdError)


class Loose(NamedTuple):
    """A message outside of chunks: its channel, when it came, and where its bytes lie in the file."""

    channel: int
    received_ns: int
    place: int
    num_bytes: int


@dataclass
class McapIndex:
    """`connections` have the numbers of messages that the file says of itself, `chunks` are all there are.

    `remarks` are what the user should know of it: sentences that follow its name. `gaps` are why messages
    may be lost of which nobody knows the number. `span` are the times of the first and the last message.
    """

    path: Path
    connections: list[Connection] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    span: tuple[int, int] = (1, 0)
    loose_in_order: bool = True
    bio: BinaryIO | None = None
    _page: bytes = b""
    _page_at: int = 0
    _data: tuple[int, int] = (0, 0)
    _num_bytes: int = 0
    _indexed: dict[int, Chunk] = field(default_factory=dict)
    _counts: dict[int, int] | None = None
    _loose: Counter[int] = field(default_factory=Counter)
    _schemas: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    _channels: dict[int, tuple[int, str, str]] = field(default_factory=dict)

    def open(self) -> None:
        """ReaderError if it is no such file, or its ends are not there."""
        self.bio = self.path.open("rb")
        try:
            self._num_bytes = os.fstat(self.bio.fileno()).st_size
            self._read_ends()
            self._walk()
            self._compare()
            self._connect()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self.bio is not None:
            self.bio.close()
        self.bio = None

    def at(self, place: int, num_bytes: int) -> bytes:
        """ReaderError if the file ends before."""
        if num_bytes <= HEAD_BYTES:
            begin = place - self._page_at
            if not 0 <= begin <= len(self._page) - num_bytes:
                assert self.bio is not None
                self._page, self._page_at, begin = os.pread(self.bio.fileno(), PAGE, place), place, 0
            data = self._page[begin : begin + num_bytes]
            if len(data) == num_bytes:
                return data
        assert self.bio is not None
        data = os.pread(self.bio.fileno(), num_bytes, place) if num_bytes <= self._num_bytes else b""
        if len(data) != num_bytes:
            raise ReaderError(f"it ends inside the record at byte {place}")
        return data

    def loose(self) -> Iterator[Loose]:
        """Messages outside of chunks, as they were written."""
        for op, place, size in self._records() if self._loose else ():
            if op == records.MESSAGE and size >= records.MESSAGE_HEAD.size:
                channel, _, received_ns, _ = records.MESSAGE_HEAD.unpack(self.at(place, 22))
                yield Loose(channel, received_ns, place + 22, size - 22)

    def _read_ends(self) -> None:
        """The header, the footer and, if there is one, the summary."""
        end = self._num_bytes - records.HEAD.size - FOOT.size - len(MAGIC)
        if end < len(MAGIC) or self.at(self._num_bytes - len(MAGIC), len(MAGIC)) != MAGIC:
            raise ReaderError("the end magic is missing")
        op, place, size = self._record(len(MAGIC), end)
        profile = Fields(self.at(place, min(size, LARGEST_RECORD))).text() if op == records.HEADER else ""
        if profile != PROFILE:
            raise ReaderError(f"its profile is '{shown(profile, LARGEST_NAME)}', not '{PROFILE}'")
        if self._record(end, self._num_bytes)[0] != records.FOOTER:
            raise ReaderError("its footer is damaged")
        summary = FOOT.unpack(self.at(end + records.HEAD.size, FOOT.size))[0]
        begin = place + size
        is_known = begin <= summary <= end
        self._data = begin, summary if is_known else end
        try:
            if summary and not is_known:
                raise ReaderError(f"it is said to begin at byte {summary}")
            self._read_summary(summary or end, end)
        except ERRORS:
            # What was taken of it before may be damaged as well.
            for taken in (self._indexed, self._schemas, self._channels):
                taken.clear()
            self._counts = None
            self.remarks.append("has a damaged summary, and is read without it")

    def _read_summary(self, place: int, end: int) -> None:
        while place < end:
            op, content, size = self._record(place, end)
            if op in (records.SCHEMA, records.CHANNEL, records.CHUNK_INDEX, records.STATISTICS):
                self._take(op, self._whole(content, size))
            place = content + size

    def _whole(self, place: int, size: int) -> bytes:
        if size > LARGEST_RECORD:
            raise ReaderError(f"the record at byte {place - records.HEAD.size} has {size} bytes")
        return self.at(place, size)

    def _take(self, op: int, content: bytes) -> None:
        """A record of the summary; schemas and channels may lie anywhere."""
        fields = Fields(content)
        if op == records.SCHEMA:
            number = fields.number(2)
            self._schemas.setdefault(number, (fields.text(), fields.text(), fields.text()))
        elif op == records.CHANNEL:
            number, schema = fields.number(2), fields.number(2)
            self._channels.setdefault(number, (schema, fields.text(), fields.text()))
        elif op == records.STATISTICS:
            listed = Fields(content[42:]).sized()
            self._counts = dict(struct.iter_unpack("<HQ", listed[: len(listed) // 10 * 10]))
        else:
            start, stop, place, length = INDEX_HEAD.unpack_from(content)
            fields = Fields(content[INDEX_HEAD.size :])
            offsets = sorted((at, number) for number, at in struct.iter_unpack("<HQ", fields.sized()))
            ends = [*(at for at, _ in offsets), place + length + fields.number(8)][1:]
            # Behind a chunk lies a record of every channel in it: 15 bytes, and 16 for each message.
            counts = {
                number: max(end - at - 15, 0) // 16
                for (at, number), end in zip(offsets, ends, strict=bool(offsets))
            }
            why = "its record is damaged"
            self._indexed[place] = Chunk(place, 0, start, stop, "", 0, 0, 0, counts, why)

    def _record(self, place: int, end: int) -> Record:
        op, size = records.HEAD.unpack(self.at(place, records.HEAD.size))
        if place + records.HEAD.size + size > end:
            raise ReaderError(f"the record at byte {place} is longer than what is left")
        return op, place + records.HEAD.size, size

    def _records(self) -> Iterator[Record]:
        """Those of the data section. Behind a damaged one it goes on with the next chunk of the index."""
        place, end = self._data
        chunks = sorted(self._indexed)
        while place < end:
            following = bisect_right(chunks, place)
            ahead = chunks[following] if following < len(chunks) else None
            try:
                record = self._record(place, end)
            except ReaderError:
                record = None
            if record is None or (ahead is not None and sum(record[1:]) > ahead and self._is_chunk(ahead)):
                reason = f"the record at byte {place} of its file is damaged"
                if reason not in self.gaps:
                    self.gaps.append(reason)
                if ahead is None:
                    return
                place = ahead
                continue
            yield record
            if record[0] in (records.DATA_END, records.FOOTER):
                return
            place = sum(record[1:])

    def _is_chunk(self, place: int) -> bool:
        try:
            return self._record(place, self._data[1])[0] == records.CHUNK
        except ReaderError:
            return False

    def _walk(self) -> None:
        """Find all chunks, and count the messages outside of them."""
        first, last = 1 << 63, -1
        found: dict[int, Chunk] = {}
        behind = None
        for op, place, size in self._records():
            if op == records.CHUNK:
                behind = self._chunk(place, size)
                found[behind.chunk_start_offset] = behind
            elif op == records.MESSAGE_INDEX and behind is not None and size >= 6:
                channel, listed = struct.unpack("<HI", self.at(place, 6))
                behind.channel_count[channel] = min(listed, size - 6) // 16
            elif op == records.MESSAGE and size >= records.MESSAGE_HEAD.size:
                channel, _, received_ns, _ = records.MESSAGE_HEAD.unpack(self.at(place, 22))
                self._loose[channel] += 1
                self.loose_in_order = self.loose_in_order and received_ns >= last
                first, last = min(first, received_ns), max(last, received_ns)
            elif op in (records.SCHEMA, records.CHANNEL):
                self._take(op, self._whole(place, size))
        self._add_lost(found)
        self.chunks = [
            chunk if chunk.channel_count else replace(chunk, channel_count=self._counts_of(chunk))
            for _, chunk in sorted(found.items())
        ]
        # Of a damaged chunk its index tells when it was.
        times = [(chunk.message_start_time, chunk.message_end_time) for chunk in self.chunks]
        times += [(first, last)] if self._loose else []
        if times:
            self.span = min(start for start, _ in times), max(stop for _, stop in times)

    def _add_lost(self, found: dict[int, Chunk]) -> None:
        """Chunks that only the index has: lost, unless all messages are there without them."""
        lost = sorted(self._indexed.keys() - found.keys())
        there = self._loose.total() + sum(sum(chunk.channel_count.values()) for chunk in found.values())
        if lost and self._counts is not None and sum(self._counts.values()) == there:
            self.remarks.append(f"has an index with a chunk at byte {lost[0]}, where there is none")
            return
        found.update({place: self._indexed[place] for place in lost})

    def _counts_of(self, chunk: Chunk) -> dict[int, int]:
        indexed = self._indexed.get(chunk.chunk_start_offset)
        return {} if indexed is None else indexed.channel_count

    def _chunk(self, place: int, size: int) -> Chunk:
        offset = place - records.HEAD.size
        lost = self._indexed.get(
            offset, Chunk(offset, 0, 0, 1 << 62, "", 0, 0, 0, {}, "its record is damaged")
        )
        if size < CHUNK_HEAD.size + 8:
            return lost
        start, stop, num_bytes, crc, length = CHUNK_HEAD.unpack(self.at(place, CHUNK_HEAD.size))
        if length > min(LARGEST_NAME, size - CHUNK_HEAD.size - 8) or start > stop:
            return lost
        name = self.at(place + CHUNK_HEAD.size, length).decode("utf-8", "replace")
        data = place + CHUNK_HEAD.size + length + 8
        stored = int.from_bytes(self.at(data - 8, 8), "little")
        if data + stored > place + size:
            return lost
        return Chunk(offset, data, start, stop, name, stored, num_bytes, crc, {})

    def _compare(self) -> None:
        """Remark where the summary does not agree with the chunks that there are."""
        there = {chunk.chunk_start_offset for chunk in self.chunks}
        lacked = sorted(there - self._indexed.keys()) if self._indexed else []
        if lacked:
            more = f" and {len(lacked) - 1} more" if len(lacked) > 1 else ""
            self.remarks.append(
                f"has an index without the chunk at byte {lacked[0]}{more}, which is read all the same"
            )

    def _connect(self) -> None:
        """Make the connections of all channels, and of messages whose channel nothing describes."""
        by_chunks = all(chunk.channel_count or not chunk.uncompressed_size for chunk in self.chunks)
        counts = self._counts
        if not self._channels or (counts is None and not by_chunks):
            found = self._read_chunks()
            counts = found if counts is None else counts
        if counts is None:
            total = Counter(self._loose)
            for chunk in self.chunks:
                total.update(chunk.channel_count)
            counts = dict(total)
        for number in sorted({*self._channels, *(number for number, count in counts.items() if count)}):
            schema, topic, encoding = self._channels.get(number, (0, f"(channel {number})", ""))
            name, form, text = self._schemas.get(schema, (UNDESCRIBED, "", ""))
            definition = MessageDefinition(FORMATS.get(form, MessageDefinitionFormat.NONE), text)
            extended = ConnectionExtRosbag2(encoding, [])
            count = counts.get(number, 0)
            self.connections.append(Connection(number, topic, name, definition, "", count, extended, self))
            if number not in self._channels:
                self.remarks.append(
                    f"has {count} messages of channel {number}, which nothing in it describes"
                )

    def _read_chunks(self) -> dict[int, int]:
        """Schemas and channels from within the chunks; what comes is how many messages there are."""
        counts = Counter(self._loose)
        for chunk in self.chunks:
            try:
                content = records.decompressed(self.at(chunk.data_start, chunk.compressed_size), chunk)
                for op, place, size in records.records_in(content):
                    if op == records.MESSAGE and size >= records.MESSAGE_HEAD.size:
                        counts[int.from_bytes(content[place : place + 2], "little")] += 1
                    elif op in (records.SCHEMA, records.CHANNEL):
                        self._take(op, content[place : place + size])
            except ERRORS as error:
                where = f"the chunk at byte {chunk.chunk_start_offset} of its file"
                self.gaps.append(f"{where} cannot be read: {in_words(error)}")
        return dict(counts)
