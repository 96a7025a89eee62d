"""Documents are equal if their texts are, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from robot_foundry.ingest.duplicates import HASH_BYTES
from robot_foundry.ingest.sources import Unit
from robot_foundry.ingest.sources.text.text import Text, documents
from robot_foundry.ingest.text.spec import TextContent
from robot_foundry.shards.text.blocks import Document


@dataclass(frozen=True)
class TextHashing:
    """See `ingest.duplicates.Hashing`."""

    content: TextContent
    name: str = "texts"

    @property
    def decisive(self) -> dict[str, Any]:
        content = self.content.to_json()
        for name in ("deduplicate", "block_bytes", "unit_bytes", "shard_bytes"):
            del content[name]
        return {"layout": [Text.declared.name, Text.version], "content": content}

    def hashes(self, unit: Unit) -> Iterator[bytes]:
        for found in documents(unit, self.content):
            if isinstance(found, Document):
                yield blake3(found.text.encode()).digest(HASH_BYTES)
