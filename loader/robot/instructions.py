"""The instruction of an anchor frame, from the annotations of its episode.

Legend: n anchors, E episodes, M annotations, c annotations of the episodes of anchors.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from robot_foundry.runtime.keyed import key, uniform

INSTRUCTION = "instruction"


class Instructions:
    """Annotations of kind 'instruction', by episode; `episode_keys` [E] number the episodes.

    Texts stay in the table, and are read for the anchors that have them.
    """

    def __init__(self, annotations: pa.Table, episode_keys: pa.ChunkedArray) -> None:
        is_instruction = pc.equal(annotations["kind"], INSTRUCTION)
        if not pc.all(is_instruction, skip_nulls=False).as_py():
            annotations = annotations.filter(is_instruction)
        episode_M = _numbers_of(annotations["key"], episode_keys)
        row_M = _ordered(annotations, episode_M)
        if row_M is not None:
            annotations, episode_M = annotations.take(pa.array(row_M)), episode_M[row_M]
        self._start_M = annotations["start"].to_numpy()
        self._end_M = annotations["end"].to_numpy()
        self._text_M = annotations["text"]
        self._first_E1 = np.zeros(len(episode_keys) + 1, np.int64)
        np.cumsum(np.bincount(episode_M, minlength=len(episode_keys)), out=self._first_E1[1:])

    def at(
        self, episode_n: NDArray[np.int64], frame_n: NDArray[np.int64], k_n: NDArray[np.int64], seed: int
    ) -> list[str]:
        """The text of each anchor: one that covers its frame, chosen by (seed, k); '' if none does."""
        choice_n = uniform(key("instruction", seed), k_n)
        row_c, count_n = self._covering(episode_n, frame_n)
        covered_n = np.flatnonzero(count_n)
        place_n = np.cumsum(count_n) - count_n + (choice_n * count_n).astype(np.int64)
        texts = [""] * len(episode_n)
        chosen = self._text_M.take(pa.array(row_c[place_n[covered_n]])).to_pylist()
        for n, text in zip(covered_n.tolist(), chosen, strict=True):
            texts[n] = text or ""
        return texts

    def all_at(self, episode_n: NDArray[np.int64], frame_n: NDArray[np.int64]) -> list[list[str]]:
        """The texts of each anchor, one of which `at` chooses: those that cover its frame, in their order."""
        row_c, count_n = self._covering(episode_n, frame_n)
        texts = [text or "" for text in self._text_M.take(pa.array(row_c)).to_pylist()]
        ends_n = np.cumsum(count_n)
        return [texts[start:end] for start, end in zip(ends_n - count_n, ends_n, strict=True)]

    def _covering(
        self, episode_n: NDArray[np.int64], frame_n: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the annotations that cover the frames of all anchors, one anchor after the other, and how
        many each anchor has [n]."""
        first_n = self._first_E1[episode_n]
        count_n = self._first_E1[episode_n + 1] - first_n
        # All annotations of all anchors, one behind the other: row_c in the table, of anchor anchor_c.
        anchor_c = np.repeat(np.arange(len(episode_n)), count_n)
        row_c = np.arange(len(anchor_c)) + np.repeat(first_n - (np.cumsum(count_n) - count_n), count_n)
        frame_c = frame_n[anchor_c]
        covers_c = (self._start_M[row_c] <= frame_c) & (frame_c < self._end_M[row_c])
        return row_c[covers_c], np.bincount(anchor_c[covers_c], minlength=len(episode_n))


def _numbers_of(keys_M: pa.ChunkedArray, episode_keys: pa.ChunkedArray) -> NDArray[np.int64]:
    """The number of the episode of each annotation, that of no episode is -1."""
    if keys_M.equals(episode_keys):  # as most datasets are: one annotation each, in the order of episodes
        return np.arange(len(keys_M))
    number_M = pc.fill_null(pc.index_in(keys_M, episode_keys.combine_chunks()), -1)
    numbers: NDArray[np.int64] = number_M.to_numpy().astype(np.int64)
    return numbers


def _ordered(annotations: pa.Table, episode_M: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Rows by episode, start and text, without those of no episode; None where they are that already."""
    start_M = annotations["start"].to_numpy()
    step_M, same_M = np.diff(episode_M), np.diff(start_M) > 0
    if (not len(episode_M) or episode_M[0] >= 0) and ((step_M > 0) | ((step_M == 0) & same_M)).all():
        return None
    table = annotations.select(["start", "text"]).append_column("episode", pa.array(episode_M))
    order = pc.sort_indices(table, [(name, "ascending") for name in ("episode", "start", "text")])
    row_M = order.to_numpy().astype(np.int64)
    return row_M[episode_M[row_M] >= 0]
