"""What `show` tells of a version of text."""

from __future__ import annotations

from typing import Any

from robot_foundry.catalog.metadata.columns import metadata_columns
from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.query.shown import Description
from robot_foundry.catalog.text.rows import OWN
from robot_foundry.catalog.text.schema import schema_of

# What ingest measured, under this name in the provenance.
MEASURED = "text"


def describe(opened: OpenVersion) -> Description:
    """Sizes of documents, and the columns that SQL has of their metadata."""
    manifest, metadata = opened.manifest, metadata_columns(schema_of(opened.manifest), OWN)
    measured: dict[str, Any] = dict(manifest.provenance.get(MEASURED, {}))
    facts = {**measured, "count": manifest.num_groups, "metadata": metadata}
    return Description(
        facts={"documents": facts},
        head=_head(manifest.num_groups, measured),
        headers=("metadata", "column", "type") if metadata else (),
        rows=[tuple(entry.values()) for entry in metadata],
        without_line=(MEASURED,),
    )


def _head(count: int, measured: dict[str, Any]) -> list[tuple[str, str]]:
    lengths = measured.get("characters")
    if lengths is None:
        return [("documents", f"{count:,}")]
    sizes = f"{lengths['min']:,} to {lengths['max']:,} characters (median {lengths['p50']:,})"
    more = measured["more_metadata"]
    rest = ", ".join(f"{name[1:]} % have at most {lengths[name]:,}" for name in ("p1", "p25", "p75", "p99"))
    return [
        ("documents", f"{count:,} of {sizes}, {measured['bytes']:,} bytes of UTF-8"),
        ("lengths", rest),
        *([("not shown", f"{more:,} rarer names of metadata")] if more else []),
    ]
