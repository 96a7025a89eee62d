"""Mergeable summaries of one dimension: a t-digest with exact points, moments and counts.

A digest is a sorted list of centroids (value, weight). A centroid that stands for one repeated value is a
*point* and is kept exactly, so constants, grippers of {0, 1} and long runs of zeros come out exact; up to
EXACT_VALUES distinct values nothing is approximated at all. Beyond that `fastdigest` groups neighbours
(merging t-digest of Dunning and Ertl 2019, "Computing Extremely Accurate Quantiles Using t-Digests").
Weights are integers; NaN and infinities are counted apart and enter nothing else.

Merging is defined for leaves: keep one digest a shard and make every summary with one flat merge_all over
the leaves. Its result has the same bits for any order of them. Merges of merges are valid digests, but
their bits depend on how they were grouped.

Accuracy, largest rank error over percentiles 1, 2, 5, 25, 50, 75, 95, 98, 99 of 1e6 values: see
benchmarks/statistics.py, which measures it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from fastdigest import TDigest
from numpy.typing import ArrayLike, NDArray

from robot_foundry.runtime.errors import FoundryError

Array = NDArray[Any]

COMPRESSION = 400  # centroids: 0.01 points of rank error at p1 and p99, at 12 bytes each
EXACT_VALUES = 512  # distinct values that are all kept
_CHUNK = 1 << 20  # values sorted at a time, which bounds the memory of Digest.of
_MAGIC = b"FTD1"
# magic, bytes a weight (4 or 8), centroids, count, NaN, +inf, -inf, mean, M2, min, max
_HEADER = struct.Struct("<4sBIqqqqdddd")


@dataclass(frozen=True, eq=False)
class Digest:
    """The distribution of one dimension. Make it with Digest.of, Digest.merge_all or Digest.from_bytes.

    count       finite values              num_nan, num_posinf, num_neginf     the others
    mean, m2    mean and sum of squared deviations in float64, of the finite values
    min, max    of the finite values; they and the mean are NaN when there are none
    """

    count: int
    num_nan: int
    num_posinf: int
    num_neginf: int
    mean: float
    m2: float
    min: float
    max: float
    values: NDArray[np.float64]
    weights: NDArray[np.int64]
    points: NDArray[np.bool_]

    @classmethod
    def of(cls, values: ArrayLike) -> Digest:
        """The digest of all values of an array of any shape; booleans and integers are welcome."""
        flat = np.asarray(values).ravel()
        chunks = [_of_chunk(flat[start : start + _CHUNK]) for start in range(0, max(flat.size, 1), _CHUNK)]
        return chunks[0] if len(chunks) == 1 else cls.merge_all(chunks)

    @classmethod
    def merge_all(cls, digests: Iterable[Digest]) -> Digest:
        """One digest of all the leaves, bit for bit the same whatever their order."""
        leaves = list(digests)
        filled = [leaf for leaf in leaves if leaf.count]
        if len(filled) == len(leaves) == 1:
            return leaves[0]
        values, weights, points = _centroids(filled)
        mean, m2 = _pooled_moments(filled)
        return cls(
            count=sum(leaf.count for leaf in leaves),
            num_nan=sum(leaf.num_nan for leaf in leaves),
            num_posinf=sum(leaf.num_posinf for leaf in leaves),
            num_neginf=sum(leaf.num_neginf for leaf in leaves),
            mean=mean,
            m2=m2,
            min=min((leaf.min for leaf in filled), default=math.nan),
            max=max((leaf.max for leaf in filled), default=math.nan),
            values=values,
            weights=weights,
            points=points,
        )

    def scaled(self, times: int) -> Digest:
        """As if each finite value had been seen `times` times; the others are counted as before.

        This is how a leaf is given a weight: centroids keep their values and integer weights, so that a
        merge of scaled leaves is as independent of their order as any. Counts must stay below 2^53.
        """
        if times < 1 or self.count * times >= 1 << 53:
            raise FoundryError(f"a digest of {self.count} values cannot be scaled by {times}")
        return replace(self, count=self.count * times, m2=self.m2 * times, weights=self.weights * times)

    @property
    def std(self) -> float:
        """Population standard deviation, NaN when there are no values."""
        return math.sqrt(self.m2 / self.count) if self.count else math.nan

    @property
    def is_exact(self) -> bool:
        """Whether every distinct value is kept, so that percentiles are those of the data."""
        return bool(self.points.all())

    def percentile(self, q: float | Sequence[float] | Array) -> Any:
        """The value below which q percent lie (q in 0…100, scalar or array); NaN when there are no values.

        Interpolates between centroids, never across a point: where a value fills the rank it is returned.
        """
        wanted = np.asarray(q, np.float64)
        if np.any(~((wanted >= 0) & (wanted <= 100))):
            raise FoundryError(f"a percentile lies between 0 and 100, got {q}")
        if not self.count:
            return _like(q, np.full(wanted.shape, np.nan))
        ranks, values = self._knots()
        return _like(q, _interpolate(wanted / 100 * self.count, ranks, values))

    def cdf(self, x: float | Sequence[float] | Array) -> Any:
        """The share of values <= x, 0…1; NaN when there are no values."""
        at = np.asarray(x, np.float64)
        if not self.count:
            return _like(x, np.full(at.shape, np.nan))
        ranks, values = self._knots()
        share = _interpolate(at, values, ranks) / self.count
        return _like(x, np.where(at < self.min, 0.0, np.where(at >= self.max, 1.0, share)))

    def _knots(self) -> tuple[Array, Array]:
        """The cumulative distribution as a line: a point fills its ranks, another marks its middle."""
        above = np.cumsum(self.weights).astype(np.float64)
        below = above - self.weights
        middle = (above + below) / 2
        starts, ends = np.where(self.points, below, middle), np.where(self.points, above, middle)
        ranks = np.concatenate([[0.0], np.stack([starts, ends], axis=1).ravel(), [float(self.count)]])
        return ranks, np.concatenate([[self.min], np.repeat(self.values, 2), [self.max]])

    def to_bytes(self) -> bytes:
        """A versioned, deterministic form: the same digest always has the same bytes."""
        width = 4 if self.count < 1 << 32 else 8
        header = _HEADER.pack(
            *(_MAGIC, width, len(self.values)),
            *(self.count, self.num_nan, self.num_posinf, self.num_neginf),
            *(self.mean, self.m2, self.min, self.max),
        )
        weights = self.weights.astype(f"<u{width}").tobytes()
        return header + self.values.astype("<f8").tobytes() + weights + np.packbits(self.points).tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Digest:
        """The inverse of to_bytes; FoundryError when the bytes are not a digest of this version."""
        if data[:4] != _MAGIC or len(data) < _HEADER.size:
            raise FoundryError("not a digest: the bytes do not start with FTD1 and a whole header")
        _, width, size, count, num_nan, num_posinf, num_neginf, mean, m2, low, high = _HEADER.unpack_from(
            data
        )
        lengths = (8 * size, width * size, (size + 7) // 8)
        if width not in (4, 8) or len(data) != _HEADER.size + sum(lengths):
            raise FoundryError(f"a damaged digest: {len(data)} bytes do not hold {size} centroids")
        values = np.frombuffer(data, "<f8", size, _HEADER.size).astype(np.float64)
        weights = np.frombuffer(data, f"<u{width}", size, _HEADER.size + lengths[0]).astype(np.int64)
        bits = np.frombuffer(data, np.uint8, lengths[2], _HEADER.size + lengths[0] + lengths[1])
        points = np.unpackbits(bits, count=size).astype(bool)
        digest = cls(count, num_nan, num_posinf, num_neginf, mean, m2, low, high, values, weights, points)
        if int(weights.sum()) != digest.count or np.any(weights < 1) or not np.all(np.diff(values) > 0):
            raise FoundryError("a damaged digest: its centroids contradict its count or order")
        return digest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())

    def __repr__(self) -> str:
        return f"Digest(count={self.count}, mean={self.mean:.6g}, min={self.min:.6g}, max={self.max:.6g})"


def _of_chunk(chunk: Array) -> Digest:
    # Adding 0.0 turns -0.0 into 0.0: equal values must have equal bytes.
    given = chunk.astype(np.float64) + 0.0
    finite = given[np.isfinite(given)]
    finite.sort()
    starts = _first_of_equals(finite)
    distinct, counts = finite[starts], np.diff(np.append(starts, finite.size)).astype(np.int64)
    values, weights, points = _compress(distinct, counts, np.ones(len(distinct), bool))
    mean, m2 = _moments(finite)
    return Digest(
        count=finite.size,
        num_nan=int(np.count_nonzero(np.isnan(given))),
        num_posinf=int(np.count_nonzero(given == np.inf)),
        num_neginf=int(np.count_nonzero(given == -np.inf)),
        mean=mean,
        m2=m2,
        min=float(finite[0]) if finite.size else math.nan,
        max=float(finite[-1]) if finite.size else math.nan,
        values=values,
        weights=weights,
        points=points,
    )


def _centroids(digests: Sequence[Digest]) -> tuple[Array, Array, Array]:
    """The centroids of all digests as one: equal values joined, then compressed."""
    if not digests:
        return np.empty(0), np.empty(0, np.int64), np.empty(0, bool)
    values = np.concatenate([digest.values for digest in digests])
    order = np.argsort(values, kind="stable")
    values = values[order]
    starts = _first_of_equals(values)
    # Integer sums and a logical and: what ties in the sort came first leaves no trace.
    weights = np.add.reduceat(np.concatenate([digest.weights for digest in digests])[order], starts)
    points = np.logical_and.reduceat(np.concatenate([digest.points for digest in digests])[order], starts)
    return _compress(values[starts], weights, points)


def _first_of_equals(ordered: Array) -> NDArray[np.intp]:
    if not ordered.size:
        return np.empty(0, np.intp)
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _compress(values: Array, weights: Array, points: Array) -> tuple[Array, Array, Array]:
    """Sorted distinct values with weights -> at most COMPRESSION centroids, or all of a few points."""
    if len(values) <= EXACT_VALUES and points.all():
        return values, weights, points
    # The engine takes arrays for the sequences that it declares; weights of one cost twice as much as none.
    entry_weights = None if weights.max() == 1 else cast(Sequence[float], weights.astype(np.float64))
    engine = TDigest.from_values(cast(Sequence[float], values), entry_weights, COMPRESSION)
    means, grouped = np.array(engine.centroids).T
    # The engine groups neighbours, so the cumulative weights say which entries each centroid stands for.
    # What stands for one entry takes its value, without the rounding of a weighted mean.
    last = np.searchsorted(np.cumsum(weights), np.cumsum(grouped.astype(np.int64)))
    first = np.concatenate([[0], last[:-1] + 1])
    single = first == last
    means = np.where(single, values[first], np.clip(means, values[first], values[last]))
    return means, grouped.astype(np.int64), single & points[first]


def _moments(finite: Array) -> tuple[float, float]:
    """Mean and M2. Deviations from one of the values keep a constant exact and a large offset harmless."""
    if not finite.size:
        return math.nan, 0.0
    deviations = finite - finite[0]
    mean = _sum(deviations) / finite.size
    return float(finite[0]) + mean, _sum((deviations - mean) ** 2)


def _sum(values: Array) -> float:
    """Pairwise by elementwise additions alone: np.sum's order, and so its last bit, varies with the CPU."""
    while values.size > 1:
        half = values.size // 2
        folded = values[:half] + values[half : 2 * half]
        if values.size % 2:
            folded[0] += values[-1]
        values = folded
    return float(values[0])


def _pooled_moments(digests: Sequence[Digest]) -> tuple[float, float]:
    """Mean and M2 of all together (Chan, Golub and LeVeque 1979), with sums that do not depend on order."""
    if not digests:
        return math.nan, 0.0
    count = sum(digest.count for digest in digests)
    reference = min(digest.mean for digest in digests)
    mean = reference + math.fsum(digest.count * (digest.mean - reference) for digest in digests) / count
    between = (digest.count * (digest.mean - mean) ** 2 for digest in digests)
    return mean, math.fsum([*(digest.m2 for digest in digests), *between])


def _interpolate(x: Array, knots: Array, heights: Array) -> Array:
    """Linear interpolation over non-decreasing knots; on a repeated knot the last height counts."""
    j = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, len(knots) - 2)
    width = knots[j + 1] - knots[j]
    share = np.where(width > 0, (x - knots[j]) / np.where(width > 0, width, 1.0), 0.0)
    return np.asarray(heights[j] + np.clip(share, 0.0, 1.0) * (heights[j + 1] - heights[j]))


def _like(asked: Any, values: Array) -> Any:
    return float(values) if np.ndim(asked) == 0 else values
