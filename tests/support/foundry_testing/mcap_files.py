"""MCAP files byte by byte, by the published layout alone: what an index that lies is made of."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOOTER, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX, STATISTICS, DATA_END = 2, 5, 6, 7, 8, 11, 15
MAGIC, HEAD = 8, 9
IGNORED = 0x80  # opcodes from here on are private, and readers pass over them


@dataclass
class McapFile:
    """The bytes of a file; `save` writes them."""

    path: Path

    def __post_init__(self) -> None:
        self.data = bytearray(self.path.read_bytes())

    def save(self) -> None:
        self.path.write_bytes(self.data)

    def records(self, op: int, start: int = MAGIC, end: int | None = None) -> list[int]:
        """Where the records of an opcode begin, each with its head of opcode and length."""
        return [place for place, found in self._heads(start, end) if found == op]

    def size(self, place: int) -> int:
        """The length of a record without its head."""
        return int(struct.unpack_from("<Q", self.data, place + 1)[0])

    def ignore(self, *places: int) -> None:
        for place in places:
            self.data[place] |= IGNORED

    def put(self, place: int, form: str, *values: int) -> None:
        """Overwrite numbers at a place."""
        struct.pack_into(form, self.data, place, *values)

    def insert_in_data(self, content: bytes) -> None:
        """Put records at the end of the data section; the footer knows where the summary is now."""
        (end,) = self.records(DATA_END)
        self.data[end:end] = content
        (footer,) = self.records(FOOTER)
        for at in (footer + HEAD, footer + HEAD + 8):
            (start,) = struct.unpack_from("<Q", self.data, at)
            if start:
                self.put(at, "<Q", start + len(content))

    def _heads(self, place: int, end: int | None) -> Iterator[tuple[int, int]]:
        while place < (len(self.data) - MAGIC if end is None else end):
            yield place, self.data[place]
            place += HEAD + self.size(place)
