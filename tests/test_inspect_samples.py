"""Drafts of real recordings beside the specs of the package: the same numbers, or a guess that says so."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from foundry_testing.draft_keys import GUESS, LEFT, RIGHT, VERDICTS, WRONG, keys
from foundry_testing.draft_verdicts import ABSENT, HIT, MISS, OPEN, verdicts
from foundry_testing.pages import ROOT

from robot_foundry.ingest.inspect.evidence.guess import HIGH, LOW, MEDIUM
from robot_foundry.ingest.inspect.inspect import inspect

SAMPLES = os.environ.get("FOUNDRY_SAMPLES")
pytestmark = pytest.mark.skipif(not SAMPLES, reason="FOUNDRY_SAMPLES does not name the folder of samples")
PICKNPLACE = str(ROOT / "examples/ros/picknplace.yaml")
# Recordings, and the spec that reads them rightly.
READ_BY = {
    "hdf5/lift_human_replay_robomimic_image84.hdf5": "robomimic",
    "hdf5/robosuite101_stack_demo.hdf5": "robosuite",
    "hdf5/robosuite141_lift_demo.hdf5": "robosuite",
    "hdf5_aloha/episode_0.hdf5": "aloha",
    "rlds/bridge_dataset/1.0.0": "bridge",
    "rlds/droid_like/1.0.0": "droid",
    "droid_raw": "droid_raw",
    "mcap/picknplace_multimodal": PICKNPLACE,
}
# Those that stay with names of columns until the user says what these are. Of two samples beside them one has
# no data, and one no state, which the spec refuses.
NAMED = {
    "zarr/pusht_cchi_v7_first3ep.zarr": "diffusion_policy",
    "lerobot/robot_sim.PickNPlace": "lerobot",
    "lerobot_fixture_ioai/lerobotv2": "lerobot",
    "lerobot_fixture_ioai/lerobotv2-image": "lerobot",
    "lerobot_fixture_ioai/lerobotv3": "lerobot",
    "lerobot_v21/cr5_banana_2ep": "lerobot",
    "lerobot_v21/g1_inspire_partial": "lerobot",
    "lerobot_v30/pusht_image_slice": "lerobot",
    "lerobot_v30/pusht_slice": "lerobot",
}
EVERY = {**READ_BY, "ros2_db3/picknplace_multimodal": PICKNPLACE, **NAMED}
# A video of which a pointer alone is there; and the same recording with raw pictures on another topic.
SETTINGS = {
    "lerobot_v30/pusht_slice": ["content.cameras=[]"],
    "ros2_db3/picknplace_multimodal": [
        "content.ros.cameras.front.topic=/camera/color/image_raw",
        "content.ros.cameras.front.tolerance=1",
    ],
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


@pytest.mark.parametrize("place", EVERY)
def test_every_key_of_the_spec_is_right_in_the_draft_or_marked_as_a_guess(place):
    """`-s` shows the table of docs/inspect.md."""
    found = keys(Path(str(SAMPLES)) / place, EVERY[place], SETTINGS.get(place, ()))
    counts = Counter(verdict for _, verdict in found)
    others = [key for key, verdict in found if verdict in (GUESS, LEFT)]
    print(f"| {place} | {' | '.join(str(counts[verdict]) for verdict in VERDICTS)} |  {', '.join(others)}")
    assert counts[RIGHT] > len(found) / 2 and not [key for key, verdict in found if verdict == WRONG]


def test_specs_of_other_public_datasets_come_last_and_are_told_as_such():
    made = inspect(str(Path(str(SAMPLES)) / "rlds/bridge_dataset/1.0.0"))
    [seen] = made.seen
    first, *others = seen.fits
    assert (first.spec, first.is_alike) == ("bridge", False)
    assert others and all(fit.is_alike and fit.spec.startswith("oxe/") for fit in others)
