"""A loss by the dataset that each row is of, beside the loss over all rows.

Inputs say of which of D datasets each row is, one-hot. The sums stay on the device, in float64 and by a
matrix product: they cost no wait of the host, and are the same bits in every run.

Shapes: B rows, N what a row has of losses or counts, D datasets.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Losses = dict[str, tuple[Tensor, Tensor]]  # by name the sum over what counts, and its count
_MARK = "by_dataset/"  # what the names of the sums and counts [D] of a loss begin with


def by_dataset(name: str, dataset_BD: Tensor | None, loss_BN: Tensor, count_BN: Tensor) -> Losses:
    """The entry of the loss `name` by dataset, of what its rows have of it; none where nothing asks for it.

    Both may have further axes, and `count_BN` may be of truth values.
    """
    if dataset_BD is None:
        return {}
    with torch.no_grad():
        rows = [value.detach().double().flatten(1).sum(1) for value in (loss_BN, count_BN)]
        sum_D, count_D = torch.stack(rows) @ dataset_BD.double()
    return {f"{_MARK}{name}": (sum_D, count_D)}


def separated(losses: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[Losses, Losses]:
    """What is learnt, and by the same names what is said of datasets."""
    learnt = {name: pair for name, pair in losses.items() if not name.startswith(_MARK)}
    parts = {name.removeprefix(_MARK): pair for name, pair in losses.items() if name.startswith(_MARK)}
    return learnt, parts
