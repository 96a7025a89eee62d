"""Readers of source layouts. A layout lists the episodes of a file and opens one of them to stream it."""

from __future__ import annotations

from importlib import import_module

from robot_foundry.ingest.sources.base import (
    Data,
    Encoded,
    Layout,
    Picture,
    Refused,
    SourceCamera,
    SourceEpisode,
    SourceFile,
    Text,
    Texts,
    Unit,
)

__all__ = [
    "SourceCamera",
    "Data",
    "Encoded",
    "SourceEpisode",
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
    "aloha": "hdf5.aloha.Aloha",
    "droid_raw": "droid.droid_raw.DroidRaw",
    "hdf5": "hdf5.stated_places.Hdf5Places",
    "libero": "hdf5.libero.Libero",
    "rlds": "rlds.rlds.Rlds",
    "robomimic": "hdf5.robomimic.Robomimic",
    "robosuite": "hdf5.robosuite.Robosuite",
}


def layout(name: str) -> Layout:
    """The reader of that name; a spec only holds names that are known here."""
    module, _, reader = READERS[name].rpartition(".")
    made: Layout = getattr(import_module(f"{__name__}.{module}"), reader)()
    return made
