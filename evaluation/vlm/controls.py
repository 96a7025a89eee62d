"""What a model is shown in place of a picture, to see whether its answers come from looking.

`blank` is one grey of the same size, that of the borders of fitted pictures, so that not even the shape is
left to see. `shuffled` is the pictures of another pair: each pair's are shown with exactly one other. Of the
loss alone there is `absent`: the text without its pictures.

Legend: n pairs; H × W pixels, C = 3 channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robot_foundry.runtime.keyed import key, mix64
from robot_foundry.shards.pictures.fit import BORDER

REAL, BLANK, SHUFFLED = CONDITIONS = ("real", "blank", "shuffled")
ABSENT = "absent"
LOSS_CONDITIONS = (*CONDITIONS, ABSENT)


def blank(pictures: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Grey pictures [H, W, C] of the same sizes."""
    return [np.full_like(picture_HWC, BORDER) for picture_HWC in pictures]


def partners(
    content_n: NDArray[np.uint64], num_pictures_n: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """Whose pictures [n] each pair is shown: of another content and of equal number, each once.

    `content_n` is the same for pairs about the same pictures. -1 where there is no such way: of pairs without
    pictures, and where more than half of those with so many pictures are about the same ones.
    """
    partner_n = np.full(len(content_n), -1, np.int64)
    for count in np.unique(num_pictures_n[num_pictures_n > 0]):
        among = np.flatnonzero(num_pictures_n == count)
        keyed = mix64(content_n[among], key("shuffled-pictures", seed))
        # Equal contents stand together, so a shift by the longest run of them leads out of every run.
        in_order = among[np.lexsort((among, content_n[among], keyed))]
        _, run_lengths = np.unique(content_n[among], return_counts=True)
        shift = int(run_lengths.max())
        if 2 * shift <= len(among):
            partner_n[in_order] = np.roll(in_order, -shift)
    return partner_n
