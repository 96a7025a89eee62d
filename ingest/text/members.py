"""What a unit of a source becomes in a shard of text: blocks of documents, and what was left out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from robot_foundry.ingest.duplicates import marked
from robot_foundry.ingest.refusals import Refusals
from robot_foundry.ingest.sources import Data, Unit
from robot_foundry.ingest.sources.text.text import documents
from robot_foundry.ingest.sources.unusable import Unusable
from robot_foundry.ingest.text.spec import TextContent
from robot_foundry.shards.origin import Origin, Refusal
from robot_foundry.shards.text.blocks import (
    Document,
    EncodedDocument,
    block_key,
    block_members,
)


def write_unit(unit: Unit, content: TextContent, add: Callable[[str, Data], None]) -> None:
    """Read the unit and add the members of its blocks in their order; memory holds one block."""
    blocks, refusals, duplicates = _Blocks(unit, content.block_bytes, add), Refusals(), 0
    for document, is_dropped in marked(unit, _usable(unit, content, refusals)):
        duplicates += is_dropped
        if not is_dropped:
            blocks.add(EncodedDocument.of(document))
    blocks.close(refusals.found, duplicates)


def _usable(unit: Unit, content: TextContent, refusals: Refusals) -> Iterator[Document]:
    for item in documents(unit, content):
        if isinstance(item, Unusable):
            refusals.add(item.id, item.reason, item.count)
        else:
            yield item


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
            self._write()
            text_bytes, meta_bytes = len(document.text), len(document.meta)
        self._held.append(document)
        self._text_bytes, self._meta_bytes = text_bytes, meta_bytes

    def close(self, refused: Sequence[Refusal], duplicates: int) -> None:
        """Write the last block, which tells what was left out; it may have no document."""
        self._write(refused, duplicates)

    def _write(self, refused: Sequence[Refusal] = (), duplicates: int = 0) -> None:
        key = block_key(self._key, self._number)
        members = block_members(key, self._origin, self._held, refused, duplicates)
        for name, data in members:
            self._add(name, data)
        self._number += 1
        self._held = []
