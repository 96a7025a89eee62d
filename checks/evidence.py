"""What the checks know of some episodes: sums, extremes and the worst examples, mergeable in any order.

Evidence is measured episode by episode (measures.py) and judged once for a dataset (rules.py). Like digests
it is kept a leaf (a shard), and anything larger is one flat `merge_all` over leaves: sums are exact (fsum),
so the bits do not depend on workers or order.

Shape suffixes: N = frames of an episode, D = dims.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.normalization.space import ActionSpace

Array = NDArray[np.float64]
# Examples kept of each measure: enough to look at, and leaves stay small.
EXAMPLES = 5


@dataclass(frozen=True)
class Column:
    """`values_ND` of the state or of an action stream; rows where `valid_N` is False hold nothing."""

    values_ND: NDArray[np.floating]
    valid_N: NDArray[np.bool_]
    space: ActionSpace

    def parts(self, quantity: str) -> list[str]:
        """The parts that have the quantity."""
        return sorted(self._places.get(quantity, ()))

    def of(self, part: str, quantity: str) -> Array:
        """The quantity of a part, float64 [N, d], NaN in invalid rows; [N, 0] where there is none."""
        return self._known_ND[:, self._places.get(quantity, {}).get(part, [])]

    def dims(self, names: Sequence[str]) -> Array:
        """The dims of these names, float64 [N, d], NaN in invalid rows."""
        return self._known_ND[:, [self.space.index(name) for name in names]]

    def dim(self, name: str) -> Array:
        """One dim, float64 [N], NaN in invalid rows."""
        return self._known_ND[:, self.space.index(name)].copy()

    @cached_property
    def _known_ND(self) -> Array:
        values_ND = self.values_ND.astype(np.float64)
        values_ND[~self.valid_N] = np.nan
        return values_ND

    @cached_property
    def _places(self) -> Mapping[str, Mapping[str, list[int]]]:
        """Where the dims of a quantity and part are."""
        places: dict[str, dict[str, list[int]]] = {}
        for place, dim in enumerate(self.space):
            places.setdefault(dim.quantity, {}).setdefault(dim.part, []).append(place)
        return places


@dataclass(frozen=True)
class EpisodeRows:
    """The canonical rows of one episode.

    `columns` are `state` and `action.<stream>`; row t of a stream holds the target for step t, which the
    state of row t + 1 should have reached. `images` maps cameras to a fingerprint of each frame's encoded
    image (equal where the bytes are equal), -1 where there is none. `timestamp_N` is in s, `fps` in Hz.
    """

    key: str
    fps: float
    timestamp_N: Array
    columns: Mapping[str, Column]
    images: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


@dataclass(frozen=True)
class Tally:
    """One measure of some episodes; what the sums are of, the measure says.

    `episodes` counts those that look wrong by themselves, and `worst` names some: (how bad, episode key),
    worst first. `low` and `high` are extremes over all episodes (inf and -inf when there are none).
    """

    sums: tuple[float, ...] = ()
    low: float = math.inf
    high: float = -math.inf
    episodes: int = 0
    worst: tuple[tuple[float, str], ...] = ()

    @classmethod
    def of(
        cls,
        sums: Any = (),
        *,
        low: float = math.inf,
        high: float = -math.inf,
        wrong: float | None = None,
        key: str = "",
    ) -> Tally:
        """The tally of one episode. `sums` is any sequence of numbers; `wrong` says how wrong it looks by
        itself, None that it does not."""
        worst = () if wrong is None else ((float(wrong), key),)
        return cls(tuple(float(value) for value in sums), float(low), float(high), len(worst), worst)

    @classmethod
    def merge_all(cls, tallies: Sequence[Tally]) -> Tally:
        examples = (example for tally in tallies for example in tally.worst)
        return cls(
            tuple(math.fsum(column) for column in zip(*(tally.sums for tally in tallies), strict=True)),
            min(tally.low for tally in tallies),
            max(tally.high for tally in tallies),
            sum(tally.episodes for tally in tallies),
            tuple(sorted(examples, key=lambda item: (-item[0], item[1]))[:EXAMPLES]),
        )

    def to_json(self) -> list[Any]:
        extremes = [value if math.isfinite(value) else None for value in (self.low, self.high)]
        return [list(self.sums), *extremes, self.episodes, [list(example) for example in self.worst]]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Tally:
        sums, low, high, episodes, worst = data
        return cls(
            tuple(float(value) for value in sums),
            math.inf if low is None else float(low),
            -math.inf if high is None else float(high),
            int(episodes),
            tuple((float(value), str(key)) for value, key in worst),
        )


@dataclass(frozen=True)
class Evidence:
    """Tallies by (measure, column, target), where the target is a part, a quantity or a dim."""

    episodes: int
    tallies: Mapping[tuple[str, str, str], Tally]

    @classmethod
    def merge_all(cls, leaves: Iterable[Evidence]) -> Evidence:
        """All leaves as one, bit for bit the same whatever their order."""
        episodes, by_key = 0, defaultdict(list)
        for leaf in leaves:
            episodes += leaf.episodes
            for key, tally in leaf.tallies.items():
                by_key[key].append(tally)
        return cls(episodes, {key: Tally.merge_all(by_key[key]) for key in sorted(by_key)})

    def of(self, measure: str) -> list[tuple[str, str, Tally]]:
        """(column, target, tally) of one measure, sorted."""
        return [(column, target, t) for (name, column, target), t in self.tallies.items() if name == measure]

    def to_json(self) -> dict[str, Any]:
        tallies = {"|".join(key): tally.to_json() for key, tally in self.tallies.items()}
        return {"episodes": self.episodes, "tallies": tallies}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evidence:
        tallies = {}
        for joined, tally in data["tallies"].items():
            measure, column, target = joined.split("|")
            tallies[measure, column, target] = Tally.from_json(tally)
        return cls(int(data["episodes"]), tallies)


def extremes(values: Array) -> tuple[float, float]:
    """Least and greatest of the values; (inf, -inf) when there are none."""
    return (float(values.min()), float(values.max())) if len(values) else (math.inf, -math.inf)
