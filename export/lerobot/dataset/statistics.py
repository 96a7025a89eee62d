"""Statistics as LeRobot keeps them: of the columns and images of an episode, and of the whole dataset.

Those of the dataset are of all of its rows, not means over episodes as LeRobot's own quantiles are. Of images
a sample of frames is taken, the same that LeRobot takes; channels count from 0 to 1.

Legend: N rows, d numbers of a row, S sampled images, h × w pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.normalization.digest import Digest

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
# How many frames of an episode are looked at, and how large they are then: as LeRobot has it.
_FEWEST, _MOST, _POWER = 100, 10_000, 0.75
_SMALL, _LARGE = 150, 300
_LEVELS = 256
# Rows that one digest is made of.
_BATCH = 1 << 16
Stats = dict[str, Any]  # min, max, mean, std, quantiles and count, as lists


def column_stats(values_Nd: NDArray[Any]) -> Stats:
    """Of the rows of an episode; what is no number is passed over."""
    rows_Nd = np.asarray(values_Nd, np.float64).reshape(len(values_Nd), -1)
    if np.isnan(rows_Nd).all(axis=0).any():
        rows_Nd = np.where(np.isnan(rows_Nd).all(axis=0), 0.0, rows_Nd)
    told: Stats = {
        "min": np.nanmin(rows_Nd, axis=0),
        "max": np.nanmax(rows_Nd, axis=0),
        "mean": np.nanmean(rows_Nd, axis=0),
        "std": np.nanstd(rows_Nd, axis=0),
    }
    told |= dict(zip(QUANTILES, np.nanquantile(rows_Nd, list(QUANTILES.values()), axis=0), strict=True))
    return {**{name: value.tolist() for name, value in told.items()}, "count": [len(rows_Nd)]}


class ColumnTotals:
    """Statistics of a column over all episodes, by t-digests of fixed runs of rows."""

    def __init__(self) -> None:
        self._rows: list[NDArray[np.float64]] = []
        self._held = self._count = 0
        self._digests: list[list[Digest]] = []

    def add(self, values_Nd: NDArray[Any]) -> None:
        """The rows of the next episode."""
        self._rows.append(np.asarray(values_Nd, np.float64).reshape(len(values_Nd), -1))
        self._held += len(values_Nd)
        self._count += len(values_Nd)
        while self._held >= _BATCH:
            rows = np.concatenate(self._rows)
            self._digest(rows[:_BATCH])
            self._rows, self._held = [rows[_BATCH:]], len(rows) - _BATCH

    def stats(self) -> Stats:
        """Of all rows so far."""
        if self._held:
            self._digest(np.concatenate(self._rows))
            self._rows, self._held = [], 0
        dims = [Digest.merge_all(list(parts)) for parts in zip(*self._digests, strict=True)]
        told: Stats = {
            name: [_number(getattr(d, name)) for d in dims] for name in ("min", "max", "mean", "std")
        }
        for name, share in QUANTILES.items():
            told[name] = [_number(d.percentile(100 * share)) for d in dims]
        return {**told, "count": [self._count]}

    def _digest(self, rows_Nd: NDArray[np.float64]) -> None:
        self._digests.append([Digest.of(column_N) for column_N in rows_Nd.T])


def sampled_frames(num_frames: int) -> list[int]:
    """Numbers of the frames of an episode that its statistics are of."""
    wanted = max(_FEWEST, min(int(num_frames**_POWER), _MOST))
    wanted = min(wanted, num_frames)
    return [int(frame) for frame in np.round(np.linspace(0, num_frames - 1, wanted))]


class ImageTotals:
    """How often each level is met in the channels of sampled images. Exact, and sums add up."""

    def __init__(self, counts: NDArray[np.int64] | None = None, num_images: int = 0) -> None:
        self._counts_3L = np.zeros((3, _LEVELS), np.int64) if counts is None else counts
        self.num_images = num_images

    def add(self, rgb_hw3: NDArray[np.uint8]) -> None:
        """One image, of which every few pixels are taken if it is large."""
        height, width = rgb_hw3.shape[:2]
        longer = max(height, width)
        step = longer // _SMALL if longer >= _LARGE else 1
        for channel in range(3):
            levels = rgb_hw3[::step, ::step, channel].reshape(-1)
            self._counts_3L[channel] += np.bincount(levels, minlength=_LEVELS)
        self.num_images += 1

    def merge(self, other: ImageTotals) -> None:
        self._counts_3L = self._counts_3L + other._counts_3L
        self.num_images += other.num_images

    def stats(self) -> Stats:
        """Each of the shape [3, 1, 1], but for the count of images."""
        # In whole numbers, so that they are the same on every machine.
        level_L, top = np.arange(_LEVELS), _LEVELS - 1
        told: dict[str, list[float]] = {name: [] for name in ("min", "max", "mean", "std", *QUANTILES)}
        for counts_L in self._counts_3L:
            total = int(counts_L.sum())
            first, second = int(counts_L @ level_L), int(counts_L @ level_L**2)
            seen, below_L = np.flatnonzero(counts_L), np.cumsum(counts_L)
            told["min"].append(int(seen[0]) / top)
            told["max"].append(int(seen[-1]) / top)
            told["mean"].append(first / (total * top))
            told["std"].append(math.sqrt((second * total - first**2) / (total * top) ** 2))
            for name, share in QUANTILES.items():
                told[name].append(int(np.searchsorted(below_L, share * total)) / top)
        channels = {name: [[[float(v)]] for v in values] for name, values in told.items()}
        return {**channels, "count": [self.num_images]}

    def to_json(self) -> dict[str, Any]:
        return {"counts": self._counts_3L.tolist(), "images": self.num_images}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> ImageTotals:
        return cls(np.array(told["counts"], np.int64).reshape(3, _LEVELS), told["images"])

    @classmethod
    def sum(cls, parts: Iterable[ImageTotals]) -> ImageTotals:
        total = cls()
        for part in parts:
            total.merge(part)
        return total


def _number(value: float | None) -> float:
    """Of a column without any number, 0."""
    return 0.0 if value is None or not np.isfinite(value) else float(value)
