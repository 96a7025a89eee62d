"""What a step of a run computes, in closed form, as an amount of its rows (see `streams.Preparation`).

A pass through a part of a model that learns costs three times the forward one: the gradients of what it read
and of its weights are as much work each. A part that is frozen has the first alone, and none where nothing
before it learns either (see `models.sizes.cost`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robot_foundry.trainer.meters import FLOPS


@dataclass(frozen=True)
class Work:
    """FLOPs of training that a unit of each amount takes, of what counts or of what rows stand for."""

    flops: Mapping[str, float]

    def __call__(self, batch: Any, inputs: Sequence[Any]) -> Mapping[str, float]:
        amounts = {**batch.counts, **batch.sizes}
        return {FLOPS: sum(flops * amounts[name] for name, flops in self.flops.items())}


def passes(learns: bool, carries: bool) -> int:
    """Forward passes that the work of a part comes to; `carries` says whether something before it learns."""
    return 1 + (learns or carries) + learns


def learns(learning: Iterable[str], *parts: str) -> bool:
    """Whether one of the parameters that learn is of these parts, by how names begin."""
    return any(name.startswith(parts) for name in learning)
