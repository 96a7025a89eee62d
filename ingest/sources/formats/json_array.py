"""A JSON array in a plain file, of any size, as its elements and where each lies in the file.

Memory holds a block and an element. Boundaries are found in the bytes taken for Latin-1, as the structure of
JSON is ASCII; what an element holds is left to who decodes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.formats.json_values import BOM
from robot_foundry.ingest.sources.unusable import Broken

LATIN = "latin-1"
_BLANK = re.compile(r"[ \t\r\n]*")
_OF_NUMBERS = "0123456789.eE+-"
# A string, without its last quote where it has no end, or a bracket.
_STRUCTURE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)
# Numbers stay texts, whatever their size: nothing looks at them here.
_SCAN = json.JSONDecoder(strict=False, parse_int=str, parse_float=str).raw_decode


def elements(blocks: Iterable[bytes], limit: int) -> Iterator[tuple[int, bytes]]:
    """The elements of the array that the blocks are, each behind its first byte's place in them.

    Refused if it is no array. `Broken`, at any element, where the array is damaged or ends before its end, or
    where an element has more than `limit` bytes.
    """
    text = _Text(iter(blocks), limit)
    text.skip(BOM.decode(LATIN))
    if text.upcoming() != "[":
        raise Refused("it is no JSON array")
    text.position += 1
    number = 0
    while text.upcoming() != "]":
        if number:
            if text.upcoming() != ",":
                raise Broken(f"its JSON is damaged behind element {number - 1}, at byte {text.at}")
            text.position += 1
            text.upcoming()
        yield text.at, text.element(number)
        number += 1
    text.position += 1
    if text.upcoming():
        raise Broken(f"behind its JSON array are other bytes, from byte {text.at} on")


def elements_within(blocks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """The elements in a range of an array that starts with one, and ends before another or the end."""
    text = _Text(iter(blocks), limit)
    number = 0
    while text.upcoming() not in ("", "]"):
        yield text.element(number)
        number += 1
        if text.upcoming() == ",":
            text.position += 1


class _Text:
    """What was read of a stream and not passed yet: from `position` on; `at` is its place in the stream."""

    def __init__(self, blocks: Iterator[bytes], limit: int) -> None:
        self._blocks, self._limit = blocks, limit
        self._held, self._before, self._is_at_end = "", 0, False
        self.position = 0

    @property
    def at(self) -> int:
        return self._before + self.position

    def skip(self, prefix: str) -> None:
        while self._num_held < len(prefix) and self._more():
            pass
        if self._held.startswith(prefix):
            self.position = len(prefix)

    def upcoming(self) -> str:
        """The next character that is not blank, up to which all is passed; none at the end."""
        while True:
            match = _BLANK.match(self._held, self.position)
            assert match is not None  # it may be empty
            self.position = match.end()
            if self._num_held:
                return self._held[self.position]
            if not self._more():
                return ""

    def element(self, number: int) -> bytes:
        """The value at the position, which is passed."""
        while (end := self._end()) is None:
            if self._num_held > self._limit:
                at = f"element {number}, at byte {self.at}"
                raise Broken(f"its {at}, has no end within {self._limit} bytes")
            wanted = 2 * self._num_held  # so that one over many blocks is not scanned once for each
            while self._more() and self._num_held < wanted:
                pass
            if self._is_at_end and self._end() is None:
                raise Broken(f"its element {number}, at byte {self.at}, is no whole JSON value")
        data = self._held[self.position : end].encode(LATIN)
        self.position = end
        return data

    @property
    def _num_held(self) -> int:
        return len(self._held) - self.position

    def _end(self) -> int | None:
        """Of the value at the position; None if it does not end in what is held."""
        try:
            _, end = _SCAN(self._held, self.position)
        except ValueError:
            return None
        except RecursionError:
            return _end_of_nested(self._held, self.position)
        # A number may go on in the next block, and so may what is one only with more of it: `0.`, `1e`.
        behind = self._held[end : end + 1]
        is_closed = self._held[end - 1] in '}]"' or (behind and behind not in _OF_NUMBERS)
        return end if is_closed or self._is_at_end else None

    def _more(self) -> bool:
        block = next(self._blocks, b"")
        self._before += self.position
        self._held, self.position = self._held[self.position :] + block.decode(LATIN), 0
        self._is_at_end = not block
        return bool(block)


def _end_of_nested(text: str, start: int) -> int | None:
    """The end of an array or object that is nested too deep to be parsed: where its brackets are closed."""
    depth = 0
    for match in _STRUCTURE.finditer(text, start):
        if match[0] in "[{":
            depth += 1
        elif match[0] in "]}":
            depth -= 1
            if depth == 0:
                return match.end()
    return None
