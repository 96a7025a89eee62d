"""Which text an anchor has: one of those that cover its frame, whatever else its episode has."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_foundry.catalog.robot.tables import ANNOTATIONS_SCHEMA
from robot_foundry.loader.robot.instructions import Instructions
from robot_foundry.runtime.keyed import key, uniform

KEYS = [f"episode-{i}" for i in (3, 0, 2, 1)]
Note = tuple[str, str, int, int, str]


def instructions(notes: list[Note]) -> Instructions:
    rows = [
        {"key": k, "kind": kind, "start": start, "end": start + length, "text": text, "source": "test"}
        for k, kind, start, length, text in notes
    ]
    keys = pa.chunked_array([KEYS[:1], KEYS[1:]])
    return Instructions(pa.Table.from_pylist(rows, schema=ANNOTATIONS_SCHEMA), keys)


notes_of_any = st.lists(
    st.tuples(
        st.sampled_from([*KEYS, "left-out"]),
        st.sampled_from(["instruction", "subtask"]),
        st.integers(0, 9),
        st.integers(0, 9),
        st.sampled_from(["", "lift", "lift it", "push"]),
    ),
    max_size=12,
)


@given(notes=notes_of_any, k=st.integers(0, 2**40), seed=st.integers(0, 9))
def test_it_is_chosen_among_the_covering_ones_in_order(notes: list[Note], k: int, seed: int) -> None:
    anchors = [(episode, frame) for episode in range(4) for frame in range(12)]
    k_n = np.arange(len(anchors), dtype=np.int64) + k
    episode_n, frame_n = np.array(anchors).T
    found = instructions(notes).at(episode_n, frame_n, k_n, seed)
    share_n = uniform(key("instruction", seed), k_n)
    for text, (episode, frame), share in zip(found, anchors, share_n, strict=True):
        covering = sorted(
            (start, other)
            for name, kind, start, length, other in notes
            if name == KEYS[episode] and kind == "instruction" and start <= frame < start + length
        )
        assert text == (covering[int(share * len(covering))][1] if covering else "")


@pytest.mark.parametrize("order", [KEYS, KEYS[::-1]])
def test_one_for_each_episode_is_its_own_in_any_order(order: list[str]) -> None:
    made = instructions([(name, "instruction", 0, 5, f"do {name}") for name in order])
    texts = made.at(np.arange(4), np.array([0, 4, 4, 5]), np.arange(4), 0)
    assert texts == [f"do {KEYS[0]}", f"do {KEYS[1]}", f"do {KEYS[2]}", ""]


def test_without_annotations_there_is_none() -> None:
    assert instructions([]).at(np.array([0, 3]), np.array([0, 1]), np.array([5, 6]), 0) == ["", ""]
