"""What makes messages of bytes, as rosbags decodes them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.formats.streams import ZSTD, decompressed, whole
from robot_foundry.ingest.sources.ros.bags.definitions import UNREADABLE, Undecodable
from robot_foundry.ingest.sources.ros.bags.shapes import Shape, shape_of
from robot_foundry.ingest.sources.unusable import Broken

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
LARGEST_MESSAGE = 1 << 30
# Of the fields that are told of a type: its definition may nest them without end.
DEEPEST, MOST_FIELDS = 8, 256


class Decoder:
    """Makes messages of the bytes of one channel; arrays in a message share its bytes."""

    def __init__(self, store: Typestore, name: str, *, is_ros1: bool) -> None:
        self._store, self._name, self._is_ros1 = store, name, is_ros1

    def __call__(self, raw: Any) -> Any:
        """The message. Undecodable if the bytes are none."""
        raw = self.plain(raw)
        try:
            if self._is_ros1:
                return self._store.deserialize_ros1(raw, self._name)
            return self._store.deserialize_cdr(raw, self._name)
        except UNREADABLE as error:
            raise Undecodable("its bytes are no message of its type") from error

    def plain(self, raw: Any) -> Any:
        """The bytes, out of the zstd frame that they may lie in. Undecodable if that is damaged."""
        return raw if self._is_ros1 else plain(raw)

    def fields(self) -> list[str]:
        """Paths of the numbers and texts of its messages with their types: `pose.position.x: float64`."""
        return list(islice(self._fields(self._name, "", 0), MOST_FIELDS))

    def _fields(self, name: str, before: str, depth: int) -> Iterator[str]:
        if depth > DEEPEST or name not in self._store.fielddefs:
            return
        described: Any
        for field, described in self._store.fielddefs[name][1]:
            is_list = described[0] in (Nodetype.ARRAY, Nodetype.SEQUENCE)
            (inner, inside), count = described[1] if is_list else (described, 0)
            path = f"{before}{field}"
            if inner == Nodetype.NAME:
                yield from self._fields(inside, f"{path}[0]." if is_list else f"{path}.", depth + 1)
            else:
                yield f"{path}: {inside[0]}" + (f"[{count or ''}]" if is_list else "")

    def shape(self, raw: Any) -> Shape | None:
        """That of a message which could be decoded, by its plain bytes, if it has one."""
        return shape_of(raw, self._store, self._name, is_ros1=self._is_ros1)


def plain(raw: Any) -> Any:
    """The bytes of a message of ROS 2, which may be compressed by itself, as only metadata.yaml says.

    Undecodable if its zstd frame is damaged. CDR begins with a zero.
    """
    if raw[:4] != ZSTD_MAGIC:
        return raw
    try:
        content = whole(decompressed([raw], ZSTD), LARGEST_MESSAGE)
    except (Refused, Broken) as error:
        raise Undecodable("its zstd frame is damaged") from error
    if content is None:
        raise Undecodable(f"it has more than {LARGEST_MESSAGE} bytes")
    return content
