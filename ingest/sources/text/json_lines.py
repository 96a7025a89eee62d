"""JSON lines: a document a line, numbered from 1 in its file. Plain files are cut into ranges of bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from robot_foundry.ingest.sources.text.json_document import document_of_json, too_long
from robot_foundry.ingest.sources.text.streams import BLOCK_BYTES, blocks_of, lines
from robot_foundry.ingest.sources.text.unusable import Broken, Unusable
from robot_foundry.ingest.text.spec import TextContent
from robot_foundry.shards.text.blocks import Document

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


def documents_of_lines(
    blocks: Iterable[bytes], content: TextContent, *, line: int = 1, before: str = ""
) -> Iterator[Document | Unusable]:
    """The documents of the lines of a stream, of which the first has the number `line`.

    Their ids are the numbers, after `before`. The line in which the stream breaks off ends it.
    """
    try:
        for data in lines(blocks, content.max_document_bytes):
            place = f"{before}{line}"
            found = (
                Unusable(place, too_long(content)) if data is None else document_of_json(data, place, content)
            )
            if found is not None:
                yield found
            line += 1
    except Broken as error:
        yield Unusable(f"{before}{line}", f"{error}, and this line and those after it are lost")
