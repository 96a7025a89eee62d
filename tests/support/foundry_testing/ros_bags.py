"""Small ROS bags by the writers of rosbags, in every form, and messages to fill them with.

Legend: H W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from robot_foundry.shards.images import encode_jpeg

ROS1, ROS2 = get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.ROS2_HUMBLE)
# Which ROS 1 has in a package of its own.
ROS1.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", "tf2_msgs/msg/TFMessage"))
SECOND = 1_000_000_000
START_NS = 1_700_000_000 * SECOND
FORMS = (
    "bag",
    "bag-bz2",
    "bag-lz4",
    "db3",
    "db3-file",
    "db3-message",
    "mcap",
    "mcap-file",
    "mcap-message",
    "mcap-chunk",
)


@dataclass(frozen=True)
class Sent:
    """A message of a topic, as it was received `at` seconds after START_NS."""

    topic: str
    at: float
    type: str
    fields: Mapping[str, Any]

    @property
    def received_ns(self) -> int:
        return START_NS + round(self.at * SECOND)


def header(at: float | None, frame: str = "base") -> dict[str, Any]:
    """Of a stamp in seconds after START_NS; None for no time."""
    stamp_ns = 0 if at is None else START_NS + round(at * SECOND)
    return {"stamp": {"sec": stamp_ns // SECOND, "nanosec": stamp_ns % SECOND}, "frame_id": frame}


def joints(
    topic: str,
    at: float,
    positions: Mapping[str, float],
    *,
    stamp: float | None = None,
    has_stamp: bool = True,
    frame: str = "base",
) -> Sent:
    fields = {
        "header": header((at if stamp is None else stamp) if has_stamp else None, frame),
        "name": list(positions),
        "position": np.array(list(positions.values()), np.float64),
        "velocity": np.zeros(0),
        "effort": np.zeros(0),
    }
    return Sent(topic, at, "sensor_msgs/msg/JointState", fields)


def pose(topic: str, at: float, position: Sequence[float], quaternion_xyzw: Sequence[float]) -> Sent:
    return Sent(
        topic,
        at,
        "geometry_msgs/msg/PoseStamped",
        {
            "header": header(at),
            "pose": {
                "position": dict(zip("xyz", map(float, position), strict=True)),
                "orientation": dict(zip("xyzw", map(float, quaternion_xyzw), strict=True)),
            },
        },
    )


def transform(
    at: float,
    parent: str,
    child: str,
    position: Sequence[float],
    quaternion_xyzw: Sequence[float] = (0, 0, 0, 1),
    *,
    topic: str = "/tf",
) -> Sent:
    moved = {
        "header": header(at, parent),
        "child_frame_id": child,
        "transform": {
            "translation": dict(zip("xyz", map(float, position), strict=True)),
            "rotation": dict(zip("xyzw", map(float, quaternion_xyzw), strict=True)),
        },
    }
    return Sent(topic, at, "tf2_msgs/msg/TFMessage", {"transforms": [moved]})


def image(
    topic: str,
    at: float,
    data: NDArray[Any],
    encoding: str,
    *,
    height: int,
    width: int,
    step: int,
    big: bool = False,
) -> Sent:
    """The bytes of `data` as they are."""
    fields = {
        "header": header(at),
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": int(big),
        "step": step,
        "data": np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8),
    }
    return Sent(topic, at, "sensor_msgs/msg/Image", fields)


def rgb(topic: str, at: float, pixels_HW3: NDArray[np.uint8]) -> Sent:
    height, width, _ = pixels_HW3.shape
    return image(topic, at, pixels_HW3, "rgb8", height=height, width=width, step=3 * width)


def compressed(topic: str, at: float, data: bytes, form: str = "jpeg", *, stamp: float | None = None) -> Sent:
    fields = {
        "header": header(at if stamp is None else stamp),
        "format": form,
        "data": np.frombuffer(data, np.uint8),
    }
    return Sent(topic, at, "sensor_msgs/msg/CompressedImage", fields)


def jpeg(level: int, height: int = 16, width: int = 24) -> bytes:
    return encode_jpeg(np.full((height, width, 3), level, np.uint8))


def text(topic: str, at: float, value: str) -> Sent:
    return Sent(topic, at, "std_msgs/msg/String", {"data": value})


def truth(topic: str, at: float, value: bool) -> Sent:
    return Sent(topic, at, "std_msgs/msg/Bool", {"data": value})


def numbers(topic: str, at: float, values: Sequence[float]) -> Sent:
    layout = {"dim": [], "data_offset": 0}
    fields = {"layout": layout, "data": np.array(values, np.float64)}
    return Sent(topic, at, "std_msgs/msg/Float64MultiArray", fields)


def write_bag(
    place: Path,
    sent: Iterable[Sent],
    form: str = "mcap",
    *,
    chunk_bytes: int | None = None,
    in_order: bool = True,
    store: Any = ROS2,
) -> Path:
    """A bag in that form: a file for ROS 1, a folder for ROS 2; messages in order of receipt, or as sent.

    `store` has the types of ROS 2.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    messages = sorted(sent, key=lambda message: message.received_ns) if in_order else list(sent)
    kind, _, how = form.partition("-")
    if kind == "bag":
        path = place.with_suffix(".bag")
        with _ros1(path, how, chunk_bytes) as ros1:
            _write(ros1, messages, ROS1)
        return path
    plugin = StoragePlugin.MCAP if kind == "mcap" else StoragePlugin.SQLITE3
    writer = Writer2(place, version=9, storage_plugin=plugin)
    if how:
        mode = {
            "file": CompressionMode.FILE,
            "message": CompressionMode.MESSAGE,
            "chunk": CompressionMode.STORAGE,
        }
        writer.set_compression(mode[how], CompressionFormat.ZSTD)
    with writer:
        _write(writer, messages, store, chunk_bytes if kind == "mcap" else None)
    return place


def _ros1(path: Path, how: str, chunk_bytes: int | None) -> Writer1:
    writer = Writer1(path)
    if how:
        writer.set_compression(Writer1.CompressionFormat[how.upper()])
    if chunk_bytes is not None:
        writer.chunk_threshold = chunk_bytes
    return writer


def _write(writer: Any, messages: Sequence[Sent], store: Any, chunk_bytes: int | None = None) -> None:
    connections: dict[tuple[str, str], Any] = {}
    for message in messages:
        key = message.topic, message.type
        if key not in connections:
            connections[key] = writer.add_connection(*key, typestore=store)
        content = message_of(store, message)
        serialize = store.serialize_ros1 if store is ROS1 else store.serialize_cdr
        writer.write(connections[key], message.received_ns, serialize(content, message.type))
        if chunk_bytes is not None and writer.storage.chunk.bio.tell() > chunk_bytes:
            writer.storage.close_chunk()


def message_of(store: Any, sent: Sent) -> Any:
    """What rosbags serialises."""
    return built(store, sent.type, sent.fields)


def built(store: Any, name: str, values: Mapping[str, Any]) -> Any:
    """The message of a type by field; what ROS 1 alone has is 0."""
    made = {}
    for field, described in store.fielddefs[name][1]:
        value = values.get(field, 0)
        what = described[1]
        if isinstance(value, Mapping):
            value = built(store, what, value)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            value = [built(store, what[0][1], item) for item in value]
        made[field] = value
    return store.types[name](**made)


def arm(seconds: float = 2.0) -> list[Sent]:
    """An arm of two joints at 50 Hz, q = (t, -2 t), and its camera at 10 Hz, whose level is 10 t."""
    positions = [
        joints("/joint_states", at, {"a": at, "b": -2.0 * at}, stamp=at)
        for at in (n / 50 for n in range(round(50 * seconds)))
    ]
    pictures = [compressed("/camera", n / 10, jpeg(n)) for n in range(round(10 * seconds))]
    return [*positions, *pictures]


def spec_file(
    folder: Path, ros: Mapping[str, Any] | None = None, mapping: Mapping[str, Any] | None = None
) -> Path:
    """A spec for `arm` with keys of `content.ros` and of `mapping` in place of its own."""
    values = {
        "layout": "ros",
        "content": {
            "ros": {
                "rate": 20,
                "cameras": {"front": {"topic": "/camera"}},
                "streams": {"joints": {"topic": "/joint_states", "field": "position", "names": ["a", "b"]}},
                **(ros or {}),
            }
        },
        "mapping": {
            "embodiment": "arm",
            "cameras": {"front": "primary"},
            "instruction": {"text": "wave"},
            "state": {"right.joint_position": {"key": "joints"}},
            "actions": {"next_state": {"right.joint_position": {"from": "next_state"}}},
            **(mapping or {}),
        },
    }
    path = folder / "spec.yaml"
    path.write_text(json.dumps(values), "utf-8")  # which is YAML too
    return path
