"""Drafts of real recordings beside the specs of the package: the same numbers, or a guess that says so."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from foundry_testing.draft_verdicts import ABSENT, HIT, MISS, OPEN, verdicts
from foundry_testing.pages import ROOT

from robot_foundry.ingest.inspect.evidence.guess import HIGH, LOW, MEDIUM
from robot_foundry.ingest.inspect.inspect import inspect

SAMPLES = os.environ.get("FOUNDRY_SAMPLES")
pytestmark = pytest.mark.skipif(not SAMPLES, reason="FOUNDRY_SAMPLES does not name the folder of samples")
# Recordings, and the spec that reads them rightly.
READ_BY = {
    "hdf5/lift_human_replay_robomimic_image84.hdf5": "robomimic",
    "hdf5_aloha/episode_0.hdf5": "aloha",
    "rlds/bridge_dataset/1.0.0": "bridge",
    "rlds/droid_like/1.0.0": "droid",
    "droid_raw": "droid_raw",
    "mcap/picknplace_multimodal": str(ROOT / "examples/ros/picknplace.yaml"),
}


def told(place):
    return verdicts(Path(str(SAMPLES)) / place, READ_BY[place])


@pytest.mark.parametrize("place", READ_BY)
def test_a_draft_reads_what_the_spec_of_the_package_reads_or_says_that_it_guesses(place):
    found = told(place)
    assert found and not [entry for entry in found if entry[1] in (MISS, ABSENT) and entry[2] != LOW], found


def test_sure_guesses_are_right():
    """`-s` shows the table of docs/inspect.md."""
    counts = Counter((confidence, verdict) for place in READ_BY for _, verdict, confidence in told(place))
    for confidence in (HIGH, MEDIUM, LOW):
        print(f"| {confidence} | {' | '.join(str(counts[confidence, v]) for v in (HIT, MISS, OPEN))} |")
    assert counts[HIGH, MISS] == counts[MEDIUM, MISS] == 0 and counts[HIGH, HIT] > 10


def test_specs_of_other_public_datasets_come_last_and_are_told_as_such():
    made = inspect(str(Path(str(SAMPLES)) / "rlds/bridge_dataset/1.0.0"))
    [seen] = made.seen
    first, *others = seen.fits
    assert (first.spec, first.is_alike) == ("bridge", False)
    assert others and all(fit.is_alike and fit.spec.startswith("oxe/") for fit in others)
