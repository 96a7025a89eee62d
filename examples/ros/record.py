"""Write a small ROS 2 bag, as a lab records one: an arm at 100 Hz, its camera at 15, a task, lost messages.

python examples/ros/record.py FOLDER
"""

from __future__ import annotations

import sys
from math import cos, sin

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from robot_foundry.shards.images import encode_jpeg

START_NS, SECOND = 1_700_000_000_000_000_000, 1_000_000_000
SECONDS = 4
STORE = get_typestore(Stores.ROS2_HUMBLE)


def message(name: str, /, **fields: object) -> object:
    return STORE.types[name](**fields)


def header(at_ns: int) -> object:
    stamp = message("builtin_interfaces/msg/Time", sec=at_ns // SECOND, nanosec=at_ns % SECOND)
    return message("std_msgs/msg/Header", stamp=stamp, frame_id="base")


def joints(at_ns: int, seconds: float) -> object:
    position = np.array([sin(seconds), cos(seconds)])
    none = np.zeros(0)
    return message(
        "sensor_msgs/msg/JointState",
        header=header(at_ns), name=["shoulder", "elbow"], position=position, velocity=none, effort=none,
    )  # fmt: skip


def picture(at_ns: int, seconds: float) -> object:
    pixels_HW3 = np.zeros((48, 64, 3), np.uint8)
    pixels_HW3[:, round(30 + 20 * sin(seconds)) :] = (200, 80, 40)
    data = np.frombuffer(encode_jpeg(pixels_HW3), np.uint8)
    return message("sensor_msgs/msg/CompressedImage", header=header(at_ns), format="jpeg", data=data)


def main(folder: str) -> None:
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        made = {
            topic: (writer.add_connection(topic, name, typestore=STORE), name)
            for topic, name in {
                "/joint_states": "sensor_msgs/msg/JointState",
                "/camera/compressed": "sensor_msgs/msg/CompressedImage",
                "/task": "std_msgs/msg/String",
                "/rosout_agg": "std_msgs/msg/String",
            }.items()
        }

        def write(topic: str, received_ns: int, content: object) -> None:
            connection, name = made[topic]
            writer.write(connection, received_ns, STORE.serialize_cdr(content, name))

        write("/task", START_NS, message("std_msgs/msg/String", data="wave"))
        for n in range(100 * SECONDS):
            at_ns = START_NS + n * SECOND // 100
            if n % 97 != 96:  # lost on the way
                write("/joint_states", at_ns + 2_000_000, joints(at_ns, n / 100))
            if n % 50 == 0:
                write("/rosout_agg", at_ns, message("std_msgs/msg/String", data="alive"))
        for n in range(15 * SECONDS):
            at_ns = START_NS + n * SECOND // 15
            write("/camera/compressed", at_ns + 30_000_000, picture(at_ns, n / 15))


if __name__ == "__main__":
    main(*sys.argv[1:])
