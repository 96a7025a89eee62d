"""What makes messages of bytes: rosbags, or a message of the same shape that is filled anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.formats.streams import ZSTD, decompressed, whole
from robot_foundry.ingest.sources.ros.bags.definitions import UNREADABLE, Undecodable
from robot_foundry.ingest.sources.ros.bags.shapes import BYTES, Shape, shape_of
from robot_foundry.ingest.sources.unusable import Broken

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
LARGEST_MESSAGE = 1 << 30
# Shapes are made of so many messages of a channel at most, and so many are kept: if there are more, then the
# next message has another one again.
MOST_MADE, MOST_KEPT = 32, 4

Refill = Callable[[Any], Any]


class Decoder:
    """Makes messages of the bytes of one channel.

    A message, and all arrays in it, hold until the next one is made.
    """

    def __init__(self, store: Typestore, name: str, *, is_ros1: bool) -> None:
        self._store, self._name, self._is_ros1 = store, name, is_ros1
        last = store.get_msgdef(name).fields[-1:]
        self._ends_in_bytes = bool(last) and last[0][1][0] == Nodetype.SEQUENCE and last[0][1][1][0] == BYTES
        self._refills: list[tuple[Shape, Refill]] = []
        self._num_made = 0

    def __call__(self, raw: Any) -> Any:
        """The message. Undecodable if the bytes are none."""
        raw = self.plain(raw)
        for shape, refill in self._refills:
            if shape.fits(raw):
                return refill(raw)
        try:
            if self._is_ros1:
                message = self._store.deserialize_ros1(raw, self._name)
            else:
                message = self._store.deserialize_cdr(raw, self._name)
        except UNREADABLE as error:
            raise Undecodable("its bytes are no message of its type") from error
        if self._ends_in_bytes and self._num_made < MOST_MADE:
            self._num_made += 1
            shape = self.shape(raw)
            refill_of = None if shape is None else _refill(shape, message)
            if shape is not None and refill_of is not None:
                self._refills = [(shape, refill_of), *self._refills][:MOST_KEPT]
        return message

    def plain(self, raw: Any) -> Any:
        """The bytes, out of the zstd frame that they may lie in. Undecodable if that is damaged."""
        return raw if self._is_ros1 else plain(raw)

    def shape(self, raw: Any) -> Shape | None:
        """That of a message which could be decoded, if it has one."""
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


def _refill(shape: Shape, message: Any) -> Refill | None:
    """What fills the message with the numbers and bytes of another one of its shape; None if it has lists."""
    if shape.end is None:
        return None
    slots = list(_slots(shape.places, message))
    *numbers, (last, bytes_field, _) = slots
    if any(not isinstance(place, int) for _, _, place in numbers):
        return None
    owners = [(owner, field) for owner, field, _ in numbers]
    unpack = shape.unpacker([place for _, _, place in numbers]) if numbers else tuple
    start = shape.num_bytes

    def refill(raw: Any) -> Any:
        for (owner, field), value in zip(owners, unpack(raw) if owners else (), strict=True):
            setattr(owner, field, value)
        setattr(last, bytes_field, np.frombuffer(raw, np.uint8, shape.num_listed(raw), start))
        return message

    return refill


def _slots(places: Any, message: Any) -> Iterator[tuple[Any, str, Any]]:
    """Where numbers and lists are in the message: its part, the name of the field, and their places."""
    for entry in dataclasses.fields(places):
        place, value = getattr(places, entry.name), getattr(message, entry.name)
        if dataclasses.is_dataclass(value):
            yield from _slots(place, value)
        elif not isinstance(place, str):
            yield message, entry.name, place
