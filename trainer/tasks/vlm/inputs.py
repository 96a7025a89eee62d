"""From batches of rows of pairs to the tensors that a vision-language model takes.

Shapes: B rows, S tokens of a row, N pictures, H × W pixels, C = 3 channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robot_foundry.loader.pairs.batch import PairBatch
from robot_foundry.trainer.models.layers import contrastive
from robot_foundry.trainer.models.vision_language import PictureRows, PicturesAndText

PAIRS, TEXT = "pairs", "text"  # the streams


def picture_rows(batch: PairBatch) -> PictureRows:
    """Its rows and pictures on the CPU; where there is no picture, one that is absent."""
    length = batch.token_BS.shape[1]
    image_NHWC = batch.image_NHWC
    at_N = batch.image_row_N.astype(np.int64) * length + batch.image_start_N
    is_there_N = np.ones(len(at_N), bool)
    if not len(at_N):
        image_NHWC = np.zeros((1, *image_NHWC.shape[1:]), np.uint8)
        at_N, is_there_N = np.zeros(1, np.int64), np.zeros(1, bool)

    def whole(values_BS: NDArray[np.int32]) -> torch.Tensor:
        return torch.from_numpy(values_BS.astype(np.int64))

    return PictureRows(
        token_BS=whole(batch.token_BS),
        target_BS=whole(batch.target_BS),
        learn_BS=torch.from_numpy(batch.learn_BS),
        segment_BS=whole(batch.segment_BS),
        position_BS=whole(batch.position_BS),
        image_NHWC=torch.from_numpy(image_NHWC),
        image_mask_N=torch.from_numpy(is_there_N),
        image_at_N=torch.from_numpy(at_N),
        learnt_T=torch.from_numpy(np.flatnonzero(batch.learn_BS & (batch.segment_BS >= 0))),
    )


def joined(of_streams: Mapping[str, Any]) -> PicturesAndText:
    """The inputs of a microbatch, of those of each stream."""
    return PicturesAndText(of_streams[PAIRS], of_streams[TEXT])


@dataclass(frozen=True)
class Contrasted:
    """Rows of a batch whose pairs are told from each other (see `streams.Rows`).

    Those that have a picture and a text are what counts. A picture has `image_tokens` tokens.
    """

    batch: PairBatch
    image_tokens: int

    @property
    def step(self) -> int:
        return self.batch.step

    @property
    def counts(self) -> Mapping[str, int]:
        batch = self.batch
        length = batch.token_BS.shape[1]
        # Segments are fewer than tokens, so that each pair has a number of its own.
        pair_BS = np.arange(len(batch))[:, None] * length + batch.segment_BS
        is_text_BS = batch.segment_BS >= 0
        for row, start in zip(batch.image_row_N, batch.image_start_N, strict=True):
            is_text_BS[row, start : start + self.image_tokens] = False
        with_picture = pair_BS[batch.image_row_N, batch.image_start_N]
        return {contrastive.LOSS: len(np.intersect1d(pair_BS[is_text_BS], with_picture))}

    @property
    def sizes(self) -> Mapping[str, float]:
        return self.batch.sizes

    def __len__(self) -> int:
        return len(self.batch)

    def rows(self, rows: slice) -> Contrasted:
        return replace(self, batch=self.batch.rows(rows))


def contrasted(batch: PairBatch, image_tokens: int, k: int | None = None) -> Contrasted:
    """The batch, or what of it stands before position k of the order, to be told apart."""
    return Contrasted(batch if k is None else until(batch, k), image_tokens)


def contrasted_rows(rows: Contrasted) -> PictureRows:
    """Their tensors on the CPU."""
    return picture_rows(rows.batch)


def until(batch: PairBatch, k: int) -> PairBatch:
    """The batch with nothing in the rows that stand at position k of the order or behind it."""
    beyond_B = batch.k_B >= k
    if not beyond_B.any():
        return batch
    kept_N = ~beyond_B[batch.image_row_N]
    return replace(
        batch,
        learn_BS=batch.learn_BS & ~beyond_B[:, None],
        segment_BS=np.where(beyond_B[:, None], np.int32(-1), batch.segment_BS),
        image_NHWC=batch.image_NHWC[kept_N],
        image_row_N=batch.image_row_N[kept_N],
        image_start_N=batch.image_start_N[kept_N],
        cut_B=np.where(beyond_B, np.int32(0), batch.cut_B),
        pairs_B=np.where(beyond_B, np.int32(0), batch.pairs_B),
    )
