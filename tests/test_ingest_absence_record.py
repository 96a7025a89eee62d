"""The record of what a source holds and nothing takes: counted and bounded."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_foundry.ingest.robot.absence.absence import MOST_NAMES, Asked, Outcome, absence
from robot_foundry.ingest.robot.absence.holdings import Holdings
from robot_foundry.ingest.robot.content.survey import Surveyed
from robot_foundry.ingest.robot.resolve import resolve
from robot_foundry.ingest.spec.spec import load_spec, spec_from_json

FRAMES = 6


def surveyed(n, arrays, *, left_out=(), attributes=()):
    episode = {
        "id": f"demo_{n}",
        "source": {"path": "in.hdf5"},
        "num_frames": FRAMES,
        "fps": 20.0,
        "cameras": {},
        "attributes": dict.fromkeys(attributes, 1),
        "environment": {},
        "left_out": dict(left_out),
    }
    return Surveyed(f"demo-{n}", episode, {name: (FRAMES, 2) for name in arrays})


NAMES = st.sampled_from(["a", "b", "c"])
EPISODES = st.lists(
    st.tuples(st.sets(NAMES), st.dictionaries(NAMES, st.sampled_from(["big", "odd"])), st.sets(NAMES)),
    max_size=6,
)


@given(EPISODES, st.randoms(use_true_random=False))
def test_counts_are_the_same_in_any_order_of_the_episodes(episodes, random):
    items = [surveyed(n, a, left_out=o, attributes=t) for n, (a, o, t) in enumerate(episodes)]
    shuffled = random.sample(items, len(items))
    assert Holdings.of(shuffled) == Holdings.of(items)


def test_the_record_is_bounded_whatever_the_source_holds():
    arrays = ["p", *(f"array_{n:03d}" for n in range(200))]
    left_out = {f"obs/image_{n:03d}": "a row has 9999 numbers" for n in range(200)}
    values = {"embodiment": "arm", "state": {"right.ee_position": {"key": "p"}}}
    mapping = spec_from_json({"layout": "robomimic", "mapping": values}, "test").mapping
    items = [
        Surveyed(item.key, item.episode, {**item.shapes, "p": (FRAMES, 3)})
        for item in (surveyed(n, arrays, left_out=left_out) for n in range(2))
    ]
    outcomes = [Outcome(item.unit, None, frozenset()) for item in items]
    made = absence(Asked(mapping), resolve(mapping, items), items, outcomes)
    for entries in (made.record["not_taken"]["arrays"], made.record["not_taken"]["left_out"]):
        assert len(entries) == MOST_NAMES + 1 and entries[-1] == {"more": 200 - MOST_NAMES}
    assert len(json.dumps(made.record)) < 20_000
    assert made.warnings == (
        "obs/image_000, obs/image_001, obs/image_002, obs/image_003 and 196 more look like images and are "
        "none: a row has 9999 numbers",
    )


@pytest.mark.parametrize("name", ["robomimic", "robomimic_two_arms", "libero", "aloha", "bridge", "droid"])
def test_what_packaged_specs_name_is_no_fault_of_a_source(name):
    spec = load_spec(name)
    made = absence(Asked(spec.mapping, spec.content, spec.name), resolve(spec.mapping, []), [], [])
    assert made.warnings == () and not any(entry.get("is_lost") for entry in made.record["not_found"])
