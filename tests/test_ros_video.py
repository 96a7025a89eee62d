"""Packets of video as a camera: pictures come to their own messages, and what gives none is counted.

Legend: H W pixels.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from foundry_testing.ingested import Ingested, pixels
from foundry_testing.ros_bags import ROS2, SECOND, START_NS, arm, message_of, spec_file
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg

from robot_foundry.runtime.errors import FoundryError

av = pytest.importorskip("av", reason="PyAV, of the extra `video`, is not installed")

VIDEO, PACKET = "foxglove_msgs/msg/CompressedVideo", "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
STORE = ROS2.__class__()
STORE.register(
    {
        **ROS2.fielddefs,
        **get_types_from_msg(
            "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n", VIDEO
        ),
        **get_types_from_msg(
            "std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\nuint8 flags\n"
            "bool is_bigendian\nuint8[] data\n",
            PACKET,
        ),
    }
)
COUNT, RATE = 20, 10
# Every key picture is eight behind the last, and none is chosen by what it shows.
LIVE = {"tune": "zerolatency", "x264-params": "keyint=8:min-keyint=8:scenecut=0:bframes=0", "crf": "8"}
BEHIND = {"x264-params": "keyint=8:min-keyint=8:scenecut=0:bframes=2:b-adapt=0", "crf": "8"}


def level(n):
    return 20 + 10 * n


def encoded(options):
    """Packets in the order in which the encoder gives them, each with the number of its picture."""
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = 64, 48, "yuv420p"
    context.time_base, context.framerate = Fraction(1, RATE), Fraction(RATE, 1)
    context.options, context.thread_count = options, 1
    packets = []
    for n in range(COUNT):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level(n), np.uint8), "rgb24")
        frame.pts = n
        packets += context.encode(frame)
    return [(packet.pts, bytes(packet)) for packet in [*packets, *context.encode(None)]]


def bag_of(folder, packets, kind=VIDEO, told="h264"):
    """An arm, and the packets: stamped with the times of their pictures, and received one after the other."""
    items = [(item.received_ns, item.topic, item.type, message_of(STORE, item)) for item in arm(2.0)]
    items = [item for item in items if item[1] != "/camera"]
    for place, (n, data) in enumerate(packets):
        received_ns = START_NS + place * SECOND // RATE + 2 * SECOND // RATE
        at_ns = START_NS + n * SECOND // RATE
        stamp = STORE.types["builtin_interfaces/msg/Time"](at_ns // SECOND, at_ns % SECOND)
        content = np.frombuffer(data, np.uint8)
        if kind == VIDEO:
            message = STORE.types[kind](stamp, "camera", content, told)
        else:
            head = STORE.types["std_msgs/msg/Header"](stamp, "camera")
            message = STORE.types[kind](head, 64, 48, told, n, 0, False, content)
        items.append((received_ns, "/camera", kind, message))
    connections = {}
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for at_ns, topic, of, message in sorted(items, key=lambda item: item[0]):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, of, typestore=STORE)
            writer.write(connections[topic], at_ns, STORE.serialize_cdr(message, of))
    return folder


def ingested(tmp_path, bag, **camera):
    ros = {
        "rate": None,
        "frames": "front",
        "cameras": {"front": {"topic": "/camera", "video": True, **camera}},
    }
    return Ingested(spec_file(tmp_path, ros), bag, tmp_path / "store")


def shown(made):
    """Levels of the pictures, and the moments of their frames in tenths of a second."""
    levels = [float(pixels(data).mean()) for data in made.images("take", "front")]
    times = made.source("take")["timestamp"] * RATE
    start = (made.episode("take")["start_ns"] - START_NS) * RATE / SECOND
    return levels, (start + times).round().astype(int).tolist()


def tally(made):
    return made.episode("take")["attributes"]["ros"]["topics"]["/camera"]


@pytest.mark.parametrize(
    ("kind", "told"), [(VIDEO, "h264"), (PACKET, "h264;yuv420p;bgr8;bgr8"), (PACKET, "libx264")]
)
def test_every_packet_shows_the_picture_that_was_put_in(kind, told, tmp_path):
    made = ingested(tmp_path, bag_of(tmp_path / "take", encoded(LIVE), kind, told))
    levels, times = shown(made)
    assert times == list(range(COUNT))
    assert levels == pytest.approx([level(n) for n in range(COUNT)], abs=3)
    assert (tally(made)["read"], tally(made)["used"]) == (COUNT, COUNT)
    assert made.episode("take")["cameras"]["front"]["width"] == 64


def test_pictures_that_come_later_than_their_packets_are_shown_at_their_own(tmp_path):
    """Of pictures that are made of later ones too, the decoder gives each two packets later."""
    packets = encoded(BEHIND)
    numbers = [n for n, _ in packets]
    assert numbers != sorted(numbers)
    made = ingested(tmp_path, bag_of(tmp_path / "take", packets))
    levels, times = shown(made)
    assert times == list(range(COUNT)) and tally(made)["used"] == COUNT
    assert levels == pytest.approx([level(n) for n in times], abs=3)


@pytest.mark.parametrize("missing", [[0], [0, 1, 2], [8, 9], [3], [11]])
def test_packets_behind_a_lost_one_are_refused_up_to_the_next_key(missing, tmp_path):
    packets = [packet for packet in encoded(LIVE) if packet[0] not in missing]
    made = ingested(tmp_path, bag_of(tmp_path / "take", packets))
    levels, times = shown(made)
    assert levels == pytest.approx([level(n) for n in times], abs=3)
    told = tally(made)
    assert told["read"] == len(packets) == told["used"] + told["refused"]
    if missing[0] == 0:
        assert times == list(range(8, COUNT)) and told["refused"] == 8 - len(missing)
        assert "its packet gives no picture" in " ".join(made.report.warnings)


def test_what_is_no_packet_is_refused_by_name(tmp_path):
    bag = bag_of(tmp_path / "take", encoded(LIVE)[:3], told="vp8")
    with pytest.raises(FoundryError, match="its packets are of 'vp8', and h264 is read"):
        ingested(tmp_path, bag)
    noise = bag_of(tmp_path / "noise", [(n, bytes(range(64))) for n in range(3)])
    with pytest.raises(FoundryError, match="its packet gives no picture"):
        ingested(tmp_path, noise)
    with pytest.raises(FoundryError, match="say `video: true` of its camera"):
        ingested(tmp_path, bag, video=False)
