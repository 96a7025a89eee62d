"""How long windows are: in steps or in seconds, at a dataset's own rate or at one that all are brought to.

A step is `stride` rows of the dataset, or with `control_hz` `stride` periods of that rate. Rates are in Hz.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import floor, inf

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_foundry.runtime.errors import FoundryError

_SECONDS = re.compile(r"(\d+(?:\.\d*)?|\.\d+) ?s")
_WHOLE = 1e-6  # what is this near to a whole number of periods is one


@dataclass(frozen=True)
class Steps:
    """A timing at one dataset: numbers of steps, and `stride` rows (or periods of `control_hz`) for each."""

    horizon: int
    history: int
    stride: int
    control_hz: float | None = None

    def rows(self, rate: ArrayLike) -> NDArray[np.float64]:
        """Rows from one step to the next, for episodes of these rates; not finite where it cannot be said."""
        if self.control_hz is None:
            return np.full(np.shape(rate), float(self.stride))
        return np.asarray(self.stride * (np.asarray(rate, np.float64) / self.control_hz))

    def dt(self, rate: ArrayLike) -> NDArray[np.float64]:
        """Seconds from one step to the next, for episodes of these rates; 0 where the rate is unknown."""
        if self.control_hz is not None:
            return np.full(np.shape(rate), self.stride / self.control_hz)
        rates = np.asarray(rate, np.float64)
        is_known = np.isfinite(rates) & (rates > 0)
        return np.asarray(np.divide(self.stride, rates, out=np.zeros(rates.shape), where=is_known))


@dataclass(frozen=True)
class Timing:
    """As a recipe has it: `horizon`, `history` and `stride` are steps (16) or seconds ('0.8s').

    A horizon of s seconds is s / step targets, a history the moments of the last s seconds with the anchor;
    both are rounded to whole steps. A stride of s seconds must be a whole number of rows or periods.
    """

    horizon: int | str = 16
    history: int | str = 1
    stride: int | str = 1
    control_hz: float | None = None

    def __post_init__(self) -> None:
        if problems := list(timing_problems(self.horizon, self.history, self.stride, self.control_hz)):
            raise FoundryError(f"window: {'; '.join(problems)}")

    @property
    def one_step_time(self) -> bool:
        """Whether a step is the same time in every dataset, whatever its rate."""
        return self.control_hz is not None or isinstance(self.stride, str)

    def steps(self, rate: float | None, name: str) -> Steps:
        """At the dataset `name` of this rate, None where unknown or its episodes differ.

        FoundryError where seconds are no steps there.
        """
        base = self.control_hz if self.control_hz is not None else rate

        def periods(value: int | str, what: str) -> float:
            if isinstance(value, str):
                return _of(value) * _required_rate(base, name, f"{what} of {value}")
            return float(value)

        exact = periods(self.stride, "a stride")
        stride = max(1, round(exact))
        if abs(exact - stride) > _WHOLE * stride:
            unit = "rows" if self.control_hz is None else "periods of control_hz"
            raise FoundryError(
                f"'{name}': a stride of {self.stride} is {exact:g} {unit} at {base:g} Hz, not a whole number",
                hint="set control_hz to the rate of the steps that you want",
            )

        def count(value: int | str, what: str) -> int:
            whole = periods(value, what)
            return floor(whole / stride + 0.5) if isinstance(value, str) else int(whole)

        moments = count(self.history, "a history") + isinstance(self.history, str)
        return Steps(max(1, count(self.horizon, "a horizon")), moments, stride, self.control_hz)


def timing_problems(
    horizon: int | str, history: int | str, stride: int | str, control_hz: float | None
) -> Iterator[str]:
    """What is wrong with the values of a Timing, one clause each."""
    for name, value in (("horizon", horizon), ("history", history), ("stride", stride)):
        if isinstance(value, str):
            if (seconds := _seconds(value)) is None:
                yield f"{name} '{value}' is neither steps, such as 16, nor seconds, such as 0.8s"
            elif not seconds:
                yield f"{name} {value} is no time"
        elif value < 1:
            yield f"{name} {value} is below 1"
    if control_hz is not None and not 0 < control_hz < inf:
        yield f"control_hz {control_hz:g} is no rate"


def _required_rate(rate: float | None, name: str, what: str) -> float:
    if rate is None or not rate > 0:
        raise FoundryError(
            f"'{name}' has no one rate, so {what} is no number of rows",
            hint="set control_hz, or give steps",
        )
    return rate


def _seconds(text: str) -> float | None:
    match = _SECONDS.fullmatch(text.strip())
    return float(match[1]) if match else None


def _of(text: str) -> float:
    seconds = _seconds(text)
    assert seconds is not None
    return seconds
