"""Bags with random damage: each is read as far as its numbers add up, or refused in a sentence.

The seed is in the name of the test; that of a file is in its name.
"""

from __future__ import annotations

import random
import re

import pytest
from foundry_testing.ingested import Ingested
from foundry_testing.ros_bags import arm, spec_file, write_bag

FORMS = ("bag", "bag-bz2", "bag-lz4", "mcap", "mcap-chunk", "mcap-message", "mcap-file", "db3", "db3-file")
COUNTS = {"/joint_states": 50, "/camera": 10}
# What Python says of itself, and no sentence does.
OF_PYTHON = re.compile(r"Traceback|NoneType|object has no|unsupported operand|not subscriptable|<class|\n")
LONGEST_REASON = 400


def damaged(data: bytes, rng: random.Random) -> bytes:
    """One to three accidents or attacks."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        # The end of a file is what readers begin with.
        near_end = rng.random() < 0.4
        at = (
            rng.randrange(max(len(changed) - 1500, 0), len(changed))
            if near_end
            else rng.randrange(len(changed))
        )
        length = rng.choice([1, 4, 8, 50, 900])
        way = rng.randrange(7)
        if way == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            changed[at : at + length] = bytes(len(changed[at : at + length]))
        elif way == 2:
            changed[at : at + 8] = b"\xff" * len(changed[at : at + 8])
        elif way == 3:
            changed[at : at + length] = rng.randbytes(len(changed[at : at + length]))
        elif way == 4:
            changed[at:at] = changed[at : at + length]
        elif way == 5:
            del changed[at : at + length]
        else:
            del changed[max(at, 40) :]
        changed = changed or bytearray(b"\0")
    return bytes(changed)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The bytes of a bag of every form."""
    folder, made = tmp_path_factory.mktemp("sound"), {}
    for form in FORMS:
        bag = write_bag(folder / form, arm(1.0), form, chunk_bytes=1500)
        (made[form],) = [bag] if bag.is_file() else [path for path in bag.iterdir() if path.suffix != ".yaml"]
    return {form: (path.name.partition(".")[2], path.read_bytes()) for form, path in made.items()}


@pytest.mark.parametrize(("seed", "count"), [(14, 110), pytest.param(2026, 4000, marks=pytest.mark.soak)])
def test_damaged_bags_are_read_by_their_numbers_or_refused_in_a_sentence(seed, count, sound, tmp_path):
    folder = tmp_path / "bags"
    folder.mkdir()
    for n in range(count):
        form, rng = FORMS[n % len(FORMS)], random.Random(f"{seed}-{n}")
        ending, data = sound[form]
        (folder / f"{seed}-{n}-{form}.{ending}").write_bytes(damaged(data, rng))
    write_bag(folder / "sound", arm(1.0), "bag")
    made = Ingested(spec_file(tmp_path), folder, tmp_path / "store")
    assert "sound" in made.rows
    assert len(made.rows) + len(made.reasons) == count + 1
    for unit, reason in made.reasons.items():
        assert not OF_PYTHON.search(reason) and 0 < len(reason) < LONGEST_REASON, (unit, reason)
    for name in made.rows:
        told = made.episode(name)["attributes"]["ros"]
        tallies = told["topics"]
        for topic, tally in tallies.items():
            parts = ("used", "dropped", "unmapped", "refused")
            assert sum(tally[part] for part in parts) == tally["read"], (name, topic)
            assert sum(tally.get("reasons", {}).values()) == tally["refused"], (name, topic)
        lost = told.get("broken", {}).values()
        # A database knows no more of itself than its rows.
        if None not in lost and "db3" not in name and not told["unmapped"]:
            read = sum(tally["read"] for tally in tallies.values())
            assert read + sum(lost) == sum(COUNTS.values()), (name, told)
