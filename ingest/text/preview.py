"""What an ingest of text would make, from the first documents of one unit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from robot_foundry.catalog.metadata.types import counted_types
from robot_foundry.catalog.text.kind import KIND
from robot_foundry.catalog.text.schema import TextSchema
from robot_foundry.ingest.duplicates import NUMBER
from robot_foundry.ingest.kind import Preview
from robot_foundry.ingest.sources import Refused, Unit
from robot_foundry.ingest.sources.text.text import documents
from robot_foundry.ingest.text.spec import TextSpec
from robot_foundry.shards.text.blocks import Document

SAMPLED_UNITS, SAMPLED_DOCUMENTS = 16, 100
MOST_SHOWN = 60


def preview(spec: TextSpec, units: Sequence[Unit], source_bytes: int) -> Preview:
    """Read the first documents of the first unit that has any; how many there are, only reading tells."""
    planned, refused = sum(unit.num_bytes for unit in units), list[str]()
    for unit in units[:SAMPLED_UNITS]:
        found = _sample(spec, unit, refused)
        if found:
            schema = TextSchema.of(counted_types(document.metadata for document in found))
            lines, warnings = _lines(found, schema, _duplicates(spec, units)), tuple(refused[:1])
            return Preview(KIND, None, None, source_bytes, planned, schema, unit.name, lines, warnings)
    lines = ("no document could be read, so what they hold is not known",)
    return Preview(KIND, None, None, source_bytes, planned, None, None, lines, tuple(refused[:1]))


def _sample(spec: TextSpec, unit: Unit, refused: list[str]) -> list[Document]:
    """The first documents of a unit; to `refused` goes what cannot be read."""
    try:
        items = list(islice(documents(unit, spec.content), SAMPLED_DOCUMENTS))
    except Refused as error:
        refused.append(f"{unit.name}: {error.message}")
        return []
    found = [item for item in items if isinstance(item, Document)]
    refused += [f"{unit.file.path}#{i.id}: {i.reason}" for i in items if not isinstance(i, Document)]
    return found


def _duplicates(spec: TextSpec, units: Sequence[Unit]) -> tuple[str, ...]:
    """How many documents are left out of the units, where they were compared."""
    if not spec.content.deduplicate:
        return ()
    count = sum(len(unit.dropped) for unit in units) // NUMBER.itemsize
    return (f"duplicates: {count:,} documents are left out",)


def _lines(found: Sequence[Document], schema: TextSchema, more: Sequence[str]) -> tuple[str, ...]:
    """How the first document begins, how long they are, their metadata, and `more`."""
    text = found[0].text
    begin = repr(text[:MOST_SHOWN]) + (" …" if len(text) > MOST_SHOWN else "")
    characters = sum(len(document.text) for document in found) // len(found)
    metadata = ", ".join(f"{name} ({kind})" for name, kind in schema.metadata.items())
    return (
        f"the first begins: {begin}",
        f"characters a document: {characters:,} in the mean of the first {len(found)}",
        f"metadata: {metadata or 'none'}",
        *more,
    )
