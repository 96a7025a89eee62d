"""The loss of a model on given pairs with given pictures, pair by pair.

Legend: n pairs, B rows, S tokens of a row; H × W pixels, C = 3 channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from robot_foundry.evaluation.row_losses import losses_by_row
from robot_foundry.loader.pairs.at_hand import batch_of
from robot_foundry.loader.pairs.batch import PairBatch, Row
from robot_foundry.loader.pairs.template import PairText, rendered, without_pictures
from robot_foundry.trainer.tasks.vlm.inputs import picture_rows
from robot_foundry.trainer.tasks.vlm.trained import Trained

ROWS = 16  # at a time


def losses(
    trained: Trained,
    texts: Sequence[PairText],
    pictures: Sequence[Sequence[NDArray[np.uint8]]] | None,
    choice_n: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Of each pair the sum of the cross entropies, in nats, of the tokens that are learnt, and their number.

    Pictures are uint8 RGB [H, W, C] of any size; without them it is the loss of the texts alone. `choice_n`
    (from 0 to 1) says which of several captions it is. A pair that is longer than a row of the run loses its
    end, as in training, and no less without its pictures: the tokens are the same.
    """
    parts = [
        losses_of_rows(
            trained,
            _batch(trained, texts[here], None if pictures is None else pictures[here], choice_n[here]),
        )
        for here in (slice(start, start + ROWS) for start in range(0, len(texts), ROWS))
    ]
    sums, counts = zip(*parts, strict=True)
    return np.concatenate(sums), np.concatenate(counts)


@torch.inference_mode()
def losses_of_rows(trained: Trained, batch: PairBatch) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """As `losses`, of each row of a batch."""
    model = trained.model
    inputs = picture_rows(batch).to(model.output_weight.device)
    learn_BS = inputs.learn_BS & (inputs.segment_BS >= 0)
    return losses_by_row(model.hidden(inputs), inputs.target_BS, learn_BS, model.output_weight)


def _batch(
    trained: Trained,
    texts: Sequence[PairText],
    pictures: Sequence[Sequence[NDArray[np.uint8]]] | None,
    choice_n: NDArray[np.float64],
) -> PairBatch:
    """A row a pair."""
    spec = trained.settings
    rows = []
    for text, choice in zip(texts, choice_n.tolist(), strict=True):
        whole = rendered(text, spec.tokenizer, spec.image_tokens, choice)
        part = whole.cut(spec.rows.length, spec.image_tokens)
        cut = len(whole) - len(part)
        if pictures is None:
            part = without_pictures(part, spec.tokenizer, spec.image_tokens)
        rows.append(Row([part], cut))
    return batch_of(rows, [()] * len(rows) if pictures is None else pictures, spec)
