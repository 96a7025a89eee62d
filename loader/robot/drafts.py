"""All of a sample but its pixels: what the batches of a loader and exported windows are both made of.

Legend: n rows of one source, B rows of a batch, m those that a shard lost, H history, S state dims, A action
dims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.catalog.robot.tables import flag_named
from robot_foundry.catalog.robot.unions import Unions, unions_of
from robot_foundry.loader.robot.batch import Batch, allocate, fill_state
from robot_foundry.loader.robot.row_images import RowImages
from robot_foundry.loader.robot.source import OpenShard, OpenShards, WindowSource
from robot_foundry.loader.share import Samples
from robot_foundry.loader.substituted import Damage, twice
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.shards.errors import CorruptData
from robot_foundry.windows.chunk_statistics import represented_union
from robot_foundry.windows.chunks import Anchors, Frames, Window, WindowPlan, encode_actions, windows
from robot_foundry.windows.window import WindowSpec


@dataclass
class Draft:
    """Rows in the making: all but their pixels, what images they need, and which met corruption.

    `images` and `failed` are by row; `own_images` are those of rows that are to show another's.
    """

    batch: Batch
    instruction: list[str]
    images: dict[int, RowImages] = field(default_factory=dict)
    failed: dict[int, Damage] = field(default_factory=dict)
    own_images: dict[int, RowImages] = field(default_factory=dict)

    def part(self, rows: range, step: int, image_sizes: Mapping[str, tuple[int, int]]) -> Draft:
        """Some of the rows as a draft of their own, with room for the pixels."""
        return Draft(
            self.batch.rows(slice(rows.start, rows.stop)).copied(step, image_sizes),
            self.instruction[rows.start : rows.stop],
            {row - rows.start: self.images[row] for row in rows if row in self.images},
            {row - rows.start: self.failed[row] for row in rows if row in self.failed},
            {row - rows.start: self.own_images[row] for row in rows if row in self.own_images},
        )


class Drafts:
    """The samples of an opened mixture under a window, over its unions.

    spaces       (state, action): the unions that the dims are named by
    embodiments  what `Batch.embodiment_B` numbers
    sources      one for each component, numbered as in the mixture
    horizon, history  of a batch: the most steps that any component has
    """

    def __init__(self, opened: OpenMixture, spec: WindowSpec, *, seed: int) -> None:
        """FoundryError where a component cannot give what the window asks for."""
        self.spec, self._seed = spec, seed
        self.unions: Unions = unions_of(opened)
        self.unions.check_stream(spec.stream)
        self._shards = OpenShards()
        self.sources = [WindowSource(part, i, spec, self._shards) for i, part in enumerate(opened.parts)]
        schemas = self.unions.schemas
        self.spaces: tuple[ActionSpace, ActionSpace] = (
            self.unions.state,
            represented_union(schemas, spec.stream, spec.representation),
        )
        self.embodiments = tuple(sorted({schema.embodiment for schema in schemas.values()}))
        self.horizon = max(source.steps.horizon for source in self.sources)
        self.history = max(source.steps.history for source in self.sources)
        self.plans = [self._plan(source) for source in self.sources]
        self.dims_at = [
            (
                source.state_space.indices_in(self.spaces[0], source.schema.embodiment),
                source.action_space.indices_in(self.spaces[1], source.schema.embodiment),
            )
            for source in self.sources
        ]

    def draft(self, samples: Samples) -> Draft:
        """All but the images of these samples, of step 0."""
        batch = allocate(
            0,
            samples.k_B,
            samples.dataset_B,
            history=self.history,
            horizon=self.horizon,
            state_dims=len(self.spaces[0]),
            action_dims=len(self.spaces[1]),
            images={},
        )
        draft = Draft(batch, [""] * len(batch))
        self.fill(draft, np.arange(len(batch)), samples.sample_B)
        return draft

    def fill(self, draft: Draft, row_n: NDArray[np.intp], sample_n: NDArray[np.int64]) -> None:
        """Write all but the pixels of the rows `row_n`."""
        dataset_n = draft.batch.dataset_B[row_n]
        for number in np.unique(dataset_n):
            of_source = dataset_n == number
            self._fill_source(draft, self.sources[number], row_n[of_source], sample_n[of_source])

    def texts(self, samples: Samples) -> list[set[str]]:
        """All texts of each of these samples, of which its instruction is one."""
        texts: list[set[str]] = [set()] * len(samples.k_B)
        for number in np.unique(samples.dataset_B):
            row_n = np.flatnonzero(samples.dataset_B == number)
            source = self.sources[number]
            found = source.instructions(source.anchors(samples.sample_B[row_n]))
            for row, of_row in zip(row_n.tolist(), found, strict=True):
                texts[row] = set(of_row)
        return texts

    def close(self) -> None:
        """Let go of the files."""
        self._shards.close()

    def open_shards(
        self, source: WindowSource, anchors: Anchors
    ) -> tuple[dict[int, OpenShard], dict[int, Damage]]:
        """The shards of the anchors by ordinal, and the damage of those that are corrupt."""
        shards: dict[int, OpenShard] = {}
        lost: dict[int, Damage] = {}
        for ordinal in np.unique(anchors.shard_n).tolist():
            try:
                shards[ordinal] = twice(partial(source.shard, ordinal))
            except CorruptData as error:
                lost[ordinal] = Damage(source.tar_path(ordinal), None, str(error))
        return shards, lost

    def _plan(self, source: WindowSource) -> WindowPlan:
        return WindowPlan(
            source.state_space,
            source.target_space,
            self.spec.representation,
            source.steps,
            self.horizon,
            self.history,
            flag_named(*self.spec.masked),
        )

    def _fill_source(
        self, draft: Draft, source: WindowSource, row_n: NDArray[np.intp], sample_n: NDArray[np.int64]
    ) -> None:
        batch, anchors = draft.batch, source.anchors(sample_n)
        shards, lost = self.open_shards(source, anchors)
        for ordinal, damage in lost.items():
            lost_m = row_n[anchors.shard_n == ordinal]
            draft.failed.update(dict.fromkeys(lost_m.tolist(), damage))
        if not shards:
            return
        frames: dict[int, Frames] = {ordinal: shard.frames for ordinal, shard in shards.items()}
        window = windows(anchors, frames, self.plans[source.number])
        self._scatter(batch, source.number, row_n, window)
        batch.embodiment_B[row_n] = self.embodiments.index(source.schema.embodiment)
        batch.dt_B[row_n] = source.dt(anchors)
        batch.weight_B[row_n] = self.spec.weights(window.flags_n)
        texts = source.instruction(anchors, batch.k_B[row_n], self._seed)
        needs = zip(row_n.tolist(), texts, anchors.shard_n.tolist(), window.row_nH, strict=True)
        for row, text, ordinal, row_H in needs:
            draft.instruction[row] = text
            if ordinal in shards:
                draft.images[row] = RowImages(shards[ordinal], row_H)

    def _scatter(self, batch: Batch, number: int, row_n: NDArray[np.intp], window: Window) -> None:
        state_at_S, action_at_A = self.dims_at[number]
        fill_state(batch, row_n, state_at_S, window.state_nHS, window.state_mask_nS)
        action_nTA, batch.step_mask_BT[row_n] = encode_actions(window, self.plans[number])
        steps_T1 = np.arange(action_nTA.shape[1])[:, None]
        batch.action_BTA[row_n[:, None, None], steps_T1, action_at_A] = action_nTA
        batch.action_dim_mask_BA[row_n[:, None], action_at_A] = True
