"""How many episodes it takes to see a difference, before they are run.

Rates are of policies whose outcomes on one scene do not depend on each other; where scenes that are hard for
one are hard for the other, fewer suffice on the same scenes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from robot_foundry.evaluation.comparison.exact import Barnard, McNemar, check_alpha
from robot_foundry.evaluation.comparison.sequential import stopped_by
from robot_foundry.runtime.errors import UsageError

MOST_EXACT = 500  # episodes of each policy; beyond, a normal approximation: 502 where McNemar's takes 512
MOST = 4000
_MISSES = 4  # the power of exact tests goes up and down a little with the number of episodes


@dataclass(frozen=True)
class Plan:
    """Episodes of each policy. `barnard` on any scenes and `mcnemar` on the same ones are fixed before; the
    sequential test reaches the power by `sequential_most` and takes `sequential_mean` on average, as it stops
    where it is decided. `exact` says whether the fixed ones are computed, or approximated."""

    rates: tuple[float, float]
    power: float
    alpha: float
    barnard: int
    mcnemar: int
    exact: bool
    sequential_most: int
    sequential_mean: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def plan(first: float, second: float, *, power: float = 0.8, alpha: float = 0.05) -> Plan:
    """For the two success rates; UsageError where they are equal, no rates, or too close to plan for."""
    for name, value in (("a rate", first), ("a rate", second), ("power", power)):
        if not 0.0 <= value <= 1.0 or (name == "power" and value in (0.0, 1.0)):
            raise UsageError(f"{name} must lie between 0 and 1, got {value:g}")
    check_alpha(alpha)
    if first == second:
        raise UsageError("equal rates have no difference to be seen", hint="such as --plan 0.5 0.7")
    if power <= alpha:
        raise UsageError(f"power {power:g} must be above alpha {alpha:g}")
    needed = _approximate(first, second, power, alpha)
    if needed > MOST:
        told = f"{needed:,.0f}" if needed < 1e9 else f"{needed:.0e}"
        raise UsageError(
            f"to tell {first:g} from {second:g} takes about {told} episodes of each, {MOST:,} at most",
            hint="rates that are further apart take fewer",
        )
    about = int(needed)
    only_first, only_second = first * (1.0 - second), second * (1.0 - first)
    exact = about <= MOST_EXACT
    barnard = mcnemar = about
    if exact:
        barnard = _smallest(lambda n: Barnard(n, n).power(alpha, first, second) >= power, about)
        mcnemar = _smallest(lambda n: McNemar(n).power(alpha, only_first, only_second) >= power, about)
    most, mean = _sequential(only_first, only_second, power, alpha, about)
    return Plan((first, second), power, alpha, barnard, mcnemar, exact, most, mean)


def _approximate(first: float, second: float, power: float, alpha: float) -> float:
    """The normal approximation without correction (Fleiss, Levin and Paik 2003, eq. 4.14)."""
    middle = (first + second) / 2.0
    null = ndtri(1.0 - alpha / 2.0) * np.sqrt(2.0 * middle * (1.0 - middle))
    other = ndtri(power) * np.sqrt(first * (1.0 - first) + second * (1.0 - second))
    with np.errstate(over="ignore"):
        return float(max(2.0, np.ceil(np.square((null + other) / (first - second)))))


def _smallest(suffices: Callable[[int], bool], about: int) -> int:
    """The smallest number near `about` that suffices, until so many smaller ones in a row do not."""
    number = about
    while not suffices(number):
        number += 1
    smallest, misses = number, 0
    while misses < _MISSES and number > 1:
        number -= 1
        if suffices(number):
            smallest, misses = number, 0
        else:
            misses += 1
    return smallest


def _sequential(
    only_first: float, only_second: float, power: float, alpha: float, about: int
) -> tuple[int, float]:
    """The number of scenes by which the test has stopped with that power, and the mean of where it stops."""
    scenes = 4 * about + 40
    while (done_n := stopped_by(only_first, only_second, scenes, alpha))[-1] < power:
        scenes *= 2
        if scenes > 16 * MOST:
            raise UsageError("the sequential test would not end for rates this close: use a fixed number")
    most = int(np.argmax(done_n >= power))
    return most, float((1.0 - done_n[:most]).sum())
