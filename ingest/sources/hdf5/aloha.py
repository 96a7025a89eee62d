"""ALOHA and ACT: one episode a file: /observations/{qpos, qvel, effort, images/<cam>} and /action.

Images are uint8 [N, H, W, 3], or with `compress` rows of JPEG with zeros behind them. `compress_len` is not
needed: a JPEG says where it ends.
"""

from __future__ import annotations

from collections.abc import Sequence

import h5py

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.hdf5.layouts import ALOHA, StatedPlaces
from robot_foundry.ingest.sources.hdf5.stated_places import Hdf5Places

PLACES = StatedPlaces(length="action", images=("observations/images/*",))


class Aloha(Hdf5Places):
    """See `Layout`."""

    declared = ALOHA
    version = 2
    advice = "this is an ALOHA episode (observations/qpos and action): use `foundry-data ingest aloha`"

    def recognises(self, file: h5py.File, demos: Sequence[str], *, is_asked: bool) -> bool:
        return "observations/qpos" in file and "action" in file

    def places(self, content: Content) -> StatedPlaces:
        return PLACES

    def check(self, file: h5py.File) -> None:
        self.check_layout(file)
