"""The tables of a version of text, and what is told of it: lengths, metadata, and what looks wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from robot_foundry.catalog.text.described import MEASURED
from robot_foundry.catalog.text.doubts import doubts
from robot_foundry.catalog.text.schema import TextSchema
from robot_foundry.catalog.text.tables import BLOCKS, BLOCKS_SCHEMA, counts
from robot_foundry.ingest.tables.block_tables import BlockTables
from robot_foundry.ingest.text.shard_tables import ShardRows
from robot_foundry.normalization.digest import Digest

PERCENTILES = (1, 25, 50, 75, 99)


class TextTables(BlockTables):
    """See `ingest.kind.VersionTables`. `asked` are the names of metadata that the spec names."""

    def __init__(self, asked: tuple[str, ...]) -> None:
        super().__init__(BLOCKS, BLOCKS_SCHEMA)
        self._asked = asked
        self._lengths: dict[int, Digest] = {}

    @property
    def schema(self) -> TextSchema:
        return TextSchema.of(self._types)

    def add(self, number: int, ordinal: int, rows: ShardRows) -> None:
        super().add(number, ordinal, rows)
        self._lengths[number] = rows.lengths

    def counts(self, merged: Mapping[str, pa.Table]) -> tuple[int, int]:
        return counts(merged[BLOCKS])

    def provenance(self, merged: Mapping[str, pa.Table]) -> dict[str, Any]:
        """Sizes of the documents, of the names of metadata those without a column, and what is doubtful."""
        lengths, blocks = Digest.merge_all(self._lengths.values()), merged[BLOCKS]
        points = {f"p{point}": round(float(lengths.percentile(point))) for point in PERCENTILES}
        findings = doubts(blocks, 0, 0)
        return {
            MEASURED: {
                "bytes": pc.sum(blocks["num_bytes"]).as_py(),
                "characters": {"min": round(lengths.min), **points, "max": round(lengths.max)},
                "more_metadata": len(self._types) - len(self.schema.metadata),
                "absent_metadata": [name for name in self._asked if name not in self._types],
                "warnings": [f"{finding.message}: {finding.remedy}" for finding in findings],
            }
        }


def warnings_of(provenance: Mapping[str, Any]) -> tuple[str, ...]:
    """What a user should know of how a version was made."""
    measured = provenance.get(MEASURED, {})
    more = measured.get("more_metadata", 0)
    rare = f"{more:,} rarer names of metadata have no column of their own; SQL finds them in `metadata`"
    absent = ", ".join(repr(name) for name in measured.get("absent_metadata", ()))
    nowhere = f"content.metadata names {absent}, which no document has"
    told = ((more, rare), (absent, nowhere))
    return (*measured.get("warnings", ()), *(warning for there, warning in told if there))
