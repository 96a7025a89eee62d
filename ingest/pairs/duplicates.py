"""Pairs are equal if their pictures are, byte for byte as the source has them, and so are their texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from robot_foundry.ingest.duplicates import HASH_BYTES
from robot_foundry.ingest.pairs.members import usable
from robot_foundry.ingest.pairs.spec import PairsContent
from robot_foundry.ingest.refusals import Refusals
from robot_foundry.ingest.shards.adoption import check_adoptable
from robot_foundry.ingest.sources import Unit
from robot_foundry.ingest.sources.pairs.pairs import Pairs, pairs_of
from robot_foundry.ingest.sources.pairs.raw import RawPair
from robot_foundry.runtime.canonical import canonical_json

# What of the content decides which pairs are usable, and what they are.
_DECISIVE = ("captions", "image_keys", "metadata", "images", "format", "max_picture_bytes", "adopt")


@dataclass(frozen=True)
class PairHashing:
    """See `ingest.duplicates.Hashing`."""

    content: PairsContent
    name: str = "pairs"

    @property
    def decisive(self) -> dict[str, Any]:
        content = self.content.to_json()
        return {
            "layout": [Pairs.declared.name, Pairs.version],
            "content": {name: content[name] for name in _DECISIVE},
        }

    def hashes(self, unit: Unit) -> Iterator[bytes]:
        if self.content.adopt:
            check_adoptable(unit.file)  # else its pairs would have others left out, and not be taken either
        for pair in usable(pairs_of(unit, self.content), Refusals()):
            yield _hash(pair)


def _hash(pair: RawPair) -> bytes:
    """Of the texts, and of each picture's size and bytes, so that no two pairs run into the same bytes."""
    texts = canonical_json([dict(pair.captions), [[turn.role, turn.text] for turn in pair.turns]])
    hasher = blake3()
    for data in (texts, *(picture.data or b"" for picture in pair.pictures)):
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.digest(HASH_BYTES)
