"""The tables of a version of pairs, and what is told of it: measures, rules of filters, metadata."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from robot_foundry.catalog.pairs.described import FILTERED, MEASURED
from robot_foundry.catalog.pairs.measured import CAPTIONS, Measured
from robot_foundry.catalog.pairs.schema import PairSchema
from robot_foundry.catalog.pairs.tables import BLOCKS, BLOCKS_SCHEMA
from robot_foundry.ingest.pairs.shard_tables import ShardRows
from robot_foundry.ingest.pairs.survey import SurveyedPairs
from robot_foundry.ingest.tables.block_tables import BlockTables
from robot_foundry.runtime.errors import nearest

_MOST_TOLD = 6  # endings in a sentence


class PairsTables(BlockTables):
    """See `ingest.kind.VersionTables`. `asked` are the names of captions that the spec names."""

    def __init__(self, asked: tuple[str, ...], blocks: Sequence[SurveyedPairs]) -> None:
        super().__init__(BLOCKS, BLOCKS_SCHEMA)
        self._asked = asked
        self._filtered: Counter[str] = Counter()
        self._unread: Counter[str] = Counter()
        for block in blocks:
            self._filtered.update(block.head.filtered)
            self._unread.update(block.head.unread)
        self._measured: dict[int, Measured] = {}

    @property
    def schema(self) -> PairSchema:
        return PairSchema.of(self._types)

    def add(self, number: int, ordinal: int, rows: ShardRows) -> None:
        super().add(number, ordinal, rows)
        self._measured[number] = rows.measured

    def counts(self, merged: Mapping[str, pa.Table]) -> tuple[int, int]:
        num_pairs = pc.sum(merged[BLOCKS]["num_pairs"]).as_py() or 0
        return num_pairs, num_pairs

    def provenance(self, merged: Mapping[str, pa.Table]) -> dict[str, Any]:
        """Sizes of pictures and texts, how many pairs each rule leaves out, and what is not there."""
        measured = Measured.merge_all(self._measured.values())
        return {
            MEASURED: {
                **measured.summary(),
                FILTERED: dict(self._filtered),
                **({"unread": dict(self._unread)} if self._unread else {}),
                "more_metadata": len(self._types) - len(self.schema.metadata),
                "absent_captions": [name for name in self._asked if name not in measured.counts[CAPTIONS]],
            }
        }


def warnings_of(provenance: Mapping[str, Any]) -> tuple[str, ...]:
    """What a user should know of how a version was made."""
    measured = provenance.get(MEASURED, {})
    warnings = []
    if more := measured.get("more_metadata", 0):
        warnings.append(
            f"{more:,} rarer names of metadata have no column of their own; SQL finds them in `metadata`"
        )
    for name in measured.get("absent_captions", ()):
        close = nearest(name, measured[CAPTIONS])
        warnings.append(f"content.captions names '{name}', which no pair has{close}")
    return (*warnings, *unread_warning(measured.get("unread", {})))


def unread_warning(counts: Mapping[str, int]) -> list[str]:
    """A sentence on members of tars that no pair takes, by their endings."""
    if not counts:
        return []
    most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    more = ", …" if len(counts) > _MOST_TOLD else ""
    listed = ", ".join(f"{count:,} .{ending}" for ending, count in most_first[:_MOST_TOLD])
    return [f"passed over members beside pictures and texts that no pair takes: {listed}{more}"]
