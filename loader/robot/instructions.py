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
        notes = annotations.filter(pc.equal(annotations["kind"], INSTRUCTION))
        episode_M = pc.index_in(notes["key"], episode_keys.combine_chunks())
        notes = notes.append_column("_episode", episode_M).filter(pc.is_valid(episode_M))
        notes = notes.sort_by([("_episode", "ascending"), ("start", "ascending"), ("text", "ascending")])
        # Plain lists: most episodes have one annotation, which numpy would take longer to look at.
        self._start_M, self._end_M = notes["start"].to_pylist(), notes["end"].to_pylist()
        text_M = notes["text"].combine_chunks().dictionary_encode()
        self._texts, self._text_M = text_M.dictionary.to_pylist(), text_M.indices.to_pylist()
        bounds = np.arange(len(episode_keys) + 1)
        self._first_E1 = np.searchsorted(notes["_episode"].to_numpy(), bounds).tolist()

    def at(
        self, episode_n: NDArray[np.int64], frame_n: NDArray[np.int64], k_n: NDArray[np.int64], seed: int
    ) -> list[str]:
        """The text of each anchor: one that covers its frame, chosen by (seed, k); '' if none does."""
        choice_n = uniform(key("instruction", seed), k_n)
        asked = zip(episode_n.tolist(), frame_n.tolist(), choice_n.tolist(), strict=True)
        return [self._choose(*one) for one in asked]

    def _choose(self, episode: int, frame: int, choice: float) -> str:
        span = range(self._first_E1[episode], self._first_E1[episode + 1])
        covering = [m for m in span if self._start_M[m] <= frame < self._end_M[m]]
        return self._texts[self._text_M[covering[int(choice * len(covering))]]] if covering else ""
