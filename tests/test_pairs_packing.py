"""Which pairs a packed row has."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robot_foundry.loader.pairs.packing import WINDOW, PackedRows, packed
from robot_foundry.runtime.keyed import generator


def rows(made: PackedRows) -> list[list[int]]:
    return [made[number].tolist() for number in range(len(made))]


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 50))
def test_every_pair_is_in_one_row_and_rows_hold_no_more_than_fits(tokens: list[int], length: int) -> None:
    made = rows(packed(np.array(tokens, np.int32), length))
    assert sorted(pair for row in made for pair in row) == list(range(len(tokens)))
    assert all(row == sorted(row) for row in made) and [row[0] for row in made] == sorted(r[0] for r in made)
    filled = [sum(min(tokens[pair], length) for pair in row) for row in made]
    assert all(0 < tokens_of_row <= length for tokens_of_row in filled)
    # Best fit never leaves two rows that one could hold.
    assert all(a + b > length for i, a in enumerate(filled) for b in filled[:i])


def test_rows_are_of_neighbours_and_nearly_full() -> None:
    tokens_n = generator("lengths").integers(20, 400, 3 * WINDOW + 17).astype(np.int32)
    made = packed(tokens_n, 1024)
    windows = [{pair // WINDOW for pair in row} for row in rows(made)]
    assert all(len(of_row) == 1 for of_row in windows)
    assert tokens_n.sum() > 0.97 * 1024 * len(made)


def test_a_window_does_not_depend_on_those_around_it() -> None:
    tokens_n = generator("lengths").integers(1, 300, 3 * WINDOW).astype(np.int32)
    alone = rows(packed(tokens_n[WINDOW : 2 * WINDOW], 512))
    among = [row for row in rows(packed(tokens_n, 512)) if row[0] // WINDOW == 1]
    assert among == [[WINDOW + pair for pair in row] for row in alone]


def test_the_tightest_row_is_taken() -> None:
    # By size 7, 6, 5, 4, 3, 2: 7 alone, 6 alone, 5 alone; 4 beside the 6, 3 beside the 7, 2 beside the 5.
    tokens_n = np.array([2, 7, 5, 4, 6, 3], np.int32)
    assert rows(packed(tokens_n, 10)) == [[0, 2], [1, 5], [3, 4]]


def test_nothing_has_no_rows() -> None:
    assert len(packed(np.array([], np.int32), 8)) == 0
