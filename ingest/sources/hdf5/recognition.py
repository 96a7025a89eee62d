"""Which layout an HDF5 file has, by its groups and attributes: a wrong spec is refused with the right one.

Every reader of HDF5 says itself what its files look like.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import h5py

from robot_foundry.ingest.sources import LAYOUTS, layout
from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.hdf5 import hdf5
from robot_foundry.ingest.sources.hdf5.layouts import CONTAINER
from robot_foundry.ingest.sources.robot.source_episode import EpisodeLayout

UNKNOWN = (
    "this file is of no layout that is known by its groups: a spec with `layout: hdf5` can tell "
    "where its episodes and images are (docs/specs.md)"
)


class Hdf5Layout(EpisodeLayout):
    """See `EpisodeLayout`. `advice` is told of a file of this layout where another one was asked for."""

    advice: ClassVar[str] = ""

    def claims(self, path: str) -> bool:
        return hdf5.claims(path)

    def recognises(self, file: h5py.File, demos: Sequence[str], *, is_asked: bool) -> bool:
        """Whether the file, with these groups in /data, is of this layout; `is_asked` where a spec says so.

        The first layout that recognises a file has it, in the order of LAYOUTS.
        """
        return False

    def check_layout(self, file: h5py.File) -> None:
        """Refused, with what it is instead, if the file is not of this layout."""
        demos = hdf5.groups(file)
        for name, declared in LAYOUTS.items():
            if declared.container != CONTAINER:
                continue
            reader = layout(name)
            assert isinstance(reader, Hdf5Layout)
            if reader.recognises(file, demos, is_asked=name == self.name):
                if name == self.name:
                    return
                raise Refused(reader.advice)
        raise Refused(UNKNOWN)
