"""ALOHA and ACT: one episode a file: /observations/{qpos, qvel, effort, images/<cam>} and /action.

Images are uint8 [N, H, W, 3], or with `compress` rows of JPEG with zeros behind them. `compress_len` is not
needed: a JPEG says where it ends.
"""

from __future__ import annotations

import h5py

from robot_foundry.ingest.sources.hdf5 import hdf5
from robot_foundry.ingest.sources.hdf5.stated_places import Hdf5Places
from robot_foundry.ingest.spec.spec import Content, Places

PLACES = Places(length="action", images=("observations/images/*",))


class Aloha(Hdf5Places):
    """See `Layout`."""

    name = "aloha"
    version = 2

    def places(self, content: Content) -> Places:
        return PLACES

    def check(self, file: h5py.File) -> None:
        hdf5.check_structure(file, self.name)
