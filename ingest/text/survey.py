"""What is known of a block in a tar without its text: the head that the tar has of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from robot_foundry.catalog.manifest import Quarantined
from robot_foundry.ingest.refusals import quarantined
from robot_foundry.shards.origin import Origin
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.text.blocks import BlockHead, block_keys, read_head


@dataclass(frozen=True)
class SurveyedText:
    """See `ingest.kind.SurveyedBlock`."""

    key: str
    head: BlockHead

    @property
    def unit(self) -> str:
        return self.head.origin.unit

    @property
    def num_groups(self) -> int:
        return self.head.num_documents

    @property
    def num_samples(self) -> int:
        return self.head.num_characters

    @property
    def source_file(self) -> tuple[str, str]:
        return self.head.origin.file, self.head.origin.content

    @property
    def refused(self) -> list[Quarantined]:
        return quarantined(self.head.origin.file, self.head.refused)

    @property
    def left_out(self) -> tuple[int]:
        return (self.head.duplicates,)

    def to_json(self) -> list[Any]:
        return [self.key, self.head.values()]

    @classmethod
    def from_json(cls, values: list[Any]) -> SurveyedText:
        key, head = values
        return cls(key, BlockHead.of_values(head))

    def interned(self, one: Callable[[Any], Any]) -> SurveyedText:
        """The same with the texts that blocks of a file share."""
        origin = self.head.origin
        shared = Origin(one(origin.unit), one(origin.file), one(origin.content))
        return replace(self, head=replace(self.head, origin=shared))


def survey(tar: ShardReader) -> tuple[tuple[SurveyedText, ...], tuple[str, ...]]:
    """The blocks of a shard; none has segments."""
    return tuple(SurveyedText(key, read_head(tar, key)) for key in block_keys(tar)), ()
