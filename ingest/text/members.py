"""What a unit of a source becomes in a shard of text: blocks of documents, and what was left out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from robot_foundry.ingest.sources import Data, Unit
from robot_foundry.ingest.sources.text.text import documents
from robot_foundry.ingest.sources.text.unusable import Unusable
from robot_foundry.ingest.text.duplicates import NUMBER
from robot_foundry.ingest.text.spec import TextContent
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.origin import Origin, Refusal
from robot_foundry.shards.text.blocks import (
    Document,
    EncodedDocument,
    block_key,
    block_members,
)

# Of one unit: places that are named for a reason, and reasons that are told apart.
MOST_NAMED, MOST_REASONS = 5, 20
OTHER_REASONS = "it cannot be taken for one of many reasons"


def write_unit(unit: Unit, content: TextContent, add: Callable[[str, Data], None]) -> None:
    """Read the unit and add the members of its blocks in their order; memory holds one block."""
    blocks, left_out = _Blocks(unit, content.block_bytes, add), _LeftOut()
    dropped = iter(np.frombuffer(unit.dropped, NUMBER).tolist())
    upcoming = next(dropped, None)
    for number, document in enumerate(_usable(unit, content, left_out)):
        if number == upcoming:
            left_out.duplicates += 1
            upcoming = next(dropped, None)
        else:
            blocks.add(EncodedDocument.of(document))
    if upcoming is not None:
        raise FoundryError(
            f"{unit.name} no longer has the documents that were compared with others",
            hint="run the same command when the source is complete",
        )
    blocks.close(left_out)


def _usable(unit: Unit, content: TextContent, left_out: _LeftOut) -> Iterator[Document]:
    for item in documents(unit, content):
        if isinstance(item, Unusable):
            left_out.refuse(item)
        else:
            yield item


class _LeftOut:
    """What of a unit is not in its blocks."""

    def __init__(self) -> None:
        self.duplicates = 0
        self._by_reason: dict[str, Refusal] = {}

    def refuse(self, item: Unusable) -> None:
        reason = item.reason
        if reason not in self._by_reason and len(self._by_reason) >= MOST_REASONS:
            reason = OTHER_REASONS
        before = self._by_reason.get(reason, Refusal(reason, 0, ()))
        first = before.first if len(before.first) == MOST_NAMED else (*before.first, item.id)
        self._by_reason[reason] = Refusal(reason, before.count + item.count, first)

    @property
    def refused(self) -> list[Refusal]:
        return list(self._by_reason.values())


class _Blocks:
    """Documents on their way into blocks: at most `most_bytes` of text and of metadata, or one document."""

    def __init__(self, unit: Unit, most_bytes: int, add: Callable[[str, Data], None]) -> None:
        self._key, self._add, self._most_bytes = unit.key, add, most_bytes
        self._origin = Origin(unit.name, unit.file.path, unit.file.blake3)
        self._number, self._text_bytes, self._meta_bytes = 0, 0, 0
        self._held: list[EncodedDocument] = []

    def add(self, document: EncodedDocument) -> None:
        text_bytes = self._text_bytes + len(document.text)
        meta_bytes = self._meta_bytes + len(document.meta)
        if self._held and max(text_bytes, meta_bytes) > self._most_bytes:
            self._write(_LeftOut())
            text_bytes, meta_bytes = len(document.text), len(document.meta)
        self._held.append(document)
        self._text_bytes, self._meta_bytes = text_bytes, meta_bytes

    def close(self, left_out: _LeftOut) -> None:
        """Write the last block, which tells what was left out; it may have no document."""
        self._write(left_out)

    def _write(self, left_out: _LeftOut) -> None:
        key = block_key(self._key, self._number)
        members = block_members(key, self._origin, self._held, left_out.refused, left_out.duplicates)
        for name, data in members:
            self._add(name, data)
        self._number += 1
        self._held = []
