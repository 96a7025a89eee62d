"""Readers of source layouts. A layout lists the episodes of a file and opens one of them to stream it."""

from __future__ import annotations

from importlib import import_module

from robot_foundry.ingest.sources.base import (
    Camera,
    Data,
    Encoded,
    Episode,
    Layout,
    Picture,
    Refused,
    SourceFile,
    Text,
    Texts,
    Unit,
)

__all__ = [
    "Camera",
    "Data",
    "Encoded",
    "Episode",
    "Layout",
    "Picture",
    "Refused",
    "SourceFile",
    "Text",
    "Texts",
    "Unit",
    "layout",
]


# A reader is imported when it is asked for: some bring in packages that take a while.
READERS = {
    "aloha": "aloha.Aloha",
    "droid_raw": "droid_raw.DroidRaw",
    "hdf5": "hdf5_places.Hdf5Places",
    "libero": "libero.Libero",
    "rlds": "rlds.Rlds",
    "robomimic": "robomimic.Robomimic",
    "robosuite": "robosuite.Robosuite",
}


def layout(name: str) -> Layout:
    """The reader of that name; a spec only holds names that are known here."""
    module, _, reader = READERS[name].partition(".")
    made: Layout = getattr(import_module(f"{__name__}.{module}"), reader)()
    return made
