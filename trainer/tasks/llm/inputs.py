"""From batches of packed rows to the tensors that a language model takes.

Shapes: B rows, S tokens of a row.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from robot_foundry.loader.tokens.batch import TokenBatch
from robot_foundry.trainer.models.llm import TextInputs


def text_inputs(batch: TokenBatch) -> TextInputs:
    """Its rows on the CPU."""

    def whole(values_BS: NDArray[np.int32]) -> torch.Tensor:
        return torch.from_numpy(values_BS.astype(np.int64))

    return TextInputs(
        token_BS=whole(batch.token_BS),
        target_BS=whole(batch.target_BS),
        segment_BS=whole(batch.segment_BS),
        position_BS=whole(batch.position_BS),
    )


def until(batch: TokenBatch, k: int) -> TokenBatch:
    """The batch with nothing in the rows that stand at position k of the order or behind it."""
    beyond_B = batch.k_B >= k
    if not beyond_B.any():
        return batch
    segment_BS = np.where(beyond_B[:, None], np.int32(-1), batch.segment_BS)
    return replace(batch, segment_BS=segment_BS, bytes_B=np.where(beyond_B, 0.0, batch.bytes_B))
