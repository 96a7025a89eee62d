"""Rows of a scorecard: one figure with its interval, beside its controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

Interval = tuple[float, float]
SHARE = "share"  # the unit of a figure from 0 to 1
# What is compared, where a control is beaten or not.
GAIN = "the 95 % interval of the difference, measured on the same, is above 0"
APART = "the 95 % intervals lie apart"
ABOVE = "the 95 % interval lies beyond it"
BARE = "the figure itself, which has no interval"


@dataclass(frozen=True)
class Control:
    """What the figure is without something that it should need. `basis` is how it was compared.

    `is_beaten` is None where the two cannot be compared; `basis` says why, then. `gain` is the interval of
    how much better the figure is, where that was measured on the same, and `difference` the gain itself.
    """

    name: str
    value: float | None
    interval: Interval | None
    is_beaten: bool | None
    basis: str
    gain: Interval | None = None
    difference: float | None = None


@dataclass(frozen=True)
class Row:
    """A figure: `number` is of what it is the mean (200 scenes), `unit` is SHARE or what stands behind it.

    `stale` says of which other checkpoint it is, where it is of another than the one that is asked about.
    """

    what: str
    number: str
    unit: str
    value: float | None
    interval: Interval | None
    controls: tuple[Control, ...]
    source: str
    stale: str | None = None

    @property
    def beats(self) -> bool | None:
        """Whether all controls are beaten; None where one cannot be compared, or there is none."""
        judged = [control.is_beaten for control in self.controls]
        if self.stale is not None or not judged:
            return None
        return False if False in judged else None if None in judged else True

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"beats": self.beats}


def verdict(rows: Sequence[Row]) -> bool | None:
    """That of a stage: True where all rows of this checkpoint beat all controls, False where one does not."""
    judged = [row.beats for row in rows if row.stale is None]
    if not judged:
        return None
    return False if False in judged else None if None in judged else True


def by_gain(
    name: str,
    value: float | None,
    interval: Interval | None,
    gain: Sequence[float] | None,
    difference: float | None = None,
) -> Control:
    """A control that was measured on the same: `gain` is the interval of how much better the figure is."""
    if gain is None:
        return Control(name, value, interval, None, "too little was measured for an interval")
    return Control(name, value, interval, gain[0] > 0, GAIN, pair(gain), difference)


def by_interval(name: str, value: float, control: Interval, own: Interval) -> Control:
    """A control with an interval of its own, where more is better."""
    return Control(name, value, control, own[0] > control[1], APART)


def by_value(name: str, value: float, own: Interval) -> Control:
    """A control that is a known number, where more is better."""
    return Control(name, value, None, own[0] > value, ABOVE)


def pair(interval: Sequence[float] | None) -> Interval | None:
    """An interval as reports have it."""
    return None if interval is None else (float(interval[0]), float(interval[1]))
