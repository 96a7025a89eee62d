"""Readers of source layouts. A layout lists the episodes of a file and opens one of them to stream it."""

from __future__ import annotations

from robot_foundry.ingest.sources.base import (
    Camera,
    Encoded,
    Episode,
    Layout,
    Picture,
    Refused,
    SourceFile,
    Unit,
)

__all__ = [
    "Camera",
    "Encoded",
    "Episode",
    "Layout",
    "Picture",
    "Refused",
    "SourceFile",
    "Unit",
    "layout",
]


def layout(name: str) -> Layout:
    """The reader of that name; a spec only holds names that are known here."""
    from robot_foundry.ingest.sources.robomimic import Robomimic
    from robot_foundry.ingest.sources.robosuite import Robosuite

    known: dict[str, Layout] = {"robomimic": Robomimic(), "robosuite": Robosuite()}
    return known[name]
