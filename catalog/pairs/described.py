"""What `show` tells of a version of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robot_foundry.catalog.metadata.columns import metadata_columns
from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.pairs.measured import (
    CAPTION,
    CAPTIONS,
    CONVERSATION,
    ENCODINGS,
    LANGUAGES,
    PAIR,
    PICTURE,
)
from robot_foundry.catalog.pairs.rows import OWN
from robot_foundry.catalog.pairs.schema import schema_of
from robot_foundry.catalog.query.shown import Description

# What ingest measured (`Measured.summary`, and more), under this name in the provenance.
MEASURED = "pairs"
FILTERED = "filtered"  # in it, pairs that the spec left out by the rule that did
_MOST = 6  # names in a line


def describe(opened: OpenVersion) -> Description:
    """Pictures, captions and conversations, and the columns that SQL has of their metadata."""
    manifest, metadata = opened.manifest, metadata_columns(schema_of(opened.manifest), OWN)
    measured: dict[str, Any] = dict(manifest.provenance.get(MEASURED, {}))
    return Description(
        facts={"pairs": {**measured, "count": manifest.num_groups, "metadata": metadata}},
        head=_head(measured) if "numbers" in measured else [],
        headers=("metadata", "column", "type") if metadata else (),
        rows=[tuple(entry.values()) for entry in metadata],
        without_line=(MEASURED,),
    )


def _head(measured: Mapping[str, Any]) -> list[tuple[str, str]]:
    numbers = {(entry["of"], entry["name"]): entry for entry in measured["numbers"]}
    lines = []
    if (PICTURE, "width") in numbers:
        width, height, each = (
            numbers[key] for key in ((PICTURE, "width"), (PICTURE, "height"), (PAIR, "pictures"))
        )
        sizes = f"{_range(width)} wide, {_range(height)} high"
        of_pairs = f"{width['count']:,}, {_range(each)} a pair"
        lines.append(("pictures", f"{of_pairs}; {_names(measured[ENCODINGS])}; {sizes}"))
    for name, count in _most(measured[CAPTIONS]):
        lines.append(("caption", f"{name}: {count:,} of {_range(numbers[CAPTION, name])} characters"))
    if (CONVERSATION, "turns") in numbers:
        turns = numbers[CONVERSATION, "turns"]
        lines.append(("turns", f"{_range(turns)} in {turns['count']:,} conversations"))
    if measured[LANGUAGES]:
        lines.append(("languages", _names(measured[LANGUAGES])))
    if measured.get(FILTERED):
        lines.append(("filtered", _names(measured[FILTERED])))
    return lines


def _range(entry: Mapping[str, float]) -> str:
    if entry["min"] == entry["max"]:
        return f"{entry['min']:,.0f}"
    return f"{entry['min']:,.0f} to {entry['max']:,.0f} (median {entry['p50']:,.0f})"


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST]


def _names(counts: Mapping[str, int]) -> str:
    """'1,000 jpg, 20 png', the most frequent first."""
    more = len(counts) - _MOST
    named = [f"{count:,} {name}" for name, count in _most(counts)]
    return ", ".join([*named, *([f"and {more:,} more"] if more > 0 else [])])
