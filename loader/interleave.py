"""Exact interleaving of weighted streams: who owns position k, and which of its own samples stands there.

Conditional floor splitting on integers. Level i sees a position x_i among the draws that no earlier component
took (x_0 = k) and gives component i its share p_i of what remains, R_i = p_i + p_{i+1} + …:

    n_i = ceil(x_i · p_i / R_i)        x_{i+1} = x_i - n_i = floor(x_i · (R_i - p_i) / R_i)

Component i owns position k when n_i grows from x_i to x_i + 1. Each floor loses less than one draw, so
|n_i(k) - w_i · k| < number of components at every k, with no state and in no particular order of k.

Legend: n positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

import numpy as np
from numpy.typing import NDArray

from robot_foundry.runtime.errors import FoundryError

MAX_POSITION = 2**42
MAX_DENOMINATOR = 2**32
_LOW_BITS = 21
_LOW_MASK = 2**_LOW_BITS - 1


class Interleave:
    """The interleaving of components with exact `weights`, which are positive and sum to 1."""

    def __init__(self, weights: Sequence[Fraction]) -> None:
        if not weights or min(weights) <= 0 or sum(weights) != 1:
            raise FoundryError("the weights of a mixture must be positive and sum to 1")
        denominator = lcm(*(weight.denominator for weight in weights))
        if denominator > MAX_DENOMINATOR:
            raise FoundryError(
                f"the weights of the mixture have the common denominator {denominator}, "
                f"above {MAX_DENOMINATOR}",
                hint="round the weights, for example to three decimals",
            )
        rest = Fraction(1)
        self._share: list[Fraction] = []  # of component i in what components before it left
        for weight in weights:
            self._share.append(weight / rest)
            rest -= weight

    def at(self, k_n: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Component [n] that owns each position, and how many positions below k it owns [n]."""
        component_n = np.empty(k_n.shape, np.int32)
        ordinal_n = np.empty(k_n.shape, np.int64)
        open_m, x_m = np.arange(k_n.size), k_n
        for i, share in enumerate(self._share[:-1]):
            kept = 1 - share
            # What the component leaves to those after it does not grow from x to x + 1: it took that draw.
            rest_m = _floor_scale(x_m, kept)
            taken_m = _floor_scale(x_m + 1, kept) == rest_m
            component_n[open_m[taken_m]] = i
            ordinal_n[open_m[taken_m]] = (x_m - rest_m)[taken_m]
            open_m, x_m = open_m[~taken_m], rest_m[~taken_m]
        component_n[open_m] = len(self._share) - 1
        ordinal_n[open_m] = x_m
        return component_n, ordinal_n

    def positions(self, component: int, ordinal_n: NDArray[np.int64]) -> NDArray[np.int64]:
        """Inverse of `at`: the position k of each ordinal of one component, ascending with the ordinal."""
        x_n = _floor_scale(ordinal_n, 1 / self._share[component])
        for share in reversed(self._share[:component]):
            # The last x with floor(x · kept) <= x_n: the position that passes on its own successor.
            x_n = -_floor_scale(-(x_n + 1), 1 / (1 - share)) - 1
        return x_n


def _floor_scale(x_n: NDArray[np.int64], factor: Fraction) -> NDArray[np.int64]:
    """floor(x · factor), exact where |x| < 2^52, the terms of factor are <= 2^32 and the result fits."""
    top, bottom = factor.numerator, factor.denominator
    if top == bottom:
        return x_n
    largest = max(abs(int(x_n.max())), abs(int(x_n.min()))) if x_n.size else 0
    if largest * top < 2**62:
        return x_n * top // bottom
    # x · top may pass 64 bits, the product of either half of x does not: floor(high · top / bottom) counts in
    # units of 2^21, and its remainder, less than bottom, goes down to the low half. The shift and the mask
    # floor, so negative x come out right as well.
    high_n, low_n = x_n >> _LOW_BITS, x_n & _LOW_MASK
    whole_n, left_n = np.divmod(high_n * top, bottom)
    return (whole_n << _LOW_BITS) + ((left_n << _LOW_BITS) + low_n * top) // bottom
