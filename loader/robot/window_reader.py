"""Fills batches: low-dim windows from the mapped tables, images decoded by threads straight into the batch.

Only proven corruption (checksum, decoder) is replaced, by another sample of the same dataset that depends on
(seed, k, attempt) alone; every other error is raised.

Legend: B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np

from robot_foundry.loader.robot.batch import Batch
from robot_foundry.loader.robot.drafts import Draft, Drafts
from robot_foundry.loader.robot.row_images import read_rows
from robot_foundry.loader.robot.swapped import swap_pictures
from robot_foundry.loader.share import Samples, Share
from robot_foundry.loader.substituted import Substitution, all_corrupt, substitutes

_DRAFTED_ROWS = 256  # low-dim windows cost least for many rows at once
_CHUNKS_PER_THREAD = 4  # enough that threads end together, few enough that handing out costs nothing


class WindowReader:
    """Reads the batches of a share from `drafts`.

    Rows of several steps are drafted together. `image_sizes` are (height, width) by role. Threads change
    nothing but the time it takes; 0 decodes in the caller's thread.
    """

    def __init__(
        self,
        drafts: Drafts,
        image_sizes: Mapping[str, tuple[int, int]],
        share: Share,
        *,
        seed: int,
        threads: int,
    ) -> None:
        self.drafts, self._seed, self._threads = drafts, seed, threads
        self._share, self._image_sizes = share, image_sizes
        self._steps_per_draft = max(1, _DRAFTED_ROWS // len(share))
        self._draft = lru_cache(maxsize=2)(self._draft_steps)
        self._pool = ThreadPoolExecutor(threads, "decode") if threads else None

    def read(self, step: int) -> tuple[Batch, list[Substitution]]:
        """The batch of a step, and what had to be substituted in it."""
        sample_B = self._share.samples(step).sample_B
        first = step % self._steps_per_draft * len(sample_B)
        draft = self._draft(step // self._steps_per_draft)
        part = draft.part(range(first, first + len(sample_B)), step, self._image_sizes)
        self._decode(part, sorted(part.images))
        for row in sorted(part.failed.keys() & part.own_images.keys()):  # another's are corrupt
            del part.failed[row]
            part.images[row] = part.own_images[row]
            self._decode(part, [row])
        substitutions = [self._substitute(part, row, int(sample_B[row])) for row in sorted(part.failed)]
        return replace(part.batch, instruction=tuple(part.instruction)), substitutions

    def close(self) -> None:
        """End the threads and let go of the files."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._draft.cache_clear()
        self.drafts.close()

    def _draft_steps(self, run: int) -> Draft:
        """All but the images of the steps of a run."""
        first = run * self._steps_per_draft
        parts = [self._share.samples(step) for step in range(first, first + self._steps_per_draft)]
        samples = Samples(*(np.concatenate(c) for c in zip(*parts, strict=True)))
        draft = self.drafts.draft(samples)
        swap_pictures(draft, self.drafts, samples.sample_B, self._share, seed=self._seed)
        return draft

    def _substitute(self, draft: Draft, row: int, sample: int) -> Substitution:
        damage = draft.failed[row]
        component = self.drafts.sources[draft.batch.dataset_B[row]].component
        k = int(draft.batch.k_B[row])
        for substitute in substitutes(component, self._seed, k):
            del draft.failed[row]
            self.drafts.fill(draft, np.array([row]), np.array([substitute]))
            if row not in draft.failed:
                self._decode(draft, [row])
            if row not in draft.failed:
                return Substitution.of(component, k, sample, substitute, damage)
        raise all_corrupt(component, sample, damage.reason)

    def _decode(self, draft: Draft, rows: Sequence[int]) -> None:
        """Read the images of rows; those that meet corruption are noted in the draft."""
        if not draft.batch.images:
            return
        if self._pool is None or len(rows) < 2:
            draft.failed.update(read_rows(draft.batch, draft.images, rows))
            return
        size = -(-len(rows) // (self._threads * _CHUNKS_PER_THREAD))
        chunks = [rows[begin : begin + size] for begin in range(0, len(rows), size)]
        for failed in self._pool.map(partial(read_rows, draft.batch, draft.images), chunks):
            draft.failed.update(failed)
