"""What documents of a version say of themselves."""

from __future__ import annotations

from robot_foundry.catalog.manifest import Manifest
from robot_foundry.catalog.metadata.types import MetadataSchema
from robot_foundry.runtime.errors import FoundryError


class TextSchema(MetadataSchema):
    """That of a version of text."""


def schema_of(manifest: Manifest) -> TextSchema:
    """That of a version of text."""
    if not isinstance(manifest.schema, TextSchema):
        raise FoundryError(f"'{manifest.dataset}' holds {manifest.holds.samples}, not text")
    return manifest.schema
