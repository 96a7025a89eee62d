"""The cross entropy of rows of tokens, row by row.

Legend: B rows, S tokens of a row, T tokens that are learnt, D width, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_TOKENS = 256  # whose logits are made at a time


@torch.inference_mode()
def losses_by_row(
    hidden_BSD: Tensor, target_BS: Tensor, learn_BS: Tensor, output_VD: Tensor
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Of each row the sum of the cross entropies, in nats, of its learnt tokens [B], and their number [B]."""
    hidden_TD, target_T, row_T = hidden_BSD[learn_BS], target_BS[learn_BS], learn_BS.nonzero()[:, 0]
    sum_B = torch.zeros(len(learn_BS), dtype=torch.float64, device=row_T.device)
    for start in range(0, len(target_T), _TOKENS):
        here = slice(start, start + _TOKENS)
        logit_TV = F.linear(hidden_TD[here], output_VD).float()
        sum_B.index_add_(0, row_T[here], F.cross_entropy(logit_TV, target_T[here], reduction="none").double())
    return sum_B.cpu().numpy(), learn_BS.sum(dim=1).cpu().numpy()
