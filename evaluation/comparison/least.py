"""The smallest difference that a number of episodes can show at all: what is told of pairs that show none.

None where even a policy that always succeeds is not told from one that never does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from robot_foundry.evaluation.comparison.exact import McNemar
from robot_foundry.evaluation.comparison.sequential import anytime_p

PLAN = "foundry-eval compare --plan RATE RATE says how many tell two rates apart"


@cache
def least_paired(scenes: int, alpha: float) -> float | None:
    """Of McNemar's test. Of equal differences the one with the smallest p is that of the fewest scenes on
    which the two differ: none on which only the worse one succeeds."""
    test = McNemar(scenes)
    return _share(scenes, lambda number: test.p_value(number, 0) <= alpha)


@cache
def least_sequential(scenes: int, alpha: float) -> float | None:
    """Of the sequential test, looked at after each scene. As there: two more scenes, one for each policy,
    multiply what it owns by 1 - d² for every effect d."""
    p_n = anytime_p([True] * scenes, [False] * scenes)
    return _share(scenes, lambda number: bool(p_n[number - 1] <= alpha))


def told(episodes: str, least: float | None, alpha: float) -> str:
    """A sentence on `episodes`, such as "16 scenes"."""
    if least is None:
        return f"{episodes}: too few to show any difference at {alpha:g}, even of 0 % from 100 %; {PLAN}"
    return f"{episodes}: too few to show a difference below {100 * least:.3g} points at {alpha:g}; {PLAN}"


def _share(episodes: int, shows: Callable[[int], bool]) -> float | None:
    """The smallest share of the episodes, of one of them or more, from which on `shows` holds."""
    low, high = 1, episodes + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle + 1, high)
    return low / episodes if low <= episodes else None
