"""The pairs that a model is scored on: those that a mixture selects, each once, whatever its weights.

Legend: n pairs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.opened import OpenMixture, Part
from robot_foundry.catalog.pairs.tables import PAIRS
from robot_foundry.catalog.selection import SelectionSpec
from robot_foundry.loader.pairs.dataset import PairDataset
from robot_foundry.loader.pairs.template import PairText
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.keyed import key, mix64
from robot_foundry.shards.pairs.pair import Pair


class AskedPairs:
    """The selected pairs by number, those of the first component first; with `most` so many of them by lot.

    What is drawn depends on the seed and the number of pairs alone.
    """

    def __init__(self, opened: OpenMixture, *, most: int | None, seed: int) -> None:
        if opened.kind.name != PAIRS:
            raise FoundryError(f"a vision-language model is scored on pairs, not on {opened.kind.samples}")
        self.opened = opened
        self._datasets = [_dataset(opened, part) for part in opened.parts]
        self._ends = list(accumulate(map(len, self._datasets)))
        self._number_n = _drawn(self._ends[-1], most, key("scored-pairs", seed))

    def __len__(self) -> int:
        return len(self._number_n)

    def name(self, n: int) -> str:
        """The component that the pair is of."""
        return self.opened.parts[self._at(n)[0]].name

    def pair(self, n: int) -> Pair:
        """What the pair says; none of its pictures is read."""
        number, i = self._at(n)
        return self._datasets[number].pair(i)

    def pictures(self, n: int) -> list[NDArray[np.uint8]]:
        """Its pictures, uint8 [H, W, 3] in their own sizes."""
        number, i = self._at(n)
        return self._datasets[number].pictures(i)

    def text(self, n: int) -> PairText:
        """What is learnt of the pair: its conversation if it has one, else its captions."""
        pair = self.pair(n)
        return PairText(len(pair.pictures), {} if pair.turns else pair.captions, pair.turns)

    @cached_property
    def content_n(self) -> NDArray[np.uint64]:
        """A hash of the pictures of each pair, or of its texts where it has none."""
        hashes = [
            table["split_hash"].to_numpy()
            for dataset, part in zip(self._datasets, self.opened.parts, strict=True)
            for table in part.opened.group_tables(PAIRS, dataset.selection)
        ]
        return np.concatenate(hashes)[self._number_n]

    @cached_property
    def num_pictures_n(self) -> NDArray[np.int64]:
        return np.array([len(self.pair(n).pictures) for n in range(len(self))], np.int64)

    def to_json(self) -> Mapping[str, Any]:
        """How many pairs of each component are scored, of how many, and which version it is."""
        names = [self.name(n) for n in range(len(self))]
        return {
            part.name: {
                "version": part.component.version,
                "pairs": names.count(part.name),
                "of": len(dataset),
            }
            for part, dataset in zip(self.opened.parts, self._datasets, strict=True)
        }

    def _at(self, n: int) -> tuple[int, int]:
        """The component, and the number in its selection."""
        number = int(self._number_n[n])
        component = bisect_right(self._ends, number)
        return component, number - (self._ends[component - 1] if component else 0)


def _dataset(opened: OpenMixture, part: Part) -> PairDataset:
    spec = SelectionSpec.from_json(part.component.selection)
    return PairDataset(opened.versions, part.opened.version, spec)


def _drawn(count: int, most: int | None, keyed: int) -> NDArray[np.int64]:
    """Numbers below `count`, ascending: all, or the `most` whose keyed hashes are least."""
    if most is None or most >= count:
        return np.arange(count)
    lots = mix64(np.arange(count, dtype=np.uint64), keyed)
    return np.sort(np.argsort(lots, kind="stable")[:most])
