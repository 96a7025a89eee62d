"""How the chunks of one scene follow each other where an answer takes time.

An answer to what was seen at one moment is there `delay` periods later; until then the chunk before it goes
on, and of the new one those first targets are skipped. The first is waited for: the scene stands still.
Shapes: T periods, A dims of the world's action space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
        if self.delay and len(chunk_TA) < self.execute + self.delay:
            raise UsageError(
                f"a chunk is {len(chunk_TA)} periods: it ends before the next one is there, which is asked "
                f"for after {self.execute} and comes {self.delay} later",
                hint="execute fewer steps of each, or train a policy of a longer horizon",
            )
        last_TA, self._last_TA = self._last_TA, chunk_TA
        self.executed = min(self.execute, len(chunk_TA))
        if last_TA is None:
            return chunk_TA[: self.execute]
        held_TA = last_TA[self.execute : self.execute + self.delay]
        return np.concatenate((held_TA, chunk_TA[self.delay : self.execute]))
