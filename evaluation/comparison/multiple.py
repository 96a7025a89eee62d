"""Many comparisons at once: Holm's adjustment, and letters that say which policies do not differ."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values [..., pairs] (Holm 1979); to reject those ≤ α errs in any of them with at most α.

    The k-th smallest of N is multiplied by N − k + 1, and none is smaller than the one before it. No
    assumption on how they depend on each other.
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p, axis=-1, kind="stable")
    number = p.shape[-1]
    scaled = np.take_along_axis(p, order, -1) * np.arange(number, 0, -1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(1.0, np.maximum.accumulate(scaled, axis=-1)), -1)
    return adjusted


def letters(number: int, differ: Collection[tuple[int, int]]) -> list[str]:
    """Compact letters of 0 … number − 1: two share one if, and only if, they are not in `differ`.

    Each letter is a clique of the graph of those that do not differ (Piepho 2004); all maximal cliques hold
    that law, and those whose pairs all others hold are left out. Letters follow the order of the members, so
    give the best first.
    """
    unlike = {frozenset(pair) for pair in differ}
    near = [
        {other for other in range(number) if other != one and frozenset((one, other)) not in unlike}
        for one in range(number)
    ]
    cliques = _needed(sorted(sorted(clique) for clique in _maximal(set(), set(range(number)), set(), near)))
    return ["".join(_letter(k) for k, clique in enumerate(cliques) if one in clique) for one in range(number)]


def _maximal(
    inside: set[int], open_: set[int], closed: set[int], near: Sequence[set[int]]
) -> Iterator[set[int]]:
    """All maximal cliques (Bron and Kerbosch 1973, with pivots)."""
    if not open_ and not closed:
        yield inside
        return
    pivot = max(open_ | closed, key=lambda one: len(near[one] & open_))
    for one in sorted(open_ - near[pivot]):
        yield from _maximal(inside | {one}, open_ & near[one], closed & near[one], near)
        open_, closed = open_ - {one}, closed | {one}


def _needed(cliques: list[list[int]]) -> list[list[int]]:
    """Those without which a pair, or one that is alone, would have no letter; the smallest go first."""
    kept = list(cliques)
    for clique in sorted(cliques, key=lambda clique: (len(clique), clique)):
        others = [set(other) for other in kept if other is not clique]
        pairs = [{one, other} for one in clique for other in clique]
        if others and all(any(pair <= other for other in others) for pair in pairs):
            kept.remove(clique)
    return kept


def _letter(number: int) -> str:
    """a … z, then A … Z, then a number."""
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return alphabet[number] if number < len(alphabet) else f"<{number + 1}>"
