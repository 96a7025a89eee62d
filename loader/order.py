"""The order of samples: what stands at position k, a pure function of (mixture, seed, k).

Position k belongs to optimiser step k // global_batch and to lane k mod lanes. docs/order.md states the
algorithm in full. In short: `Interleave` gives the dataset and its ordinal j; j // count is the epoch,
which holds every sample exactly once; a small dataset permutes its epoch as one; any other cuts the epoch
into blocks and deals each block's ordinals to lanes, a contiguous chunk a lane, so that neighbouring lanes
walk through whole spans of neighbouring samples however the lanes are shared between ranks.

Legend: n positions (m, w: some of them), D components, q ordinals of a block, C lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_foundry.catalog.components import Component, Mixture
from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.loader.interleave import MAX_POSITION, Interleave
from robot_foundry.loader.permutation import permute
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.keyed import key, mix64

ORDER_VERSION = 1
# A lane's chunk is shuffled whole: large enough that the frames of an episode rarely meet in a batch, and
# small enough that the tables of a block, lanes · span · 16 numbers, are nothing beside what is read of it.
SPANS_PER_CHUNK = 16
MAX_LANES = 2**16

_EPOCH, _ROTATION, _SPAN, _BLOCK, _CHUNK = (
    key("order", ORDER_VERSION, use) for use in ("epoch", "rotation", "span", "block", "chunk")
)


@dataclass(frozen=True)
class _Block:
    """How one block is dealt: `slot_q` is each ordinal's rank by (lane, ordinal); lane c holds the slots
    from `chunk_C1[c]` to `chunk_C1[c + 1]`."""

    slot_q: NDArray[np.int32]
    chunk_C1: NDArray[np.int64]


class Order:
    """The endless sequence of samples of a mixture.

    `counts` are the samples of each component, where the settings of a sample decide how many there are; else
    those that it selects. Beside them only names, version ids and weights of the components, lanes and span
    are used. The weights' common denominator may reach 2^32, positions 2^42; more is refused with
    FoundryError.
    """

    def __init__(
        self, mixture: Mixture | OpenMixture, *, seed: int, counts: Sequence[int] | None = None
    ) -> None:
        mixture = mixture if isinstance(mixture, Mixture) else mixture.mixture
        components = mixture.components
        self._size_D = np.array(mixture.counts if counts is None else counts, np.int64)
        largest = int(self._size_D.max())
        # Places times blocks must fit 64 bits.
        if largest**2 > 2**62 * mixture.lanes * mixture.span or mixture.lanes > MAX_LANES:
            raise FoundryError(
                f"an order of {largest} samples over {mixture.lanes} lanes in spans of {mixture.span} "
                "is too large"
            )
        self._lanes, self._span = mixture.lanes, mixture.span
        self._interleave = Interleave([component.fraction for component in components])
        self._num_blocks_D = -(-self._size_D // (mixture.lanes * mixture.span * SPANS_PER_CHUNK))
        self._key_D = np.array([_component_key(component, seed) for component in components], np.uint64)
        self._block = lru_cache(maxsize=4 * len(components))(self._deal)

    def at(self, k: ArrayLike) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        """Component number, epoch and sample (0 … count - 1) of the positions k [n], each [n]."""
        k_n = np.asarray(k, np.int64)
        if k_n.ndim != 1:
            raise FoundryError(f"positions must be one-dimensional, got shape {k_n.shape}")
        if k_n.size and (k_n.min() < 0 or k_n.max() >= MAX_POSITION):
            raise FoundryError(f"positions of an order lie in 0 … 2^42 - 1, got {k_n.min()} … {k_n.max()}")
        dataset_n, ordinal_n = self._interleave.at(k_n)
        size_n = self._size_D[dataset_n]
        epoch_n, sample_n = np.divmod(ordinal_n, size_n)
        # Distinct for every epoch of a component, hence distinct after the mixer, which is a bijection.
        key_n = self._key_D[dataset_n] ^ epoch_n.astype(np.uint64)
        # Too few samples for a span in each lane: nothing would be read near-sequentially, so all are mixed.
        small_n = size_n < self._lanes * self._span
        if small_n.any():
            sample_n[small_n] = permute(sample_n[small_n], size_n[small_n], mix64(key_n[small_n], _EPOCH))
        if not small_n.all():
            m = ~small_n
            place_m = self._dealt(dataset_n[m], epoch_n[m], sample_n[m], k_n[m] % self._lanes, key_n[m])
            sample_n[m] = self._spread(place_m, size_n[m], key_n[m])
        return dataset_n, epoch_n, sample_n

    def _spread(
        self, place_n: NDArray[np.int64], size_n: NDArray[np.int64], key_n: NDArray[np.uint64]
    ) -> NDArray[np.int64]:
        """Samples at the places of an epoch whose spans of neighbouring samples are permuted."""
        num_full_n = size_n // self._span
        slot_n, within_n = np.divmod(place_n, self._span)
        # The short span at the end of an epoch, if any, stays there. Each epoch rotates the samples under the
        # grid of spans, so that the borders and the short span fall elsewhere.
        w = slot_n < num_full_n
        slot_n[w] = permute(slot_n[w], num_full_n[w], mix64(key_n[w], _SPAN))
        rotation_n = (mix64(key_n, _ROTATION) % size_n.astype(np.uint64)).astype(np.int64)
        return (slot_n * self._span + within_n + rotation_n) % size_n

    def _dealt(
        self,
        dataset_n: NDArray[np.int32],
        epoch_n: NDArray[np.int64],
        place_n: NDArray[np.int64],
        lane_n: NDArray[np.int64],
        key_n: NDArray[np.uint64],
    ) -> NDArray[np.int64]:
        """Places after each block of an epoch was dealt to the lanes and each lane's chunk was shuffled."""
        size_n, num_blocks_n = self._size_D[dataset_n], self._num_blocks_D[dataset_n]
        # Block b begins at b · size // blocks: blocks differ by one place at most, and none is a short rest.
        # This is the last b that begins at or before a place.
        block_n = ((place_n + 1) * num_blocks_n - 1) // size_n
        first_n = block_n * size_n // num_blocks_n
        slot_n, chunk_n, length_n = (np.empty_like(place_n) for _ in range(3))
        for i in np.unique(dataset_n):
            of_i = np.nonzero(dataset_n == i)[0]
            which_m = epoch_n[of_i] * num_blocks_n[of_i] + block_n[of_i]
            for which in np.unique(which_m):
                rows = of_i[which_m == which]
                dealt = self._block(int(i), int(which))
                slot_n[rows] = dealt.slot_q[place_n[rows] - first_n[rows]]
                chunk_n[rows] = dealt.chunk_C1[lane_n[rows]]
                length_n[rows] = dealt.chunk_C1[lane_n[rows] + 1] - chunk_n[rows]
        # Shuffled by a key of the chunk's own, so that no two chunks of an epoch are in step.
        which_chunk_n = (block_n * self._lanes + lane_n).astype(np.uint64)
        chunk_key_n = mix64(mix64(key_n, _BLOCK) ^ which_chunk_n, _CHUNK)
        return first_n + chunk_n + permute(slot_n - chunk_n, length_n, chunk_key_n)

    def _deal(self, i: int, which: int) -> _Block:
        """Deal block `which` (counted through all epochs) of component i to the lanes of its positions."""
        size, num_blocks = int(self._size_D[i]), int(self._num_blocks_D[i])
        epoch, block = divmod(which, num_blocks)
        first, end = (epoch * size + b * size // num_blocks for b in (block, block + 1))
        k_q = self._interleave.positions(i, np.arange(first, end, dtype=np.int64))
        # A rank owns neighbouring lanes. Their slots lie one after the other, so that what it draws of a
        # block is one stretch, whose spans it alone reads (but for those at its ends), for every number of
        # ranks.
        lane_q = (k_q % self._lanes).astype(np.uint16)
        slot_q = np.empty(lane_q.size, np.int32)
        slot_q[np.argsort(lane_q, kind="stable")] = np.arange(lane_q.size, dtype=np.int32)
        chunk_C1 = np.zeros(self._lanes + 1, np.int64)
        np.cumsum(np.bincount(lane_q, minlength=self._lanes), out=chunk_C1[1:])
        return _Block(slot_q, chunk_C1)


def _component_key(component: Component, seed: int) -> int:
    return key("order", ORDER_VERSION, seed, component.name, component.version_id)
