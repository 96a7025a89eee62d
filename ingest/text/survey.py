"""What is known of a block in a tar without its text: the head that the tar has of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robot_foundry.ingest.shards.headed_blocks import HeadedBlock
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.text.blocks import BlockHead, block_keys, read_head


@dataclass(frozen=True)
class SurveyedText(HeadedBlock[BlockHead]):
    """See `ingest.kind.SurveyedBlock`."""

    @property
    def num_groups(self) -> int:
        return self.head.num_documents

    @property
    def num_samples(self) -> int:
        return self.head.num_characters

    @property
    def left_out(self) -> tuple[int]:
        return (self.head.duplicates,)

    @classmethod
    def from_json(cls, values: list[Any]) -> SurveyedText:
        key, head = values
        return cls(key, BlockHead.of_values(head))


def survey(tar: ShardReader) -> tuple[tuple[SurveyedText, ...], tuple[str, ...]]:
    """The blocks of a shard; none has segments."""
    return tuple(SurveyedText(key, read_head(tar, key)) for key in block_keys(tar)), ()
