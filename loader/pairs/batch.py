"""Batches of rows of pairs.

Legend: B rows, S tokens of a row, N pictures of all rows, H × W pixels, C = 3 channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.loader.pairs.template import Rendered
from robot_foundry.runtime.errors import UsageError

LOSS = "answer"
_LENGTH_STEP = 8  # tokens: lengths of rows that kernels like


@dataclass(frozen=True)
class Row:
    """What stands in a row: its pairs one behind the other, and how many tokens they lost to fit."""

    parts: Sequence[Rendered]
    cut: int = 0

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.parts))

    @property
    def image_starts(self) -> list[int]:
        """Where in the row the first image token of each of its pictures stands."""
        starts, at = [], 0
        for part in self.parts:
            starts += [at + start for start in part.image_starts]
            at += len(part)
        return starts


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
        """Some neighbouring rows, with their pictures."""
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise UsageError(f"rows of a batch of pairs are taken one after the other, not by {step}")
        first, end = np.searchsorted(self.image_row_N, [start, stop]).tolist()
        taken: dict[str, Any] = {
            item.name: getattr(self, item.name)[slice(first, end) if item.name in _OF_PICTURES else rows]
            for item in fields(self)
            if item.name != "step"
        }
        return replace(self, **taken | {"image_row_N": taken["image_row_N"] - np.int32(start)})


def length_for(rows: Sequence[Row]) -> int:
    """How many tokens rows of one batch have, so that the longest of these fits."""
    longest = max(row.num_tokens for row in rows)
    return -(-longest // _LENGTH_STEP) * _LENGTH_STEP


_OF_PICTURES = ("image_NHWC", "image_row_N", "image_start_N")


def assembled(
    step: int,
    k_B: NDArray[np.int64],
    dataset_B: NDArray[np.int32],
    rows: Sequence[Row],
    image_NHWC: NDArray[np.uint8],
    *,
    length: int,
    pad: int,
) -> PairBatch:
    """The batch of these rows, whose pictures are given, at `length` tokens each."""
    size, starts = (len(rows), length), [row.image_starts for row in rows]
    row_N = np.repeat(np.arange(len(rows), dtype=np.int32), [len(of_row) for of_row in starts])
    batch = PairBatch(
        step,
        k_B.copy(),
        dataset_B.copy(),
        token_BS=np.full(size, pad, np.int32),
        target_BS=np.full(size, pad, np.int32),
        learn_BS=np.zeros(size, np.bool_),
        segment_BS=np.full(size, -1, np.int32),
        position_BS=np.zeros(size, np.int32),
        image_NHWC=image_NHWC,
        image_row_N=row_N,
        image_start_N=np.array([start for of_row in starts for start in of_row], np.int32),
        cut_B=np.array([row.cut for row in rows], np.int32),
        pairs_B=np.array([len(row.parts) for row in rows], np.int32),
    )
    for number, row in enumerate(rows):
        at = 0
        for segment, part in enumerate(row.parts):
            here, last = slice(at, at + len(part)), at + len(part) - 1
            batch.token_BS[number, here] = part.ids_N
            batch.target_BS[number, at:last] = part.ids_N[1:]
            batch.learn_BS[number, at:last] = part.learn_N[1:]
            batch.segment_BS[number, here] = segment
            batch.position_BS[number, here] = np.arange(len(part))
            at += len(part)
    return batch
