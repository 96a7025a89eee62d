"""Versions, references, selections, mixtures, statistics and queries over a store of shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robot_foundry.catalog.query.snapshot import Catalog

__all__ = ["Catalog"]


def __getattr__(name: str) -> Any:
    if name == "Catalog":  # imported on use: it brings in pyarrow and DuckDB
        from robot_foundry.catalog.query.snapshot import Catalog

        return Catalog
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
