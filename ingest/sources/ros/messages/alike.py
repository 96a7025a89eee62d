"""Pictures that are like one before: told by the bytes before their pixels, so that none is decoded again."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
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

    `stamp` gives the seconds and nanoseconds of one. `told_by` takes `told` out of all of them; `size` is
    that of a JPEG, `num_listed` the number of the bytes of an Image.
    """

    def __init__(
        self,
        shape: Shape,
        stamp: Unpack,
        told_by: Callable[[Any], Any],
        told: Any,
        size: tuple[int, int] | None = None,
        num_listed: int | None = None,
    ) -> None:
        self.stamp = stamp
        self._shape, self._told_by, self._told = shape, told_by, told
        self._size, self._num_listed = size, num_listed

    @classmethod
    def of(cls, shape: Shape | None, message: Any, raw: Any, headers: images.Headers) -> Alike | None:
        """Those like this message, of whose type `size_of` knows the size; None if nothing tells them."""
        if shape is None or shape.end is None:
            return None
        stamp = stamp_unpacker(shape, message, raw)
        if stamp is None:
            return None
        if message.__msgtype__ == COMPRESSED:
            header = headers.shared(memoryview(message.data))
            if header is None:
                return None
            _, height, width = headers.probe(memoryview(message.data))
            of_header = itemgetter(slice(shape.num_bytes, shape.num_bytes + len(header)))
            return cls(shape, stamp, of_header, header, size=(height, width))
        if message.__msgtype__ != IMAGE:
            return None
        numbers_of = shape.unpacker([getattr(shape.places, name) for name in OF_PIXELS])
        num_listed = shape.num_listed(raw, len(raw))
        return cls(shape, stamp, numbers_of, numbers_of(raw), num_listed=num_listed)

    def fits(self, raw: Any, num_bytes: int) -> bool:
        """Whether a message of so many bytes is one, for which its beginning is enough."""
        return self._listed(raw, num_bytes) >= 0

    def encoded(self, raw: Any) -> Encoded | None:
        """The JPEG in a message, whose memory it shares; None if it is none, or not like the others."""
        if self._size is None:
            return None
        start, num_listed = self._shape.num_bytes, self._listed(raw, len(raw))
        if num_listed < 0:
            return None
        return Encoded(memoryview(raw)[start : start + num_listed], "jpeg", self._size)

    def _listed(self, raw: Any, num_bytes: int) -> int:
        """How many bytes of a picture a message has; -1 if it is none of these."""
        listed = self._shape.num_listed(raw, num_bytes)
        if listed < 0 or (self._num_listed is not None and listed != self._num_listed):
            return -1
        return listed if self._told_by(raw) == self._told else -1
