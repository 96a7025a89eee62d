"""How the chunks of one scene follow each other: one after the other, or averaged where they overlap.

An answer to what was seen at one moment is there `delay` periods later; until then what was there before goes
on, and of the new one those first targets are skipped. The first is waited for: the scene stands still.
Shapes: T periods, A dims of the world's action space, C chunks.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from robot_foundry.normalization.rotation import matrix_to_rot6d, rot6d_to_matrix
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import UsageError


@dataclass
class Execution:
    """Executes `execute` periods from one observation to the next, the first `delay` of the chunk before."""

    execute: int
    delay: int = 0
    executed: int = 0  # periods of the last chunk that are over at the next observation
    _last_TA: np.ndarray | None = None

    def follow(self, chunk_TA: np.ndarray) -> np.ndarray:
        """The targets (T, A) until the next observation, once this answer to the last one is asked for.

        UsageError where a chunk ends before the next one can be there.
        """
        _check_reaches(chunk_TA, self.execute, self.delay)
        last_TA, self._last_TA = self._last_TA, chunk_TA
        self.executed = min(self.execute, len(chunk_TA))
        if last_TA is None:
            return chunk_TA[: self.execute]
        held_TA = last_TA[self.execute : self.execute + self.delay]
        return np.concatenate((held_TA, chunk_TA[self.delay : self.execute]))


class Ensemble:
    """Executes means over all chunks that cover a period: temporal ensembling (Zhao et al. 2023, "Learning
    Fine-Grained Bimanual Manipulation with Low-Cost Hardware", section IV-C).

    Of the chunks that are there for a period the i-th, from the oldest on, weighs exp(-`decay` i): the
    smaller `decay`, the sooner new observations count. Rotations are averaged as rot6d and made rotations
    again by Gram-Schmidt; all other dims are averaged as they are.
    """

    def __init__(self, space: ActionSpace, execute: int, decay: float, delay: int = 0) -> None:
        self._execute, self._decay, self._delay = execute, decay, delay
        self.executed = 0  # periods of the last chunk that are over at the next observation
        self._now = 0  # the period at which the last chunk was asked for
        self._chunks: list[tuple[int, np.ndarray]] = []  # when each was asked for, oldest first
        turns: dict[str, list[int]] = defaultdict(list)
        for column, dim in enumerate(space):
            if dim.quantity == "ee_rot6d":
                turns[f"{dim.embodiment}:{dim.part}"].append(column)
        self._rot6d = [columns for columns in turns.values() if len(columns) == 6]

    def follow(self, chunk_TA: np.ndarray) -> np.ndarray:
        """As `Execution.follow`."""
        _check_reaches(chunk_TA, self._execute, self._delay)
        self._now += self.executed
        self._chunks.append((self._now, chunk_TA))
        self.executed = min(self._execute, len(chunk_TA))
        self._chunks = [(asked, c_TA) for asked, c_TA in self._chunks if asked + len(c_TA) > self._now]
        return np.stack([self._mean(self._now + step) for step in range(self.executed)])

    def _mean(self, period: int) -> np.ndarray:
        covering = [
            chunk_TA[period - asked]
            for asked, chunk_TA in self._chunks
            if period - asked < len(chunk_TA) and (asked == 0 or asked + self._delay <= period)
        ]
        target_CA = np.stack(covering)
        weight_C = np.exp(-self._decay * np.arange(len(target_CA)))
        mean_A: np.ndarray = (target_CA * (weight_C / weight_C.sum())[:, None]).sum(axis=0)
        for columns in self._rot6d:
            mean_A[columns] = matrix_to_rot6d(rot6d_to_matrix(mean_A[columns]))
        return mean_A


def _check_reaches(chunk_TA: np.ndarray, execute: int, delay: int) -> None:
    if delay and len(chunk_TA) < execute + delay:
        raise UsageError(
            f"a chunk is {len(chunk_TA)} periods: it ends before the next one is there, which is asked "
            f"for after {execute} and comes {delay} later",
            hint="execute fewer steps of each, or train a policy of a longer horizon",
        )
