"""Ranges of bytes of a plain file, each of whole lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from robot_foundry.ingest.sources.formats.streams import BLOCK_BYTES, blocks_of

_ID = re.compile(r"bytes_([0-9]+)_to_([0-9]+)_from_line_([0-9]+)")


@dataclass(frozen=True)
class Range:
    """Whole lines of a plain file: bytes from `start` to `end` (exclusive); `line` is the first one's number.

    As the `id` of a unit it names itself.
    """

    start: int
    end: int
    line: int

    @property
    def id(self) -> str:
        return f"bytes_{self.start}_to_{self.end}_from_line_{self.line}"

    @classmethod
    def of_id(cls, text: str) -> Range | None:
        """None for the id of no range."""
        match = _ID.fullmatch(text)
        return None if match is None else cls(*map(int, match.groups()))

    def blocks(self, file: BinaryIO) -> Iterator[bytes]:
        """Its bytes, of a file that can seek."""
        file.seek(self.start)
        left = self.end - self.start
        while left and (block := file.read(min(left, BLOCK_BYTES))):
            left -= len(block)
            yield block


def ranges(path: Path, target_bytes: int) -> list[Range]:
    """The file cut at the first end of a line from `target_bytes` on, and so on."""
    found: list[Range] = []
    start = position = num_lines = 0
    line = 1
    with path.open("rb", buffering=0) as file:
        for block in blocks_of(file):
            offset = 0
            while True:
                end = block.find(b"\n", max(offset, start + target_bytes - 1 - position)) + 1
                num_lines += block.count(b"\n", offset, end or len(block))
                if not end:
                    break
                found.append(Range(start, position + end, line))
                start, offset, line, num_lines = position + end, end, line + num_lines, 0
            position += len(block)
    if start < position:
        found.append(Range(start, position, line))
    return found
