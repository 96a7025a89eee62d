"""Demonstrations as ROS 2 recordings: a folder of `episode-000000.mcap`, …, written without ROS.

    /<camera>/image_raw   sensor_msgs/Image            rgb8
    /tool_pose            geometry_msgs/PoseStamped    obs/eef_pos (m) and obs/eef_quat (xyzw)
    /<name>               sensor_msgs/JointState       any other array of numbers that is observed
    /command              std_msgs/Float64MultiArray   actions; the label of its dimension names the columns
    /task  /embodiment    std_msgs/String              once, with the first frame
    /seed                 std_msgs/Int64               the same
    /success              std_msgs/Bool                once, with the last frame

Poses of two arms are /right_tool_pose and /left_tool_pose. Every message is received at the time that its
header has: frame n of episode i at START_NS + i minutes + n / control_hz.

Shape suffixes: K numbers of a row; HW3 picture.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from robot_foundry.evaluation.recorders.recorder import POSITION, ROTATION, Common, Demonstration, Parts

START_NS, MINUTE_NS, SECOND_NS = 1_700_000_000_000_000_000, 60_000_000_000, 1_000_000_000
FRAME_ID = "world"
# Files are called so until all are there, so that nobody takes some of the episodes for all.
UNFINISHED = ".unfinished"


class McapRecorder:
    """See `Recorder`."""

    def __init__(self, place: Path, common: Common) -> None:
        self._place, self._common = place, common

    def __enter__(self) -> McapRecorder:
        return self

    def add(self, demonstration: Demonstration) -> None:
        # The writer makes a folder around its file, for metadata that the file has itself. Names that end in
        # _<number> are those of parts of one recording.
        name = f"episode-{demonstration.index:06d}"
        folder = self._place / name
        writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        writer.set_custom_data("environment", json.dumps(self._common.environment, sort_keys=True))
        with writer:
            _Bag(writer, self._common).write(demonstration)
        (folder / "metadata.yaml").unlink()
        (written,) = folder.iterdir()
        os.replace(written, self._place / f"{name}.mcap{UNFINISHED}")
        folder.rmdir()

    def __exit__(self, failed: object, *_: object) -> None:
        if failed is None:
            for path in sorted(self._place.glob(f"*.mcap{UNFINISHED}")):
                os.replace(path, path.with_suffix(""))


@cache
def _types() -> Any:
    return get_typestore(Stores.ROS2_HUMBLE)


def _message(name: str, /, **fields: Any) -> Any:
    return _types().types[name](**fields)


class _Bag:
    """An open bag that one demonstration is written to."""

    def __init__(self, writer: Writer, common: Common) -> None:
        self._writer, self._common = writer, common
        self._connections: dict[str, Any] = {}

    def write(self, demonstration: Demonstration) -> None:
        recording, parts = demonstration.recording, Parts.of(demonstration.recording)
        start_ns = START_NS + demonstration.index * MINUTE_NS
        step_ns, last = SECOND_NS / self._common.control_hz, demonstration.num_frames - 1
        for frame in range(last + 1):
            at_ns = start_ns + round(frame * step_ns)
            if frame == 0:
                self._put(at_ns, "/task", _message("std_msgs/msg/String", data=recording.instruction))
                self._put(at_ns, "/embodiment", _message("std_msgs/msg/String", data=self._common.embodiment))
                self._put(at_ns, "/seed", _message("std_msgs/msg/Int64", data=demonstration.seed))
            for topic, message in self._messages(parts, frame, at_ns).items():
                self._put(at_ns, topic, message)
            if frame == last:
                self._put(at_ns, "/success", _message("std_msgs/msg/Bool", data=recording.success))

    def _messages(self, parts: Parts, frame: int, at_ns: int) -> dict[str, Any]:
        """Those of one frame by topic."""
        header = _header(at_ns)
        messages = {
            f"/{camera}/image_raw": _image(header, picture_NHW3[frame])
            for camera, picture_NHW3 in parts.pictures.items()
        }
        poses = _poses(parts.numbers)
        for arm, (position, rotation) in poses.items():
            position_3, quaternion_4 = parts.numbers[position][frame], parts.numbers[rotation][frame]
            messages[f"/{arm}tool_pose"] = _pose(header, position_3, quaternion_4)
        in_poses = {name for pair in poses.values() for name in pair}
        for name, numbers_NK in parts.numbers.items():
            if name not in in_poses:
                messages[f"/{name}"] = _joints(header, name, numbers_NK[frame])
        messages["/command"] = _numbers(self._common.columns, parts.action_NC[frame])
        return messages

    def _put(self, at_ns: int, topic: str, message: Any) -> None:
        kind = message.__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=_types())
        self._writer.write(self._connections[topic], at_ns, _types().serialize_cdr(message, kind))


def _poses(numbers: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Names of position and rotation by what comes before both, such as 'right_'."""
    arms = [name.removesuffix(POSITION) for name in numbers if name.endswith(POSITION)]
    return {arm: (arm + POSITION, arm + ROTATION) for arm in arms if arm + ROTATION in numbers}


def _header(at_ns: int) -> Any:
    stamp = _message("builtin_interfaces/msg/Time", sec=at_ns // SECOND_NS, nanosec=at_ns % SECOND_NS)
    return _message("std_msgs/msg/Header", stamp=stamp, frame_id=FRAME_ID)


def _image(header: Any, picture_HW3: NDArray[np.uint8]) -> Any:
    height, width, channels = picture_HW3.shape
    return _message(
        "sensor_msgs/msg/Image",
        header=header,
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=width * channels,
        data=np.ascontiguousarray(picture_HW3).reshape(-1),
    )


def _pose(header: Any, position_3: NDArray[np.float64], quaternion_4: NDArray[np.float64]) -> Any:
    position = dict(zip("xyz", position_3.tolist(), strict=True))
    orientation = dict(zip("xyzw", quaternion_4.tolist(), strict=True))
    pose = _message(
        "geometry_msgs/msg/Pose",
        position=_message("geometry_msgs/msg/Point", **position),
        orientation=_message("geometry_msgs/msg/Quaternion", **orientation),
    )
    return _message("geometry_msgs/msg/PoseStamped", header=header, pose=pose)


def _joints(header: Any, name: str, numbers_K: NDArray[np.float64]) -> Any:
    names = [name] if len(numbers_K) == 1 else [f"{name}_{k}" for k in range(len(numbers_K))]
    none = np.zeros(0)
    return _message(
        "sensor_msgs/msg/JointState",
        header=header, name=names, position=np.asarray(numbers_K, np.float64), velocity=none, effort=none,
    )  # fmt: skip


def _numbers(columns: tuple[str, ...], numbers_C: NDArray[np.float64]) -> Any:
    size = len(columns)
    dimension = _message("std_msgs/msg/MultiArrayDimension", label=" ".join(columns), size=size, stride=size)
    layout = _message("std_msgs/msg/MultiArrayLayout", dim=[dimension], data_offset=0)
    return _message("std_msgs/msg/Float64MultiArray", layout=layout, data=np.asarray(numbers_C, np.float64))
