"""Real recordings, against rosbags' own readers: counts, numbers and pictures; and why some are refused.

Legend: N frames.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from foundry_testing.ingested import Ingested
from foundry_testing.pages import ROOT
from foundry_testing.ros_bags import spec_file
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from robot_foundry.ingest.engine import run
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.errors import FoundryError

SAMPLES = os.environ.get("FOUNDRY_SAMPLES")
pytestmark = pytest.mark.skipif(not SAMPLES, reason="FOUNDRY_SAMPLES does not name the folder of samples")
NO_CAMERA = {"cameras": {}}
ARM = [f"right_arm_{n}" for n in range(7)]


def sample(path):
    return Path(str(SAMPLES)) / path


def one_stream(topic, field, **settings):
    return {**NO_CAMERA, "streams": {"joints": {"topic": topic, "field": field, **settings}}}


def ingested(tmp_path, path, ros, store="store"):
    return Ingested(spec_file(tmp_path, ros, NO_CAMERA), sample(path), tmp_path / store)


def account(made):
    (name,) = made.rows
    return made.episode(name)["attributes"]["ros"]


def whole(bag, path):
    """(topic, time, message) of all messages, by rosbags alone."""
    with AnyReader([sample(path)], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
        for connection, time, raw in reader.messages():
            if connection.topic in bag:
                yield connection.topic, time, reader.deserialize(raw, connection.msgtype)


def stamp_of(message):
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


@pytest.mark.parametrize("path", ["ros1/kuka_honeypot_joint_states.bag", "mcap/kuka_joint_states_converted"])
def test_an_arm_at_100_hz_is_interpolated_at_15(path, tmp_path):
    made = ingested(tmp_path, path, {**one_stream("/joint_states", "position"), "rate": 15})
    messages = [message for _, _, message in whole({"/joint_states"}, path)]
    assert len(messages) == 4101
    times = np.array([stamp_of(message) for message in messages])
    positions = np.stack([message.position for message in messages])
    (name,) = made.rows
    since_N = np.rint(np.arange(615) * 1e9 / 15)  # in float64, which does not hold nanoseconds since 1970
    got_N7 = made.source(name)["joints"]
    assert got_N7.shape == (615, 7)
    for column in range(7):
        expected_N = np.interp(since_N, times - times[0], positions[:, column])
        assert np.abs(got_N7[:, column] - expected_N).max() < 1e-9
    told = account(made)
    tally = told["topics"]["/joint_states"]
    assert tally["used"] + tally["dropped"] == 4101 and tally["unmapped"] == tally["refused"] == 0
    assert told["streams"]["joints"]["delay_ms"][2] < 0  # received before they were stamped
    assert told["streams"]["joints"]["rate_hz"] == 100.0


def test_both_containers_of_one_recording_give_the_same_numbers(tmp_path):
    made = [
        ingested(tmp_path, path, one_stream("/joint_states", "position"), store=name)
        for name, path in (
            ("a", "ros1/kuka_honeypot_joint_states.bag"),
            ("b", "mcap/kuka_joint_states_converted"),
        )
    ]
    numbers = [episodes.source(next(iter(episodes.rows)))["joints"].tobytes() for episodes in made]
    assert numbers[0] == numbers[1]


def test_pictures_joints_commands_depth_and_tf_of_one_recording(tmp_path):
    path = "mcap/picknplace_multimodal"
    made = Ingested(str(ROOT / "examples" / "ros" / "picknplace.yaml"), sample(path), tmp_path / "store")
    name = "picknplace_multimodal"
    assert made.rows[name]["num_frames"] == 159
    topics = account(made)["topics"]
    read = {topic: tally["read"] for topic, tally in topics.items()}
    assert read == {
        "/joint_command": 788, "/joint_states": 788, "/tf": 157, "/task": 1,
        "/camera/color/image_raw/compressed": 161, "/camera/depth/image_rect_raw/compressedDepth": 17,
    }  # fmt: skip
    assert all(tally["refused"] == tally["unmapped"] == 0 for tally in topics.values())
    assert account(made)["streams"]["joints"]["lost"] == 12
    start = made.episode(name)["start_ns"]
    frames = start + np.rint(np.arange(159) * 1e9 / 20)
    by_topic = {}
    for topic, _, message in whole(set(read), path):
        by_topic.setdefault(topic, []).append(message)
    pictures = by_topic["/camera/color/image_raw/compressed"]
    stamps = np.array([stamp_of(message) for message in pictures], np.float64)
    nearest = np.abs(stamps[None] - frames[:, None]).argmin(axis=1)
    assert made.images(name, "front") == [bytes(pictures[n].data) for n in nearest]
    commands = by_topic["/joint_command"]
    stamps = np.array([stamp_of(message) for message in commands])
    last = [int(np.flatnonzero(stamps <= frame)[-1]) for frame in frames]
    expected = np.array(
        [[dict(zip(commands[n].name, commands[n].position, strict=True))[j] for j in ARM] for n in last]
    )
    assert made.source(name)["command"].tolist() == expected.tolist()
    assert made.episode(name)["annotations"] == [[0, 159, "task", "pick and place"]]


def test_raw_pictures_of_a_database_at_their_own_frames(tmp_path):
    path = "ros2_db3/picknplace_multimodal"
    ros = {
        "rate": None,
        "frames": "front",
        "cameras": {"front": {"topic": "/camera/color/image_raw"}},
        "streams": {"joints": {"topic": "/joint_states", "field": "position", "names": ARM}},
    }
    made = ingested(tmp_path, path, ros)
    assert [row["num_frames"] for row in made.rows.values()] == [21]
    assert account(made)["topics"]["/camera/color/image_raw"]["used"] == 21
    assert account(made)["unmapped"]["/joint_command"] == 794


def test_a_stereo_camera_of_bayer_pictures_in_bz2(tmp_path):
    ros = {
        "rate": None,
        "frames": "left",
        "cameras": {
            "left": {"topic": "/wide_stereo/left/image_raw", "info": "/wide_stereo/left/camera_info"}
        },
        "streams": {"joints": {"topic": "/wide_stereo/left/camera_info", "field": "K", "match": "nearest"}},
    }
    made = ingested(tmp_path, "ros1/jsk_pr2_button_light_bz2.bag", ros)
    (name,) = made.rows
    assert made.rows[name]["num_frames"] == 19 and len(made.images(name, "left")) == 19
    assert account(made)["topics"]["/wide_stereo/left/camera_info"]["read"] == 292
    assert account(made)["unmapped"] == {"/view_target": 1}
    assert 20 <= account(made)["streams"]["left"]["delay_ms"][0] <= 60
    assert made.episode(name)["cameras"]["left"]["height"] == 480


@pytest.mark.parametrize(
    ("path", "topic", "field", "count"),
    [
        ("ros1/foxglove_example-bz2.bag", "/turtle1/pose", "x", 1344),
        ("ros1/rosbagjs_example-lz4.bag", "/turtle1/pose", "x", 1344),
        ("ros1/rosbagjs_example.bag", "/turtle1/pose", "x", 1344),
        ("ros1/robot_localization_test2_bz2.bag", "/imu/data", "orientation", 3061),
        ("ros1/embag_array_test.bag", "/array_test", "index_multiples_as_static_uint64_array", 20),
        ("mcap/bagel_mcap", "/fluid_pressure", "fluid_pressure", 7),
        ("mcap/bagel_mcap_zstd", "/rosout", "level", 6),
        ("ros2_db3/bagel_db3_zstd", "/rosout", "level", 6),
        ("mcap/talker", "/rosout", "level", 10),
        ("mcap/tiryoh_test_sample.mcap", "/rosout", "level", 10),
    ],
)
def test_messages_of_every_recording_are_all_counted(path, topic, field, count, tmp_path):
    made = ingested(tmp_path, path, one_stream(topic, field, tolerance="none"))
    told = account(made)
    tally = told["topics"][topic]
    assert (tally["read"], tally["refused"], tally["unmapped"]) == (count, 0, 0)
    assert tally["used"] + tally["dropped"] == count
    with AnyReader([sample(path)], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
        assert sum(told["unmapped"].values()) + count == reader.message_count


def test_transforms_on_six_connections_of_two_types(tmp_path):
    ros = {**NO_CAMERA, "streams": {"joints": {"tf": ["BODY", "rarm_end_coords"]}}}
    made = ingested(tmp_path, "ros1/jsk_watercan_tf_mixed.bag", ros)
    tally = account(made)["topics"]["/tf"]
    assert tally["type"] == "tf/msg/tfMessage, tf2_msgs/msg/TFMessage"
    assert tally["used"] + tally["dropped"] == tally["read"] == 3532


TEXT = one_stream("/chatter", "data")


@pytest.mark.parametrize(
    ("path", "ros", "reason"),
    [
        ("mcap/tiryoh_test_sample_truncated.mcap", TEXT, "it is cut off, for its end is missing"),
        ("ros1/tiryoh_test_truncated.bag", TEXT, "bag is not indexed"),
        ("ros1/tiryoh_test_unindexed.bag", TEXT, "bag is not indexed"),
        ("ros1/foxglove_no-messages.bag", TEXT, "it holds no message"),
        ("ros2_db3/rosbag2_empty_bag", TEXT, "it holds no message"),
        ("mcap/amber_soccer_goal_part", TEXT, "12 of its 13 parts are not there"),
        (
            "ros1/webviz_empty-message-definition.bag",
            one_stream("/led_array_status", "x"),
            "has no definition in",
        ),
        ("mcap/rosbag2_service_events", one_stream("/test_topic1", "string_value"), "none of 1 messages"),
        ("mcap/rosbag2_reindex_no_metadata", one_stream("/chatter", "data"), "none of 1324 messages"),
        ("mcap/talker", one_stream("/topic", "data"), "none of 10 messages of /topic is of use"),
        ("mcap/wbag", one_stream("AAA", "data"), "it has text under 'data'"),
        ("ros2_db3/wbag", one_stream("/AAA", "data"), "none of 804 messages"),
        ("ros1/embag_test_2.bag", one_stream("/chatter", "data"), "none of 2 messages"),
        ("ros1/rosbagjs_example-unsorted-chunks.bag", one_stream("/foo", "data"), "none of 3 messages"),
        ("mcap/tiryoh_test_sample.mcap.zstd", one_stream("/rosout", "msg"), "none of 10 messages"),
        ("ros2_db3/bagel_db3_zstd", one_stream("/rosout", "msg"), "none of 6 messages"),
        ("mcap/bagel_mcap_zstd", one_stream("/rosout", "msg"), "none of 6 messages"),
    ],
)
def test_what_is_refused_is_so_in_one_sentence(path, ros, reason, tmp_path):
    """All messages of a topic of texts are read and counted before they turn out to be no numbers."""
    with pytest.raises(FoundryError) as error:
        run(
            load_spec(spec_file(tmp_path, ros, NO_CAMERA)),
            sample(path),
            store=tmp_path / "store",
            name="made",
        )
    assert reason in str(error.value)


def test_old_names_of_types_and_one_message_a_topic(tmp_path):
    ros = {
        "rate": None,
        "frames": "picture",
        "cameras": {
            "picture": {"topic": "/image/compressed"},
            "raw": {"topic": "/image", "tolerance": "none"},
        },
        "streams": {
            "joints": {
                "topic": "/imu",
                "field": "linear_acceleration",
                "tolerance": "none",
                "match": "nearest",
            }
        },
        "texts": {"said": {"topic": "/text"}},
        "clock": "receive",
    }
    made = ingested(tmp_path, "ros2_db3/rosbag2js_sample.db3", ros)
    (row,) = made.rows.values()
    assert row["num_frames"] == 1
    assert sum(tally["read"] for tally in account(made)["topics"].values()) == 4
    assert account(made)["unmapped"] == {"/fix": 1}


def test_messages_that_are_zstd_frames_and_parts_that_are_not_there(tmp_path):
    ros = {
        "parts": "present",
        "rate": None,
        "frames": "view",
        "cameras": {"view": {"topic": "/camera/image_raw"}},
        "streams": {"joints": {"topic": "/camera/image_raw", "field": "height"}},
    }
    made = ingested(tmp_path, "mcap/amber_soccer_goal_part", ros)
    (name,) = made.rows
    assert len(made.images(name, "view")) == 2 and made.source(name)["joints"].tolist() == [[480.0], [480.0]]
    assert "is not whole: 12 of its 13 parts are not there" in " ".join(made.report.warnings)


@pytest.mark.parametrize(
    "path", ["mcap/all_msg_types_test_bag_mcap", "ros2_db3/all_msg_types_test_bag_sqlite3"]
)
def test_both_containers_of_all_types(path, tmp_path):
    ros = {
        **NO_CAMERA,
        "rate": None,
        "frames": "joints",
        "clock": "receive",
        "streams": {"joints": {"topic": "/test/sensor_msgs/joint_state", "field": "position"}},
    }
    told = account(ingested(tmp_path, path, ros))
    assert told["topics"]["/test/sensor_msgs/joint_state"]["used"] == 2
    assert sum(told["unmapped"].values()) == 186
