"""From raw sources to immutable shards and canonical tables."""

from __future__ import annotations

from typing import Any

__all__ = ["ingest", "remap"]


def __getattr__(name: str) -> Any:
    if name == "ingest":  # imported on use: they bring in pyarrow and the codecs
        from robot_foundry.ingest.engine import ingest

        return ingest
    if name == "remap":
        from robot_foundry.ingest.remapping import remap

        return remap
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
