"""Bags with calls of services as `ros2 bag record --all-services` writes them: .srv texts, bytes by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer

from foundry_testing.ros_bags import ROS2, SECOND, START_NS, Sent, message_of

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

    @property
    def topic(self) -> str:
        return f"{self.service}/_service_event"

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
        made: dict[str, Connection] = {}
        in_order: list[Sent | Event] = [*sent, *events]
        in_order.sort(key=lambda item: item.received_ns)
        with Writer(self.folder, version=9, storage_plugin=self.plugin) as writer:
            for item in in_order:
                raw: bytes | memoryview
                if isinstance(item, Event):
                    topic, kind, raw = item.topic, f"std_srvs/srv/{item.type}_Event", item.serialized()
                    if topic not in made:
                        made[topic] = writer.add_connection(
                            topic, kind, msgdef=DEFINITIONS[item.type], rihs01="RIHS01_0"
                        )
                else:
                    topic, raw = item.topic, ROS2.serialize_cdr(message_of(ROS2, item), item.type)
                    if topic not in made:
                        made[topic] = writer.add_connection(topic, item.type, typestore=ROS2)
                writer.write(made[topic], item.received_ns, raw)
        return self.folder
