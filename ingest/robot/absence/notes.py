"""What is found while the tables of an episode are computed, and told once for all episodes of a version.

Legend: N frames, d columns of one quantity.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.checks.finding import listed

Array = NDArray[np.float64]
# Sensors and simulated fingers pass their end stops by a little; so much of the span between limits is more.
OVERSHOOT = 0.05
# Operators of robosuite's devices pass the limits of its controller in a tenth of the frames; a wrong scale
# passes them wherever the arm moves.
WORTH_TELLING = 0.25
MOST_LISTED = 6

_COUNTED = re.compile(r"(\d+) of \d+ episodes: ")


@dataclass
class Beyond:
    """The frames of one quantity with a number beyond its limits, and the range of all its numbers."""

    num_frames: int = 0
    least: float = np.inf
    greatest: float = -np.inf

    def add(self, other: Beyond) -> None:
        self.num_frames += other.num_frames
        self.least, self.greatest = min(self.least, other.least), max(self.greatest, other.greatest)


@dataclass
class Notes:
    """`said` maps a sentence to the number of episodes and an example; `beyond` a quantity to its frames."""

    said: dict[str, tuple[int, str]] = field(default_factory=dict)
    beyond: dict[str, Beyond] = field(default_factory=dict)

    def say(self, sentence: str, example: str = "") -> None:
        """Note of one episode; said again, it counts once."""
        self.said.setdefault(sentence, (1, example))

    def clipped(self, where: str, values_Nd: Array, low: Any, high: Any) -> Array:
        """The values within the limits, NaN where they are no numbers: those must not become a limit."""
        values_Nd = np.where(np.isfinite(values_Nd), values_Nd, np.nan)
        margin = OVERSHOOT * (np.asarray(high) - low)
        beyond_N = ((values_Nd < low - margin) | (values_Nd > high + margin)).any(axis=1)
        if beyond_N.any():
            least, greatest = float(np.nanmin(values_Nd)), float(np.nanmax(values_Nd))
            self.beyond.setdefault(where, Beyond()).add(Beyond(int(beyond_N.sum()), least, greatest))
        return np.clip(values_Nd, low, high)

    def add(self, other: Notes, episode: str = "") -> None:
        """Take over what was noted of further episodes, or of one of that name."""
        for sentence, (count, example) in other.said.items():
            instance = ": ".join(part for part in (episode, example) if part)
            so_far, first = self.said.get(sentence, (0, instance))
            self.said[sentence] = so_far + count, first
        for where, beyond in other.beyond.items():
            self.beyond.setdefault(where, Beyond()).add(beyond)

    def to_json(self) -> dict[str, Any]:
        beyond = {where: [b.num_frames, b.least, b.greatest] for where, b in self.beyond.items()}
        return {
            "said": {sentence: list(counted) for sentence, counted in self.said.items()},
            "beyond": beyond,
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Notes:
        said = {sentence: (int(count), str(example)) for sentence, (count, example) in values["said"].items()}
        return Notes(said, {where: Beyond(*numbers) for where, numbers in values["beyond"].items()})


def of_arrays(told: Sequence[Mapping[str, str]]) -> list[str]:
    """What is told of arrays of each episode, by name: one sentence for those of which it is the same."""
    counts = Counter(item for episode in told for item in episode.items())
    alike: dict[tuple[str, int], list[str]] = {}
    for (name, sentence), count in sorted(counts.items()):
        alike.setdefault((sentence, count), []).append(f"'{name}'")
    return [
        f"{count} of {len(told)} episodes: "
        f"{names[0] if len(names) == 1 else f'each of {listed(names, MOST_LISTED)}'} {sentence}"
        for (sentence, count), names in alike.items()
    ]


def episodes_counted(sentence: str) -> int:
    """Of how many episodes one of the sentences tells; 0 if it counts none."""
    counted = _COUNTED.match(sentence)
    return 0 if counted is None else int(counted[1])


def sentences(notes: Iterable[Notes], num_episodes: int, num_frames: int) -> list[str]:
    """What is worth telling of a version of so many episodes and frames, a sentence each."""
    merged = Notes()
    for each in notes:
        merged.add(each)
    texts = [
        f"{count} of {num_episodes} episodes: {sentence}{f' ({example})' if example else ''}"
        for sentence, (count, example) in sorted(merged.said.items())
    ]
    for where, beyond in sorted(merged.beyond.items()):
        share = beyond.num_frames / max(num_frames, 1)
        if share >= WORTH_TELLING:
            texts.append(
                f"{where}: {share:.0%} of the frames lie beyond the limits to which they are clipped (the "
                f"numbers go from {beyond.least:.3g} to {beyond.greatest:.3g}), as by a wrong scale, clip, "
                "open or closed"
            )
    return texts
