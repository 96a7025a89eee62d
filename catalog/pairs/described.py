"""What `show` tells of a version of pairs."""

from __future__ import annotations

from robot_foundry.catalog.metadata.columns import metadata_columns
from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.pairs.rows import OWN
from robot_foundry.catalog.pairs.schema import schema_of
from robot_foundry.catalog.query.shown import Description

# What ingest measured, under this name in the provenance.
MEASURED = "pairs"


def describe(opened: OpenVersion) -> Description:
    """Sizes of pairs, and the columns that SQL has of their metadata."""
    metadata = metadata_columns(schema_of(opened.manifest), OWN)
    return Description(
        facts={"pairs": {"count": opened.manifest.num_groups, "metadata": metadata}},
        headers=("metadata", "column", "type") if metadata else (),
        rows=[tuple(entry.values()) for entry in metadata],
        without_line=(MEASURED,),
    )
