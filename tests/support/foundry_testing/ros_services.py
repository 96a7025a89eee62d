"""Bags with calls of services as `ros2 bag record --all-services` writes them: .srv texts, bytes by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rosbags.rosbag2 import StoragePlugin, Writer

from foundry_testing.ros_bags import ROS2, SECOND, START_NS, Sent, built

SENT, RECEIVED = 0, 1
DEFINITIONS = {
    "Trigger": "---\nbool success # whether it ran\nstring message\n",
    "SetBool": "bool data\n---\nbool success\nstring message\n",
}


@dataclass(frozen=True)
class Event:
    """`kind` 0 … 3: request sent and received, response sent and received. `data` None: without contents."""

    service: str
    type: str
    at: float
    kind: int
    number: int
    data: bool | None = True
    raw: bytes | None = None

    @property
    def received_ns(self) -> int:
        return START_NS + round(self.at * SECOND)

    def serialized(self) -> bytes:
        """CDR, little-endian: kind, stamp, sixteen bytes of the client, number, then both sequences."""
        if self.raw is not None:
            return self.raw
        stamp = self.received_ns
        info = struct.pack("<B3xiI16s4xq", self.kind, stamp // SECOND, stamp % SECOND, b"c" * 16, self.number)
        request, response = b"", b""
        if self.data is not None and self.kind < 2:
            request = bytes([self.data if self.type == "SetBool" else 0])
        elif self.data is not None:
            response = struct.pack("<B3xI1s", 1, 1, b"\0")
        requests = struct.pack("<I", bool(request)) + request
        padding = b"\0" * (-len(requests) % 4)
        return b"\0\1\0\0" + info + requests + padding + struct.pack("<I", bool(response)) + response


@dataclass(frozen=True)
class CallBag:
    folder: Path
    plugin: StoragePlugin = StoragePlugin.MCAP

    def write(self, sent: Sequence[Sent], events: Sequence[Event]) -> Path:
        """The folder, with all in order of receipt."""
        made: dict[str, tuple[object, str]] = {}
        with Writer(self.folder, version=9, storage_plugin=self.plugin) as writer:
            for item in sorted([*sent, *events], key=lambda one: one.received_ns):
                if isinstance(item, Event):
                    topic, kind = f"{item.service}/_service_event", f"std_srvs/srv/{item.type}_Event"
                    raw, definition = (
                        item.serialized(),
                        {"msgdef": DEFINITIONS[item.type], "rihs01": "RIHS01_0"},
                    )
                else:
                    topic, kind = item.topic, item.type
                    raw = ROS2.serialize_cdr(built(ROS2, kind, item.fields), kind)
                    definition = {"typestore": ROS2}
                if topic not in made:
                    made[topic] = writer.add_connection(topic, kind, **definition), kind
                writer.write(made[topic][0], item.received_ns, raw)
        return self.folder
