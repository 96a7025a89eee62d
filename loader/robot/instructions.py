"""The instruction of an anchor frame, from the annotations of its episode.

Legend: n anchors, m annotations of their episodes, E episodes, M annotations.
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
        notes = _by_episode(notes, episode_keys)
        self._start_M, self._end_M = notes["start"].to_numpy(), notes["end"].to_numpy()
        text_M = notes["text"].combine_chunks().dictionary_encode()
        self._texts, self._text_M = text_M.dictionary, text_M.indices.to_numpy()
        bounds = np.arange(len(episode_keys) + 1)
        self._first_E1 = np.searchsorted(notes["episode"].to_numpy(), bounds)

    def at(
        self, episode_n: NDArray[np.int64], frame_n: NDArray[np.int64], k_n: NDArray[np.int64], seed: int
    ) -> list[str]:
        """The text of each anchor: one that covers its frame, chosen by (seed, k); '' if none does."""
        first_n = self._first_E1[episode_n]
        count_n = self._first_E1[episode_n + 1] - first_n
        # The annotations of all anchors, one anchor after the other; then those of them that cover its frame.
        anchor_m = np.repeat(np.arange(len(count_n)), count_n)
        note_m = np.arange(len(anchor_m)) + np.repeat(first_n - (np.cumsum(count_n) - count_n), count_n)
        frame_m = frame_n[anchor_m]
        covers_m = (self._start_M[note_m] <= frame_m) & (frame_m < self._end_M[note_m])
        note_m = note_m[covers_m]
        count_n = np.bincount(anchor_m[covers_m], minlength=len(count_n))
        place_n = (uniform(key("instruction", seed), k_n) * count_n).astype(np.int64)
        place_n += np.cumsum(count_n) - count_n
        text_n = np.full(len(count_n), -1)
        text_n[count_n > 0] = self._text_M[note_m[place_n[count_n > 0]]]
        texts = self._texts.take(pa.array(text_n, mask=text_n < 0)).to_pylist()
        return [text or "" for text in texts]


def _by_episode(notes: pa.Table, episode_keys: pa.ChunkedArray) -> pa.Table:
    """The annotations with the number of their `episode`, sorted by it, start and text."""
    kept = notes.select(["start", "end", "text"])
    # One for each, in their order, as most datasets have it: to look up and sort millions takes seconds.
    if notes["key"].equals(episode_keys):
        return kept.append_column("episode", pa.array(np.arange(len(notes), dtype=np.int32)))
    episode_M = pc.index_in(notes["key"], episode_keys.combine_chunks())
    kept = kept.append_column("episode", episode_M).filter(pc.is_valid(episode_M))
    return kept.sort_by([("episode", "ascending"), ("start", "ascending"), ("text", "ascending")])
