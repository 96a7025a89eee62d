"""What pairs of a version say of themselves."""

from __future__ import annotations

from robot_foundry.catalog.manifest import Manifest
from robot_foundry.catalog.metadata.types import MetadataSchema
from robot_foundry.runtime.errors import FoundryError


class PairSchema(MetadataSchema):
    """That of a version of pairs."""


def schema_of(manifest: Manifest) -> PairSchema:
    """That of a version of pairs."""
    if not isinstance(manifest.schema, PairSchema):
        raise FoundryError(f"'{manifest.dataset}' holds {manifest.holds.samples}, not image-text pairs")
    return manifest.schema
