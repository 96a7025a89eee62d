"""Keyed permutations of [0, size) that are evaluated point by point.

The generalised Feistel network of Black and Rogaway ("Ciphers with arbitrary finite domains", 2002) on
Z_a × Z_b, with a = ceil(sqrt(size)) and b = ceil(size / a), and cycle walking back into the domain. As a·b
exceeds size by less than a, few points walk at all.

Legend: n points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_foundry.runtime.keyed import key, mix64

MAX_SIZE = 2**48
ROUNDS = 8  # even: the halves end where they began
_ROUND_KEYS = tuple(key("feistel", number) for number in range(ROUNDS))


def permute(x_n: ArrayLike, size_n: ArrayLike, key_n: ArrayLike) -> NDArray[np.int64]:
    """Where the points x [n], 0 <= x < size, go; `size` (1 … 2^48) and the 64-bit `key` are scalars or [n].

    Points that share size and key go to unlike places.
    """
    x, size, keys = np.broadcast_arrays(
        np.asarray(x_n).astype(np.uint64), np.asarray(size_n).astype(np.uint64), np.asarray(key_n, np.uint64)
    )
    # However the root is rounded, b makes a · b reach the size; the rounding is IEEE's, the same everywhere.
    left_size = np.ceil(np.sqrt(size.astype(np.float64))).astype(np.uint64)
    right_size = (size + left_size - np.uint64(1)) // left_size
    place = _network(x, left_size, right_size, keys)
    # The network permutes [0, a · b), which is a little more. A walk goes round its cycle, and so comes back
    # into [0, size); no two walks end alike, as each could be walked backwards.
    (outside,) = np.nonzero(place >= size)
    while outside.size:
        place[outside] = _network(place[outside], left_size[outside], right_size[outside], keys[outside])
        outside = outside[place[outside] >= size[outside]]
    return place.astype(np.int64)


def _network(
    x_n: NDArray[np.uint64],
    left_size_n: NDArray[np.uint64],
    right_size_n: NDArray[np.uint64],
    key_n: NDArray[np.uint64],
) -> NDArray[np.uint64]:
    one_n, one_size_n = x_n // right_size_n, left_size_n
    two_n, two_size_n = x_n % right_size_n, right_size_n
    for round_key in _ROUND_KEYS:
        # Added modulo the half's own size the shift can be taken off again, so a round is a permutation
        # whatever the hash gives. The high half of a hash times the size, shifted back, is uniform in
        # [0, size) without a division.
        shift_n = ((mix64(two_n ^ key_n, round_key) >> np.uint64(32)) * one_size_n) >> np.uint64(32)
        one_n = one_n + shift_n
        one_n = np.where(one_n >= one_size_n, one_n - one_size_n, one_n)
        one_n, two_n, one_size_n, two_size_n = two_n, one_n, two_size_n, one_size_n
    return one_n * right_size_n + two_n
