"""Pictures that are like one before: told by the bytes before their pixels, so that none is decoded again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robot_foundry.ingest.sources.robot.source_episode import Encoded
from robot_foundry.ingest.sources.ros.bags.shapes import Shape, Unpack
from robot_foundry.ingest.sources.ros.messages.fields import NANOSECONDS, stamp_of
from robot_foundry.ingest.sources.ros.messages.images import COMPRESSED, IMAGE
from robot_foundry.shards import images

# What decides, with the encoding and the number of bytes, how the pixels of an Image are read.
OF_PIXELS = ("height", "width", "step", "is_bigendian")


def stamp_unpacker(shape: Shape, message: Any, raw: Any) -> Unpack | None:
    """What takes seconds and nanoseconds of a header out of messages like this one; None if it cannot."""
    stamp = getattr(getattr(shape.places, "header", None), "stamp", None)
    unpack = _no_stamp if stamp is None else shape.unpacker([stamp.sec, stamp.nanosec])
    seconds, nanoseconds = unpack(raw)
    if not isinstance(seconds, int) or not isinstance(nanoseconds, int):
        return None
    return unpack if seconds * NANOSECONDS + nanoseconds == stamp_of(message) else None


def _no_stamp(raw: Any) -> tuple[int, int]:
    return 0, 0


class Alike:
    """Pictures like one whose size is known: CompressedImage with the same header of JPEG, Image in numbers.

    `fits` tells whether a message is one, `stamp` gives its seconds and nanoseconds.
    """

    def __init__(
        self, shape: Shape, stamp: Unpack, is_like: Callable[[Any], bool], size: tuple[int, int] | None
    ) -> None:
        self._shape, self._is_like, self._size = shape, is_like, size
        self.stamp = stamp

    @classmethod
    def of(cls, shape: Shape | None, message: Any, raw: Any, headers: images.Headers) -> Alike | None:
        """Those like this message, of whose type `size_of` knows the size; None if nothing tells them."""
        if shape is None or shape.end is None:
            return None
        stamp, start = stamp_unpacker(shape, message, raw), shape.num_bytes
        if stamp is None:
            return None
        if message.__msgtype__ == COMPRESSED:
            header = headers.shared(memoryview(message.data))
            if header is None:
                return None
            _, height, width = headers.probe(memoryview(message.data))
            end = start + len(header)
            return cls(shape, stamp, lambda raw: bool(raw[start:end] == header), (height, width))
        if message.__msgtype__ != IMAGE:
            return None
        numbers_of = shape.unpacker([getattr(shape.places, name) for name in OF_PIXELS])
        numbers, num_bytes = numbers_of(raw), len(raw)
        return cls(shape, stamp, lambda raw: len(raw) == num_bytes and numbers_of(raw) == numbers, None)

    def fits(self, raw: Any) -> bool:
        return self._shape.fits(raw) and self._is_like(raw)

    def encoded(self, raw: Any) -> Encoded | None:
        """The JPEG in a message, whose memory it shares; None if it is none, or not like the others."""
        if self._size is None:
            return None
        start, num_bytes = self._shape.num_bytes, self._shape.num_listed(raw)
        if num_bytes < 0 or not self._is_like(raw):
            return None
        return Encoded(memoryview(raw)[start : start + num_bytes], "jpeg", self._size)
