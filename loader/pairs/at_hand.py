"""Rows of pairs whose pictures are at hand, and not in a store: what a model is asked, or shown.

Legend: N pictures of all rows, h × w pixels of one as it is given, H × W as a model sees it, C = 3 channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robot_foundry.loader.pairs.batch import PairBatch, Row, assembled, length_for
from robot_foundry.loader.pairs.spec import PairSpec
from robot_foundry.shards.pictures.fit import fitted, place

Pictures = Sequence[NDArray[np.uint8]]


def batch_of(rows: Sequence[Row], pictures: Sequence[Pictures], spec: PairSpec) -> PairBatch:
    """These rows, each with its pictures, uint8 RGB [h, w, C] of any size; as long as the longest row.

    Of the pictures of a row that was cut, those that it still has are taken.
    """
    size, fit = spec.rows.image, spec.rows.fit
    starts = [row.image_starts for row in rows]
    image_NHWC = np.empty((sum(map(len, starts)), *size, 3), np.uint8)
    shown = (one for some, of_row in zip(pictures, starts, strict=True) for one in some[: len(of_row)])
    for out_HWC, picture_hwC in zip(image_NHWC, shown, strict=True):
        place(picture_hwC, fitted(picture_hwC.shape[:2], size, fit), out_HWC)
    return assembled(
        0,
        np.arange(len(rows)),
        np.zeros(len(rows), np.int32),
        rows,
        image_NHWC,
        length=length_for(rows),
        pad=spec.tokenizer.pad,
    )
