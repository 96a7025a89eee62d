"""Batches of rows of pairs.

Legend: B rows, S tokens of a row, N pictures of all rows, H × W pixels, C = 3 channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LOSS = "answer"


@dataclass(frozen=True)
class PairBatch:
    """A rank's rows of global batch `step`; where nothing is, at the end of a row, `segment_BS` is -1.

    k_B, dataset_B  positions in the order, and components of the mixture
    token_BS        inputs; the tokenizer's `<image>`, or its padding, where an image token stands
    target_BS       what each is to predict
    learn_BS        which targets count: those of answers and captions, and the end behind each
    segment_BS      the number of its pair in the row, from 0
    position_BS     the position in the pair, from 0; 0 where nothing is
    image_NHWC      the pictures, those of a row behind those of the row before
    image_row_N     the row of each; `image_start_N` where in it its first image token stands
    cut_B           tokens that pairs of the row lost because they were too long for it
    pairs_B         how many pairs the row has
    """

    step: int
    k_B: NDArray[np.int64]
    dataset_B: NDArray[np.int32]
    token_BS: NDArray[np.int32]
    target_BS: NDArray[np.int32]
    learn_BS: NDArray[np.bool_]
    segment_BS: NDArray[np.int32]
    position_BS: NDArray[np.int32]
    image_NHWC: NDArray[np.uint8]
    image_row_N: NDArray[np.int32]
    image_start_N: NDArray[np.int32]
    cut_B: NDArray[np.int32]
    pairs_B: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.k_B)

    @property
    def counts(self) -> Mapping[str, int]:
        """Targets that count, by the name of the loss."""
        return {LOSS: int(self.learn_BS.sum())}

    @property
    def sizes(self) -> Mapping[str, float]:
        """What its rows stand for."""
        return {
            "pairs": float(self.pairs_B.sum()),
            "pictures": float(len(self.image_row_N)),
            "tokens": float((self.segment_BS >= 0).sum()),
            "cut": float(self.cut_B.sum()),
        }

    def rows(self, rows: slice) -> PairBatch:
        """Some of the rows, with their pictures."""
        raise NotImplementedError
