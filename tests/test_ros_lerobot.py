"""Bags made from two episodes of a LeRobot dataset, against that dataset, each through its own door.

Their maker took the first 8 s of an episode: picture i at 0.05 i s and a jitter; the seven joints of the
right arm (columns 22 to 28 of 44) and their commands on a line between rows, at 100 Hz and with 1.5 % of
the messages lost. The dataset's own times begin at 0.05 s, so that a bag shows picture i beside the joints
of row i − 1. Depth, tf and the text of the task are the maker's own: nothing in the dataset is like them.
Stamps are multiples of 256 ns, as float64 has them.

Legend: N frames of a bag, R rows of an episode, H W pixels.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from foundry_testing.ingested import Ingested, pixels
from foundry_testing.pages import ROOT

from robot_foundry.ingest.engine import Options

SAMPLES = os.environ.get("FOUNDRY_SAMPLES")
pytestmark = pytest.mark.skipif(not SAMPLES, reason="FOUNDRY_SAMPLES does not name the folder of samples")
SPEC = str(ROOT / "examples" / "ros" / "picknplace.yaml")
BEGIN_NS = 1_750_000_000_000_000_000
ARM = slice(22, 29)
BAGS = ("mcap/picknplace_multimodal", "ros2_db3/picknplace_multimodal")
NAME = "picknplace_multimodal"
OF_PICTURES = ("content.ros.rate=null", "content.ros.frames=front")
RAW = ("content.ros.cameras.front.topic=/camera/color/image_raw",)
LINEAR = ("content.ros.streams.command.match=linear", "content.ros.cameras.front.tolerance=0.5")
# A lost message at the time of a row takes off the corner between two lines: in at most 3 frames of 159.
MOST_OFF_RAD = 2e-3
JITTER_S = 0.015


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """The two episodes, with the arm's joints under the names that the bags have."""
    arm = "{right.joint_position: {key: %s, columns: [22, 29]}}"
    return Ingested(
        "lerobot",
        Path(str(SAMPLES), "lerobot/robot_sim.PickNPlace"),
        tmp_path_factory.mktemp("dataset") / "store",
        [f"mapping.state={arm % 'observation.state'}", f"mapping.actions.command={arm % 'action'}"],
        Options(limit=2),
    )


def of_bag(path, folder, *overrides):
    return Ingested(SPEC, Path(str(SAMPLES), path), folder / "store", overrides)


def since_begin(made):
    """Seconds [N] after the first row that the maker took."""
    return (made.episode(NAME)["start_ns"] - BEGIN_NS) / 1e9 + made.source(NAME)["timestamp"]


def test_every_picture_is_that_of_its_own_number(dataset, tmp_path):
    """160 pictures and the one at 8 s; encoded twice, and still no other picture is as near."""
    made = of_bag(BAGS[0], tmp_path, *OF_PICTURES)
    shown = made.images(NAME, "front")
    assert len(shown) == made.rows[NAME]["num_frames"] == 161
    ours = [pixels(data).astype(np.int16) for data in dataset.images(sorted(dataset.rows)[0], "ego_view")]
    for n, data in enumerate(shown):
        picture_HW3 = pixels(data)
        near = {m: np.abs(ours[m] - picture_HW3).mean() for m in range(max(n - 2, 0), n + 3)}
        assert min(near, key=near.__getitem__) == n and near[n] < 2.5, near
    assert np.abs(since_begin(made) - np.arange(161) / 20).max() < JITTER_S


def test_pictures_that_the_bag_has_as_they_were_decoded(dataset, tmp_path):
    """Every eighth, of three bytes a pixel. The maker's decoder repeats chroma, ours interpolates it."""
    made = of_bag(BAGS[1], tmp_path, *OF_PICTURES, *RAW)
    shown, ours = made.images(NAME, "front"), dataset.images(sorted(dataset.rows)[1], "ego_view")
    assert len(shown) == 21
    for n, data in enumerate(shown):
        assert np.abs(pixels(data).astype(np.int16) - pixels(ours[8 * n])).mean() < 2.0
    assert np.abs(since_begin(made) - np.arange(21) * 8 / 20).max() < JITTER_S


@pytest.mark.parametrize(("number", "num_frames"), [(0, 159), (1, 160)])
def test_states_and_actions_are_those_of_the_rows_at_the_same_times(number, num_frames, dataset, tmp_path):
    """At 20 Hz from the last first message to the first last one: the two bags begin and lose differently."""
    made = of_bag(BAGS[number], tmp_path, *LINEAR, *(RAW if number else ()))
    name = sorted(dataset.rows)[number]
    rows, frames = dataset.source(name), made.source(NAME)
    times_N, times_R = since_begin(made), rows["source_timestamp"]
    assert len(times_N) == num_frames and np.diff(times_N) == pytest.approx(0.05, abs=1e-9)
    for array, key in (("joints", "observation.state"), ("command", "action")):
        expected_N7 = np.stack([np.interp(times_N, times_R, one) for one in rows[key][:, ARM].T], axis=1)
        off_N = np.abs(frames[array] - expected_N7).max(axis=1)
        assert off_N.max() < MOST_OFF_RAD and np.quantile(off_N, 0.975) < 1e-8, (array, np.sort(off_N)[-20:])
    for column, stream in (("state", "state"), ("action.command", "command")):
        ours, theirs = ({dim: n for n, dim in enumerate(one.dims(stream))} for one in (made, dataset))
        for dim in (f"right.joint_position.{n}" for n in range(7)):
            of_rows_R = dataset.column(name, column)[:, theirs[dim]]
            expected_N = np.interp(times_N, times_R, of_rows_R)
            off_N = np.abs(made.column(NAME, column)[:, ours[dim]] - expected_N)
            assert off_N.max() < MOST_OFF_RAD and np.quantile(off_N, 0.975) < 1e-6, (column, dim)


def test_a_command_is_one_that_was_given_by_then(dataset, tmp_path):
    """`match: previous`, as the spec has it: what the rows say of at most 20 ms before a frame."""
    made = of_bag(BAGS[0], tmp_path)
    rows = dataset.source(sorted(dataset.rows)[0])
    ago_s = np.arange(0, 0.0201, 0.0001)
    for time, command_7 in zip(since_begin(made), made.source(NAME)["command"], strict=True):
        said_A7 = np.stack(
            [np.interp(time - ago_s, rows["source_timestamp"], one) for one in rows["action"][:, ARM].T], 1
        )
        assert np.abs(said_A7 - command_7).max(axis=1).min() < 1e-3
