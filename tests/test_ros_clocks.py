"""Which time counts, in whole bags: clocks that are set, streams of other rates, and texts with a header.

Legend: N frames.
"""

from __future__ import annotations

import numpy as np
import pytest
from foundry_testing.ingested import Ingested
from foundry_testing.ros_bags import (
    START_NS,
    Sent,
    arm,
    header,
    joints,
    numbers,
    spec_file,
    text,
    write_bag,
)

from robot_foundry.runtime.errors import FoundryError

NO_CAMERA = {"cameras": {}}


def ingested(tmp_path, sent, ros=None, mapping=None):
    tmp_path.mkdir(exist_ok=True)
    bag = write_bag(tmp_path / "take", sent)
    return Ingested(spec_file(tmp_path, ros, mapping), bag, tmp_path / "store")


def account(made):
    return made.episode("take")["attributes"]["ros"]


def mode(at, name, *, stamp):
    """A point, whose frame is the text of this test: it has a header, as String has not."""
    fields = {"header": header(stamp, name), "point": {"x": 0.0, "y": 0.0, "z": 0.0}}
    return Sent("/mode", at, "geometry_msgs/msg/PointStamped", fields)


def test_messages_that_are_there_twice_change_no_frame(tmp_path):
    once = ingested(tmp_path / "once", arm())
    twice = ingested(tmp_path / "twice", [sent for sent in arm() for _ in range(2)])
    assert twice.frames("take") == once.frames("take")
    assert twice.images("take", "front") == once.images("take", "front")
    told = account(twice)["streams"]["joints"]
    assert (told["rate_hz"], told["lost"], told["messages"]) == (50.0, 0, 200)


def test_a_clock_that_is_set_back_in_the_midst_of_a_bag(tmp_path):
    """Joints at 50 Hz, whose position is the time of receipt; from 1 s on their clock is 5 s behind."""
    sent = [
        joints("/joint_states", at, {"a": at, "b": 0.0}, stamp=at if at < 1 else at - 5)
        for at in (n / 50 for n in range(100))
    ]
    made = ingested(tmp_path, sent, NO_CAMERA, NO_CAMERA)
    frames_N = np.arange(40) / 20
    assert made.source("take")["joints"][:, 0] == pytest.approx(frames_N[:40], abs=1e-9)
    assert account(made)["streams"]["joints"]["clock"] == "receive"
    assert "the clock of their headers is set back by more than a second" in " ".join(made.report.warnings)
    by_header = Ingested(
        spec_file(tmp_path, {**NO_CAMERA, "clock": "header"}, NO_CAMERA),
        tmp_path / "take",
        tmp_path / "header",
    )
    # What was stamped after the jump belongs to no moment that is known: it is left out, and counted.
    assert by_header.source("take")["joints"][:, 0] == pytest.approx(frames_N[:20], abs=1e-9)
    told = account(by_header)
    assert told["streams"]["joints"]["set_back"] == 50
    tally = told["topics"]["/joint_states"]
    assert (tally["read"], tally["used"] + tally["dropped"], tally["refused"]) == (100, 100, 0)
    assert tally["used"] < 50


def test_one_kilohertz_and_ten_hertz_at_fifteen_by_a_table(tmp_path):
    """Each stream counts its own messages. Frames are at 0, 66.666667, 133.333333 ms, …"""
    sent = [numbers("/fast", n / 1000, [n]) for n in range(1000)] + [
        numbers("/slow", n / 10, [n]) for n in range(10)
    ]
    streams = {
        f"{name}_{match}": {"topic": f"/{name}", "field": "data", "match": match}
        for name in ("fast", "slow")
        for match in ("nearest", "previous", "linear")
    }
    mapping = {**NO_CAMERA, "state": {"right.joint_position": {"key": "fast_linear"}}}
    made = ingested(tmp_path, sent, {**NO_CAMERA, "rate": 15, "streams": streams}, mapping)
    table = {name: made.source("take")[name][:7, 0] for name in streams}
    assert table["fast_nearest"].tolist() == [0, 67, 133, 200, 267, 333, 400]
    assert table["fast_previous"].tolist() == [0, 66, 133, 200, 266, 333, 400]
    assert table["fast_linear"] == pytest.approx([0, 66.666667, 133.333333, 200, 266.666667, 333.333333, 400])
    assert table["slow_nearest"].tolist() == [0, 1, 1, 2, 3, 3, 4]
    assert table["slow_previous"].tolist() == [0, 0, 1, 2, 2, 3, 4]
    assert table["slow_linear"] == pytest.approx([0, 2 / 3, 4 / 3, 2, 8 / 3, 10 / 3, 4], abs=1e-7)
    # 14 frames up to 0.9 s, of which each uses at most three of the thousand for all three ways.
    tally = account(made)["topics"]["/fast"]
    assert tally["read"] == 1000 and tally["used"] <= 3 * 14 and tally["used"] + tally["dropped"] == 1000


@pytest.mark.parametrize(
    ("clock", "spans"),
    [("auto", [[0, 12, "mode", "reach"], [12, 39, "mode", "grasp"]]),
     ("header", [[0, 12, "mode", "reach"], [12, 39, "mode", "grasp"]]),
     ("receive", [[0, 20, "mode", "reach"], [20, 39, "mode", "grasp"]])],
)  # fmt: skip
def test_a_text_with_a_header_holds_from_the_time_that_the_clock_says(clock, spans, tmp_path):
    """Stamped at 0.6 s, and received at 1 s."""
    sent = [*arm(), mode(0.0, "reach", stamp=0.0), mode(1.0, "grasp", stamp=0.6)]
    ros = {"clock": clock, "texts": {"mode": {"topic": "/mode", "field": "header.frame_id"}}}
    made = ingested(tmp_path, sent, ros, {"instruction": [{"spans": "mode"}]})
    assert made.episode("take")["annotations"] == spans
    assert account(made)["topics"]["/mode"]["used"] == 2


def test_a_text_without_a_header_goes_by_its_receipt_whatever_the_clock(tmp_path):
    sent = [*arm(), text("/task", 0.0, "reach"), text("/task", 1.0, "grasp")]
    ros = {"clock": "header", "texts": {"task": {"topic": "/task"}}}
    made = ingested(tmp_path, sent, ros, {"instruction": [{"spans": "task"}]})
    assert made.episode("take")["annotations"] == [[0, 20, "task", "reach"], [20, 39, "task", "grasp"]]


def test_texts_that_swapped_on_the_way_are_put_in_their_place(tmp_path):
    sent = [
        *arm(),
        mode(0.0, "reach", stamp=0.0),
        mode(0.9, "lift", stamp=0.8),
        mode(0.95, "grasp", stamp=0.4),
    ]
    ros = {"texts": {"mode": {"topic": "/mode", "field": "header.frame_id"}}}
    made = ingested(tmp_path, sent, ros, {"instruction": [{"spans": "mode"}]})
    spans = [[0, 8, "mode", "reach"], [8, 16, "mode", "grasp"], [16, 39, "mode", "lift"]]
    assert made.episode("take")["annotations"] == spans


def test_one_wrong_stamp_is_told_before_it_makes_frames_of_fifty_years(tmp_path):
    sent = [joints("/joint_states", n / 50, {"a": 0.0, "b": 0.0}) for n in range(1, 50)]
    sent.insert(0, joints("/joint_states", 0, {"a": 0.0, "b": 0.0}, stamp=1.0 - START_NS / 1e9))
    (tmp_path / "again").mkdir()
    with pytest.raises(FoundryError, match=r"span \d{11} frames.*content.ros.clock"):
        ingested(tmp_path, sent, NO_CAMERA, NO_CAMERA)
    by_receipt = ingested(tmp_path / "again", sent, {**NO_CAMERA, "clock": "receive"}, NO_CAMERA)
    assert by_receipt.episode("take")["num_frames"] == 20
