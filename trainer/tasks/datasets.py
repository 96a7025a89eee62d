"""Which dataset of a mixture each row is of, for losses that are told by dataset.

Shapes: B rows, D datasets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

from robot_foundry.catalog.opened import OpenMixture


def dataset_names(opened: OpenMixture) -> tuple[str, ...]:
    """The datasets of a mixture, in its order; none where it has one alone, whose loss is that of all."""
    names = tuple(component.name for component in opened.mixture.components)
    return names if len(names) > 1 else ()


@dataclass(frozen=True)
class OfDatasets:
    """What a model takes of rows, made by `inputs_of`, which says of each row its dataset of so many."""

    inputs_of: Callable[[Any], Any]
    num_datasets: int

    def __call__(self, batch: Any) -> Any:
        dataset_B = torch.from_numpy(batch.dataset_B).long()
        return replace(self.inputs_of(batch), dataset_BD=F.one_hot(dataset_B, self.num_datasets))
