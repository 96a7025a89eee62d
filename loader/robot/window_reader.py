"""Fills batches: low-dim windows from the mapped tables, images decoded by threads straight into the batch.

Only proven corruption (checksum, decoder) is replaced, by another sample of the same dataset that depends on
(seed, k, attempt) alone; every other error is raised.

Legend: B rows of a batch, n rows of one source, H history, S state dims, A action dims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.robot.tables import flag_named
from robot_foundry.loader.robot.batch import Batch, allocate, fill_state
from robot_foundry.loader.robot.row_images import RowImages, read_rows
from robot_foundry.loader.robot.source import OpenShard, OpenShards, WindowSource
from robot_foundry.loader.share import Share
from robot_foundry.loader.substituted import Damage, Substitution, all_corrupt, substitutes, twice
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.shards.errors import CorruptData
from robot_foundry.windows.chunks import Window, WindowPlan, encode_actions, windows
from robot_foundry.windows.window import WindowSpec

_DRAFTED_ROWS = 256  # low-dim windows cost least for many rows at once
_CHUNKS_PER_THREAD = 4  # enough that threads end together, few enough that handing out costs nothing


@dataclass
class Draft:
    """Rows in the making: all but their pixels, what images they need, and which met corruption."""

    batch: Batch
    instruction: list[str]
    images: dict[int, RowImages]
    failed: dict[int, Damage]

    def part(self, rows: range, step: int, image_sizes: Mapping[str, tuple[int, int]]) -> Draft:
        """Some of the rows as a draft of their own, with room for the pixels."""
        return Draft(
            self.batch.rows(slice(rows.start, rows.stop)).copied(step, image_sizes),
            self.instruction[rows.start : rows.stop],
            {row - rows.start: self.images[row] for row in rows if row in self.images},
            {row - rows.start: self.failed[row] for row in rows if row in self.failed},
        )


class WindowReader:
    """Reads the batches of a share from `sources`, numbered as in the mixture, over the unions `state` and
    `action`.

    Rows of several steps are drafted together. `image_sizes` are (height, width) by role; `embodiment_D`
    numbers the embodiment of each source. Threads change nothing but the time it takes; 0 decodes in the
    caller's thread.
    """

    def __init__(
        self,
        sources: Sequence[WindowSource],
        shards: OpenShards,
        spec: WindowSpec,
        state: ActionSpace,
        action: ActionSpace,
        image_sizes: Mapping[str, tuple[int, int]],
        embodiment_D: Sequence[int],
        share: Share,
        *,
        seed: int,
        threads: int,
    ) -> None:
        self._sources, self._spec, self._seed, self._threads = sources, spec, seed, threads
        self._shards, self._state, self._action, self._share = shards, state, action, share
        self._image_sizes, self._embodiment_D = image_sizes, embodiment_D
        self._horizon = max(source.steps.horizon for source in sources)
        self._history = max(source.steps.history for source in sources)
        self._plans = [self._plan(source) for source in sources]
        self._at = [
            (
                source.state_space.indices_in(state, source.schema.embodiment),
                source.action_space.indices_in(action, source.schema.embodiment),
            )
            for source in sources
        ]
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
        substitutions = [self._substitute(part, row, int(sample_B[row])) for row in sorted(part.failed)]
        return replace(part.batch, instruction=tuple(part.instruction)), substitutions

    def close(self) -> None:
        """End the threads and let go of the files."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._draft.cache_clear()
        self._shards.close()

    def _draft_steps(self, run: int) -> Draft:
        """All but the images of the steps of a run."""
        first = run * self._steps_per_draft
        parts = [self._share.samples(step) for step in range(first, first + self._steps_per_draft)]
        k_n, dataset_n, sample_n = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        batch = allocate(
            0,
            k_n,
            dataset_n,
            history=self._history,
            horizon=self._horizon,
            state_dims=len(self._state),
            action_dims=len(self._action),
            images={},
        )
        draft = Draft(batch, [""] * len(batch), {}, {})
        self._fill(draft, np.arange(len(batch)), sample_n)
        return draft

    def _plan(self, source: WindowSource) -> WindowPlan:
        return WindowPlan(
            source.state_space,
            source.target_space,
            self._spec.representation,
            source.steps,
            self._horizon,
            self._history,
            flag_named(*self._spec.masked),
        )

    def _substitute(self, draft: Draft, row: int, sample: int) -> Substitution:
        damage = draft.failed[row]
        component = self._sources[draft.batch.dataset_B[row]].component
        k = int(draft.batch.k_B[row])
        for substitute in substitutes(component, self._seed, k):
            del draft.failed[row]
            self._fill(draft, np.array([row]), np.array([substitute]))
            if row not in draft.failed:
                self._decode(draft, [row])
            if row not in draft.failed:
                return Substitution.of(component, k, sample, substitute, damage)
        raise all_corrupt(component, sample, damage.reason)

    def _fill(self, draft: Draft, row_n: NDArray[np.intp], sample_n: NDArray[np.int64]) -> None:
        """Write all but the pixels of the rows `row_n`."""
        dataset_n = draft.batch.dataset_B[row_n]
        for number in np.unique(dataset_n):
            of_source = dataset_n == number
            self._fill_source(draft, self._sources[number], row_n[of_source], sample_n[of_source])

    def _fill_source(
        self, draft: Draft, source: WindowSource, row_n: NDArray[np.intp], sample_n: NDArray[np.int64]
    ) -> None:
        batch, anchors = draft.batch, source.anchors(sample_n)
        shards: dict[int, OpenShard] = {}
        for ordinal in np.unique(anchors.shard_n).tolist():
            try:
                shards[ordinal] = twice(partial(source.shard, ordinal))
            except CorruptData as error:
                lost_m = row_n[anchors.shard_n == ordinal]
                damage = Damage(source.tar_path(ordinal), None, str(error))
                draft.failed.update(dict.fromkeys(lost_m.tolist(), damage))
        if not shards:
            return
        frames = {ordinal: shard.frames for ordinal, shard in shards.items()}
        window = windows(anchors, frames, self._plans[source.number])
        self._scatter(batch, source, row_n, window)
        batch.embodiment_B[row_n] = self._embodiment_D[source.number]
        batch.dt_B[row_n] = source.dt(anchors)
        batch.weight_B[row_n] = self._spec.weights(window.flags_n)
        texts = source.instruction(anchors, batch.k_B[row_n], self._seed)
        needs = zip(row_n.tolist(), texts, anchors.shard_n.tolist(), window.row_nH, strict=True)
        for row, text, ordinal, row_H in needs:
            draft.instruction[row] = text
            if ordinal in shards:
                draft.images[row] = RowImages(shards[ordinal], row_H)

    def _scatter(self, batch: Batch, source: WindowSource, row_n: NDArray[np.intp], window: Window) -> None:
        state_at_S, action_at_A = self._at[source.number]
        fill_state(batch, row_n, state_at_S, window.state_nHS, window.state_mask_nS)
        action_nTA, batch.step_mask_BT[row_n] = encode_actions(window, self._plans[source.number])
        steps_T1 = np.arange(action_nTA.shape[1])[:, None]
        batch.action_BTA[row_n[:, None, None], steps_T1, action_at_A] = action_nTA
        batch.action_dim_mask_BA[row_n[:, None], action_at_A] = True

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
