"""Fills batches: low-dim windows from the mapped tables, images decoded by threads straight into the batch.

Only proven corruption (checksum, decoder) is replaced, by another sample of the same dataset that depends on
(seed, k, attempt) alone; every other error is raised.

Legend: B rows of a batch, n rows of one source, H history, S state dims, A action dims.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from robot_foundry.loader.batch import Batch, allocate
from robot_foundry.loader.source import OpenShard, Source
from robot_foundry.loader.window import Window, WindowSpec, encode_actions
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.keyed import key, uniform
from robot_foundry.shards.errors import CorruptData
from robot_foundry.shards.images import decode, probe
from robot_foundry.shards.reader import ShardReader

T = TypeVar("T")
MAX_ATTEMPTS = 16
_CHUNKS_PER_THREAD = 4  # enough that threads end together, few enough that handing out costs nothing


@dataclass(frozen=True)
class Substitution:
    """Position k holds `substitute` in place of the corrupt `sample` of component `dataset`."""

    k: int
    dataset: str
    sample: int
    substitute: int
    reason: str


@dataclass(frozen=True)
class _RowImages:
    """The images of batch row `row`: those of the table rows `row_H` of the shard."""

    row: int
    shard: OpenShard
    row_H: NDArray[np.int64]


@dataclass
class _Draft:
    """A batch in the making, and the rows of it that met corruption."""

    batch: Batch
    instruction: list[str]
    failed: dict[int, CorruptData]


class Reader:
    """Reads samples of `sources`, numbered as in the mixture, over the union spaces `state` and `action`.

    `image_sizes` are (height, width) by role; `embodiment_D` numbers the embodiment of each source. Threads
    change nothing but the time it takes; 0 decodes in the caller's thread.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        spec: WindowSpec,
        state: ActionSpace,
        action: ActionSpace,
        image_sizes: Mapping[str, tuple[int, int]],
        embodiment_D: Sequence[int],
        *,
        seed: int,
        threads: int,
    ) -> None:
        self._sources, self._spec, self._seed, self._threads = sources, spec, seed, threads
        self._state, self._action = state, action
        self._image_sizes, self._embodiment_D = image_sizes, embodiment_D
        self._at = [
            (
                source.state_space.indices_in(state, source.schema.embodiment),
                source.action_space.indices_in(action, source.schema.embodiment),
            )
            for source in sources
        ]
        self._pool = ThreadPoolExecutor(threads, "decode") if threads else None

    def read(
        self, step: int, k_B: NDArray[np.int64], dataset_B: NDArray[np.int32], sample_B: NDArray[np.int64]
    ) -> tuple[Batch, list[Substitution]]:
        """The batch of these samples, and what had to be substituted in it."""
        batch = allocate(
            step,
            k_B,
            dataset_B,
            history=self._spec.history,
            horizon=self._spec.horizon,
            state_dims=len(self._state),
            action_dims=len(self._action),
            images=self._image_sizes,
        )
        draft = _Draft(batch, [""] * len(batch), {})
        self._decode(draft, self._fill(draft, np.arange(len(batch)), sample_B))
        substitutions = [self._substitute(draft, row, int(sample_B[row])) for row in sorted(draft.failed)]
        return replace(batch, instruction=tuple(draft.instruction)), substitutions

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _substitute(self, draft: _Draft, row: int, sample: int) -> Substitution:
        reason = draft.failed[row]
        source, k_1 = self._sources[draft.batch.dataset_B[row]], draft.batch.k_B[row : row + 1]
        component = source.component
        for attempt in range(1, MAX_ATTEMPTS + 1):
            chosen = uniform(key("substitute", self._seed, attempt, component.name), k_1)[0]
            substitute = int(chosen * component.num_samples)
            del draft.failed[row]
            self._decode(draft, self._fill(draft, np.array([row]), np.array([substitute])))
            if row not in draft.failed:
                return Substitution(int(k_1[0]), component.name, sample, substitute, str(reason))
        raise FoundryError(
            f"'{component.name}' is corrupt in {MAX_ATTEMPTS} samples drawn in place of sample {sample}; "
            f"the first: {reason}",
            hint="foundry-data validate",
        )

    def _fill(self, draft: _Draft, row_n: NDArray[np.intp], sample_n: NDArray[np.int64]) -> list[_RowImages]:
        """Write all but the images of the batch rows `row_n`; say which images they need."""
        dataset_n = draft.batch.dataset_B[row_n]
        images: list[_RowImages] = []
        for number in np.unique(dataset_n):
            of_source = dataset_n == number
            images += self._fill_source(draft, self._sources[number], row_n[of_source], sample_n[of_source])
        return images

    def _fill_source(
        self, draft: _Draft, source: Source, row_n: NDArray[np.intp], sample_n: NDArray[np.int64]
    ) -> list[_RowImages]:
        batch = draft.batch
        anchors = source.anchors(sample_n)
        batch.embodiment_B[row_n] = self._embodiment_D[source.number]
        batch.dt_B[row_n] = source.dt(anchors)
        texts = source.instruction(anchors, batch.k_B[row_n], self._seed)
        for row, text in zip(row_n, texts, strict=True):
            draft.instruction[row] = text
        filled: list[NDArray[np.intp]] = []
        parts: list[Window] = []
        images: list[_RowImages] = []
        for ordinal in np.unique(anchors.shard_n):
            (here,) = np.nonzero(anchors.shard_n == ordinal)
            try:
                shard = _twice(partial(source.shard, int(ordinal)))
            except CorruptData as error:
                draft.failed.update(dict.fromkeys(row_n[here].tolist(), error))
                continue
            window = source.windows(shard, anchors, here)
            filled.append(row_n[here])
            parts.append(window)
            images += [
                _RowImages(int(row), shard, row_H)
                for row, row_H in zip(row_n[here], window.row_nH, strict=True)
            ]
        if parts:
            self._scatter(batch, source, np.concatenate(filled), Window.concatenated(parts))
        return images

    def _scatter(self, batch: Batch, source: Source, row_n: NDArray[np.intp], window: Window) -> None:
        state_at_S, action_at_A = self._at[source.number]
        state_nHS = np.where(window.state_mask_nS[:, None, :], window.state_nHS, np.float32(0))
        batch.state_BHD[row_n[:, None, None], np.arange(state_nHS.shape[1])[:, None], state_at_S] = state_nHS
        batch.state_mask_BD[row_n[:, None], state_at_S] = window.state_mask_nS
        action_nTA, batch.step_mask_BT[row_n] = encode_actions(
            window, source.state_space, source.target_space, self._spec.representation
        )
        steps_T1 = np.arange(action_nTA.shape[1])[:, None]
        batch.action_BTA[row_n[:, None, None], steps_T1, action_at_A] = action_nTA
        batch.action_dim_mask_BA[row_n[:, None], action_at_A] = True

    def _decode(self, draft: _Draft, images: list[_RowImages]) -> None:
        """Read the images of rows; those that meet corruption are noted in the draft."""
        if self._pool is None or len(images) < 2:
            draft.failed.update(_read_rows(draft.batch, images))
            return
        size = -(-len(images) // (self._threads * _CHUNKS_PER_THREAD))
        chunks = [images[begin : begin + size] for begin in range(0, len(images), size)]
        for failed in self._pool.map(lambda chunk: _read_rows(draft.batch, chunk), chunks):
            draft.failed.update(failed)


def _twice(call: Callable[[], T]) -> T:
    """`call()`, once more if it met corruption: the first read may have been the fault."""
    try:
        return call()
    except CorruptData:
        return call()


def _read_rows(batch: Batch, images: Sequence[_RowImages]) -> dict[int, CorruptData]:
    failed: dict[int, CorruptData] = {}
    for item in images:
        try:
            for role, pixels_BHhw3 in batch.images.items():
                batch.image_mask[role][item.row] = _read_history(item, role, pixels_BHhw3[item.row])
        except CorruptData as error:
            failed[item.row] = error
    return failed


def _read_history(item: _RowImages, role: str, out_Hhw3: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Write the images of one camera, oldest first, and say which of them exist [H]."""
    member_row_R, reader = item.shard.member_row_R.get(role), item.shard.reader
    if member_row_R is None or reader is None:
        out_Hhw3[...] = 0
        return np.zeros(len(out_Hhw3), np.bool_)
    member_H = member_row_R[item.row_H]
    for h, member in enumerate(member_H):
        if member < 0:
            out_Hhw3[h] = 0
        elif h and member == member_H[h - 1]:
            out_Hhw3[h] = out_Hhw3[h - 1]
        else:
            _twice(partial(_read_image, reader, int(member), out_Hhw3[h]))
    return member_H >= 0


def _read_image(reader: ShardReader, member: int, out_hw3: NDArray[np.uint8]) -> None:
    data = reader.read(member)
    _, height, width = probe(data)
    if (height, width) == out_hw3.shape[:2]:
        decode(data, out=out_hw3)
        return
    from PIL import Image

    resized = Image.fromarray(decode(data)).resize(out_hw3.shape[1::-1], Image.Resampling.BILINEAR)
    out_hw3[...] = np.asarray(resized)
