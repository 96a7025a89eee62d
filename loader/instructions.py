"""The instruction of an anchor frame, from the annotations of its episode.

Legend: n anchors, E episodes, M annotations.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from robot_foundry.runtime.keyed import key, uniform

INSTRUCTION = "instruction"


class Instructions:
    """Annotations of kind 'instruction', by episode; `episode_keys` [E] number the episodes."""

    def __init__(self, annotations: pa.Table, episode_keys: pa.ChunkedArray) -> None:
        found = annotations.filter(pc.equal(annotations["kind"], INSTRUCTION))
        episode_M = pc.index_in(found["key"], episode_keys.combine_chunks())
        found = found.append_column("_episode", episode_M).filter(pc.is_valid(episode_M))
        found = found.sort_by([("_episode", "ascending"), ("start", "ascending"), ("text", "ascending")])
        self._start_M, self._end_M = found["start"].to_numpy(), found["end"].to_numpy()
        self._text_M = found["text"]
        num_episodes = len(episode_keys)
        self._first_E1 = np.searchsorted(found["_episode"].to_numpy(), np.arange(num_episodes + 1))

    def at(
        self, episode_n: NDArray[np.int64], frame_n: NDArray[np.int64], k_n: NDArray[np.int64], seed: int
    ) -> list[str]:
        """The text of each anchor: one that covers its frame, chosen by (seed, k); '' if none does."""
        choice_n = uniform(key("instruction", seed), k_n)
        return [
            self._choose(int(episode), int(frame), float(choice))
            for episode, frame, choice in zip(episode_n, frame_n, choice_n, strict=True)
        ]

    def _choose(self, episode: int, frame: int, choice: float) -> str:
        span = slice(self._first_E1[episode], self._first_E1[episode + 1])
        (covering,) = np.nonzero((self._start_M[span] <= frame) & (frame < self._end_M[span]))
        if not covering.size:
            return ""
        return str(self._text_M[int(span.start + covering[int(choice * covering.size)])])
