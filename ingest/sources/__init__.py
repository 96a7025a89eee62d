"""Readers of source layouts, which list the units of a file; those of robots open one to stream it.

Each is declared in `layouts` of its folder: its name, its reader, and what it understands of a spec. Specs
are checked against that, and nothing else names layouts; a reader is imported when a source is read.
"""

from __future__ import annotations

from robot_foundry.ingest.sources.base import Data, Layout, Refused, SourceFile, Texts, Unit
from robot_foundry.ingest.sources.droid.layouts import LAYOUTS as OF_DROID
from robot_foundry.ingest.sources.hdf5.layouts import LAYOUTS as OF_HDF5
from robot_foundry.ingest.sources.lerobot.layouts import LAYOUTS as OF_LEROBOT
from robot_foundry.ingest.sources.pairs.layouts import LAYOUTS as OF_PAIRS
from robot_foundry.ingest.sources.rlds.layouts import LAYOUTS as OF_RLDS
from robot_foundry.ingest.sources.ros.layouts import LAYOUTS as OF_ROS
from robot_foundry.ingest.sources.text.layouts import LAYOUTS as OF_TEXT
from robot_foundry.ingest.sources.zarr.layouts import LAYOUTS as OF_ZARR

__all__ = [
    "LAYOUTS",
    "Data",
    "Layout",
    "Refused",
    "SourceFile",
    "Texts",
    "Unit",
    "layout",
]


_ALL = (*OF_HDF5, *OF_DROID, *OF_RLDS, *OF_LEROBOT, *OF_ROS, *OF_ZARR, *OF_TEXT, *OF_PAIRS)
LAYOUTS = {declared.name: declared for declared in _ALL}


def layout(name: str) -> Layout:
    """The reader of the layout of that name, which is one of LAYOUTS."""
    reader: Layout = LAYOUTS[name].reader_class()()
    return reader
