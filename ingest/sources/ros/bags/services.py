"""Calls of services in ROS 2 bags: a topic `<service>/_service_event` with what is sent and received of each.

rosbag2 writes such a topic with the text of the .srv file for its definition, of which rosbags can make
nothing.
"""

from __future__ import annotations

import re
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

TOPIC = "/_service_event"
EVENT = re.compile(r"(?P<package>[A-Za-z][A-Za-z0-9_]*)/srv/(?P<service>[A-Za-z][A-Za-z0-9_]*)_Event")
# Between the request and the response of a .srv file.
DIVIDER = re.compile(r"^---[ \t]*$", re.MULTILINE)
SEPARATOR = re.compile(r"^={80}[ \t]*$", re.MULTILINE)
INFO = "service_msgs/msg/ServiceEventInfo"
TIME = "builtin_interfaces/msg/Time"
# Of the first byte after the four of CDR: who saw the request, or else the response.
REQUEST_SENT, REQUEST_RECEIVED = 0, 1
INFO_BYTES = 44


def topic_of(service: str) -> str:
    """The topic of its calls."""
    return f"{service.removesuffix(TOPIC).rstrip('/')}{TOPIC}"


def is_event(type_name: str) -> bool:
    return EVENT.fullmatch(type_name) is not None


def event_kind(raw: bytes) -> int | None:
    """REQUEST_SENT, REQUEST_RECEIVED or a larger number; None if the bytes are no event."""
    return raw[4] if len(raw) >= INFO_BYTES and raw[0] == 0 else None


def event_types(definition: str, name: str) -> dict[str, Any] | None:
    """The types of an event by the text of its .srv file and what follows it; None if it is no such text.

    An event has `info`, and one `request` or one `response` where contents are recorded.
    """
    matched = EVENT.fullmatch(name)
    own, *others = SEPARATOR.split(definition)
    halves = DIVIDER.split(own)
    if matched is None or len(halves) != 2:
        return None
    package, service = matched["package"], matched["service"]
    rest = "".join(f"{'=' * 80}{other}" for other in others)
    types: dict[str, Any] = {kind: get_typestore(Stores.ROS2_JAZZY).fielddefs[kind] for kind in (INFO, TIME)}
    fields: list[tuple[str, Any]] = [("info", (Nodetype.NAME, INFO))]
    for half, text in zip(("Request", "Response"), halves, strict=True):
        kind = f"{package}/msg/{service}_{half}"
        types.update(get_types_from_msg(f"{text}\n{rest}", kind))
        # A message without a field has a byte in its place.
        types[kind] = types[kind] if types[kind][1] else ([], [("nothing", (Nodetype.BASE, ("uint8", 0)))])
        fields.append((half.lower(), (Nodetype.SEQUENCE, ((Nodetype.NAME, kind), 1))))
    types[name] = ([], fields)
    return types
