"""What is known of a block in a tar without its pairs: the head that the tar has of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robot_foundry.ingest.shards.headed_blocks import HeadedBlock
from robot_foundry.shards.pairs.shard import BlockHead, block_keys, read_head
from robot_foundry.shards.reader import ShardReader


@dataclass(frozen=True)
class SurveyedPairs(HeadedBlock[BlockHead]):
    """See `ingest.kind.SurveyedBlock`."""

    @property
    def num_groups(self) -> int:
        return self.head.num_pairs

    @property
    def num_samples(self) -> int:
        return self.head.num_pairs

    @property
    def left_out(self) -> tuple[int, int]:
        """Duplicates, and what the spec's filters leave out."""
        return self.head.duplicates, sum(self.head.filtered.values())

    @classmethod
    def from_json(cls, values: list[Any]) -> SurveyedPairs:
        key, head = values
        return cls(key, BlockHead.of_values(head))


def survey(tar: ShardReader) -> tuple[tuple[SurveyedPairs, ...], tuple[str, ...]]:
    """The blocks of a shard, and the keys of the tars elsewhere that have their pictures."""
    blocks = tuple(SurveyedPairs(key, read_head(tar, key)) for key in block_keys(tar))
    return blocks, tuple(sorted({key for block in blocks for key in block.head.adopted}))
