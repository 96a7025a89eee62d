"""Batches of packed rows.

Legend: B rows, S tokens of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TokenBatch:
    """A rank's rows of global batch `step`; where nothing is, at the end of a row, `segment_BS` is -1.

    k_B, dataset_B  positions in the order, and components of the mixture
    token_BS        inputs; `target_BS` what each is to predict
    segment_BS      the number of its document in the row, from 0; a document that another row began counts
    position_BS     the position in the document's part in this row, from 0; 0 where nothing is
    bytes_B         bytes of the source that the targets stand for: of each document its bytes, in equal
                    parts for its tokens with the one that ends it
    """

    step: int
    k_B: NDArray[np.int64]
    dataset_B: NDArray[np.int32]
    token_BS: NDArray[np.int32]
    target_BS: NDArray[np.int32]
    segment_BS: NDArray[np.int32]
    position_BS: NDArray[np.int32]
    bytes_B: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.k_B)

    @property
    def counts(self) -> Mapping[str, int]:
        """Targets, by the name of the loss."""
        return {"text": int((self.segment_BS >= 0).sum())}

    @property
    def sizes(self) -> Mapping[str, float]:
        """What the targets stand for."""
        return {"bytes": float(self.bytes_B.sum())}

    def rows(self, rows: slice) -> TokenBatch:
        of_rows: dict[str, Any] = {
            item.name: getattr(self, item.name)[rows] for item in fields(self) if item.name != "step"
        }
        return replace(self, **of_rows)


def allocate(step: int, k_B: NDArray[np.int64], dataset_B: NDArray[np.int32], length: int) -> TokenBatch:
    """A batch of rows of `length` tokens, which are still to be filled in place."""
    token_BS, target_BS, segment_BS, position_BS = (np.empty((len(k_B), length), np.int32) for _ in range(4))
    bytes_B = np.zeros(len(k_B), np.float64)
    return TokenBatch(
        step, k_B.copy(), dataset_B.copy(), token_BS, target_BS, segment_BS, position_BS, bytes_B
    )
