"""Reads the images of a batch's rows, straight into it.

Legend: B rows of a batch, H history, h × w pixels, R rows of a shard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robot_foundry.loader.robot.batch import Batch
from robot_foundry.loader.robot.source import OpenShard
from robot_foundry.loader.substituted import Damage, twice
from robot_foundry.shards.errors import CorruptData
from robot_foundry.shards.images import decode, probe
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.segments import JoinedReader
from robot_foundry.windows.resize import resized


@dataclass(frozen=True)
class RowImages:
    """The images of one row: those of the table rows `row_H` of the shard."""

    shard: OpenShard
    row_H: NDArray[np.int64]

    @property
    def shown(self) -> dict[str, list[bool]]:
        """By camera role which moments have a picture [H]."""
        return {role: (rows[self.row_H] >= 0).tolist() for role, rows in self.shard.member_row_R.items()}


class _Damaged(Exception):
    """Carries the Damage of an image out of the rows that need it."""

    def __init__(self, damage: Damage) -> None:
        super().__init__(damage.reason)
        self.damage = damage


def read_rows(batch: Batch, images: Mapping[int, RowImages], rows: Sequence[int]) -> dict[int, Damage]:
    """Write the images of some rows into a batch; what is corrupt, by the rows that need it."""
    failed: dict[int, Damage] = {}
    for row in rows:
        item = images[row]
        try:
            for role, pixels_BHhw3 in batch.images.items():
                batch.image_mask[role][row] = _read_history(item, role, pixels_BHhw3[row])
        except _Damaged as error:
            failed[row] = error.damage
        item.shard.close_if_retired()
    return failed


def _read_history(item: RowImages, role: str, out_Hhw3: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Write the images of one camera, oldest first, and say which of them exist [H]."""
    member_row_R, reader = item.shard.member_row_R.get(role), item.shard.reader
    if member_row_R is None or reader is None:
        out_Hhw3[...] = 0
        return np.zeros(len(out_Hhw3), np.bool_)
    member_H = member_row_R[item.row_H]
    for h, member in enumerate(member_H.tolist()):
        if member < 0:
            out_Hhw3[h] = 0
        elif h and member == member_H[h - 1]:
            out_Hhw3[h] = out_Hhw3[h - 1]
        else:
            _read_checked(reader, member, out_Hhw3[h])
    return member_H >= 0


def _read_checked(reader: ShardReader | JoinedReader, member: int, out_hw3: NDArray[np.uint8]) -> None:
    try:
        twice(partial(_read_image, reader, member, out_hw3))
    except CorruptData as error:
        name, tar = reader.name(member), reader.tar_of(member)
        reason = str(error) if name in str(error) else f"member {name!r} of {tar} is damaged: {error}"
        raise _Damaged(Damage(tar, name, reason)) from error


def _read_image(reader: ShardReader | JoinedReader, member: int, out_hw3: NDArray[np.uint8]) -> None:
    data = reader.read(member)
    _, height, width = probe(data)
    if (height, width) == out_hw3.shape[:2]:
        decode(data, out=out_hw3)
        return
    out_hw3[...] = resized(decode(data), out_hw3.shape[:2])
