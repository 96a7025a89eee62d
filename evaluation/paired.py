"""The difference of two success rates that were measured on the same scenes."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from robot_foundry.evaluation.intervals import clopper_pearson
from robot_foundry.runtime.errors import FoundryError

# The difference, and the two ends of its interval.
Difference = tuple[float, float, float]


def paired_difference(first: Sequence[bool], second: Sequence[bool]) -> Difference:
    """first's rate less second's, over scenes in the same order, with a 95 % interval that is exact.

    Let ψ be the probability that only one of the two succeeds, and π that it is the first, where it is one:
    the difference is ψ (2π − 1). Of b scenes where only the first succeeds and c where only the second, of n,
    b + c is binomial in (n, ψ) and, given it, b in (b + c, π). Clopper and Pearson's intervals miss ψ with at
    most 1 % and π, given any b + c, with at most 4 %; so ψ (2π − 1) over both holds the difference with at
    least 95 %, for any n. It is above 0 where the sign test of π = ½ (McNemar's exact test) says so at 2 %
    to one side. FoundryError where there is no scene, or not the same number.
    """
    if len(first) != len(second) or not first:
        raise FoundryError(f"{len(first)} and {len(second)} scenes are no pairs")
    b = sum(one and not other for one, other in zip(first, second, strict=True))
    c = sum(other and not one for one, other in zip(first, second, strict=True))
    one_low, one_high = clopper_pearson(b + c, len(first), 0.99)
    first_low, first_high = clopper_pearson(b, b + c, 0.96)
    low, high = 2 * first_low - 1, 2 * first_high - 1
    low *= one_low if low > 0 else one_high
    high *= one_high if high > 0 else one_low
    return (b - c) / len(first), low, high


def mean_of_strata(parts: Sequence[Difference]) -> Difference:
    """The mean of independent figures, each (value, low, high), as of the tasks of a suite: all weigh alike.

    Its interval is that of the method of variance estimates recovery (Zou and Donner 2008): from the mean go
    √Σ (w (value − low))² down and √Σ (w (high − value))² up, with w = 1 / the number of parts. So how much
    the parts differ from each other is no uncertainty, and each keeps what its own interval knows of its
    ends. FoundryError where there is none.
    """
    if not parts:
        raise FoundryError("there is nothing to take the mean of")
    weight = 1 / len(parts)
    mean = weight * sum(value for value, _, _ in parts)
    down = sqrt(sum((weight * (value - low)) ** 2 for value, low, _ in parts))
    up = sqrt(sum((weight * (high - value)) ** 2 for value, _, high in parts))
    return mean, mean - down, mean + up
