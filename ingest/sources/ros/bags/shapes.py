"""Where numbers lie in the bytes of messages that are alike but for their numbers.

A robot sends the same names and lists of the same lengths again and again: then every number stands where it
stood in the message before, and need not be looked for.

Shape suffix: d numbers of one message.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from robot_foundry.ingest.sources.ros.bags.damage import BROKEN

# The letters of `struct`. Types that ROS 1 and ROS 2 read in two ways are not among them.
CODES = {
    "bool": "?",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}
# Behind the bytes that say that they are CDR, and up to where it may be filled up.
CDR_HEAD, CDR_FILL = 4, 3
MOST_NUMBERS = 4096
BYTES, COUNT = (Nodetype.BASE, ("uint8", 0)), 4
BYTE_ORDERS: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}

Unpack = Callable[[Any], Sequence[Any]]


class _Unknown(Exception):
    """A type that no shape is made of."""


UNKNOWN: tuple[type[Exception], ...] = (_Unknown, *BROKEN)


@dataclass(frozen=True)
class Shape:
    """What messages have in common: `fixed` bytes, which decide where all else lies; `fixed_of` takes
    them, and behind them the number of further bytes if it ends in a list of bytes.

    `places` is a message that has the place of each number in its stead, and no bytes at its `end`: there
    the number of further bytes stands if the message ends in a list of bytes, which may have any length.
    """

    fixed: tuple[bytes, ...]
    fixed_of: Unpack
    num_bytes: int
    end: int | None
    fill: int
    places: Any
    order: str
    codes: dict[int, str]

    def fits(self, raw: Any) -> bool:
        """Whether a message has this shape."""
        if self.end is None:
            return len(raw) == self.num_bytes and self.fixed_of(raw) == self.fixed
        return self.num_listed(raw, len(raw)) >= 0

    def num_listed(self, raw: Any, num_bytes: int) -> int:
        """How many bytes the list has that the message ends in; -1 if it has not this shape.

        The beginning of the message is enough, if it has `num_bytes`.
        """
        if len(raw) < self.num_bytes:
            return -1
        found = self.fixed_of(raw)
        listed = int(found[-1])
        is_so = 0 <= num_bytes - self.num_bytes - listed <= self.fill and found[:-1] == self.fixed
        return listed if is_so else -1

    def doubles(self, places_d: ArrayLike) -> slice | None:
        """The bytes of the numbers at these places [d], if they are float64 side by side, as here."""
        places = np.asarray(places_d, np.int64).tolist()
        is_here = BYTE_ORDERS[self.order] == sys.byteorder
        if not is_here or any(self.codes[place] != "d" for place in places):
            return None
        end = places[0] + 8 * len(places)
        return slice(places[0], end) if places == list(range(places[0], end, 8)) else None

    def unpacker(self, places_d: ArrayLike) -> Unpack:
        """What takes the numbers at these places [d] out of a message of this shape."""
        unique, which_d = np.unique(np.asarray(places_d, np.int64), return_inverse=True)
        form, place = self.order, 0
        for number in unique.tolist():
            form += f"{number - place}x{self.codes[number]}"
            place = number + struct.calcsize(f"={self.codes[number]}")
        unpack = struct.Struct(form).unpack_from
        if which_d.tolist() == list(range(len(unique))):
            return unpack
        pick = itemgetter(*which_d.tolist())
        return lambda raw: pick(unpack(raw))


def shape_of(raw: Any, store: Typestore, name: str, *, is_ros1: bool) -> Shape | None:
    """The shape of a message that could be decoded; None where its type has numbers of an odd kind."""
    walk = _Walk(bytes(raw), store, is_ros1)
    try:
        places = walk.message(name, is_last=True)
    except UNKNOWN:
        return None
    fill = 0 if is_ros1 else CDR_FILL
    behind = len(raw) - walk.place
    if walk.end is None and not 0 <= behind <= fill:
        return None
    num_bytes = len(raw) if walk.end is None else walk.place
    form, place = walk.order, 0
    for start, stop in walk.fixed:
        form += f"{start - place}x{stop - start}s"
        place = stop
    if walk.end is not None:
        form += f"{walk.end - place}xI"
    fixed_of = struct.Struct(form).unpack_from
    fixed = fixed_of(raw) if walk.end is None else fixed_of(raw)[:-1]
    return Shape(fixed, fixed_of, num_bytes, walk.end, fill, places, walk.order, walk.codes)


class _Walk:
    """Goes through a message field by field, as CDR or ROS 1 lay them out."""

    def __init__(self, raw: bytes, store: Typestore, is_ros1: bool) -> None:
        self.raw, self.store, self.is_ros1 = raw, store, is_ros1
        self.place = 0 if is_ros1 else CDR_HEAD
        self.order = "<" if is_ros1 or raw[1] else ">"
        self.fixed: list[tuple[int, int]] = [] if is_ros1 else [(0, 2)]
        self.codes: dict[int, str] = {}
        self.end: int | None = None
        self._follows_fixed = False

    def message(self, name: str, *, is_last: bool) -> Any:
        definition = self.store.get_msgdef(name)
        last = len(definition.fields) - 1
        values = {
            field: self._field(described, is_last=is_last and number == last)
            for number, (field, described) in enumerate(definition.fields)
        }
        return definition.cls(**values)

    def _field(self, described: Any, *, is_last: bool) -> Any:
        kind, what = described
        if kind == Nodetype.NAME:
            return self.message(what, is_last=is_last)
        if kind == Nodetype.BASE:
            return self._text() if what[0] == "string" else self._number(what[0])
        element, count = what
        if kind == Nodetype.SEQUENCE:
            if is_last and element == BYTES:
                self._align(COUNT)
                self.end = self.place
                self.place += COUNT
                return np.zeros(0, np.uint8)
            count = self._count()
        if count > MOST_NUMBERS or len(self.codes) > MOST_NUMBERS:
            raise _Unknown
        items = [self._field(element, is_last=False) for _ in range(count)]
        is_numbers = element[0] == Nodetype.BASE and element[1][0] != "string"
        return np.array(items, np.int64) if is_numbers else items

    def _number(self, kind: str) -> int:
        if kind not in CODES:
            raise _Unknown
        size = struct.calcsize(f"={CODES[kind]}")
        self._align(size)
        place = self.place
        self.codes[place] = CODES[kind]
        self.place += size
        self._follows_fixed = False
        return place

    def _text(self) -> str:
        size = self._count()
        text = self.raw[self.place : self.place + size]
        self._fix(size)
        return text.removesuffix(b"\0").decode()

    def _count(self) -> int:
        self._align(COUNT)
        number = int.from_bytes(self.raw[self.place : self.place + COUNT], BYTE_ORDERS[self.order])
        self._fix(COUNT)
        return number

    def _fix(self, size: int) -> None:
        start = self.fixed.pop()[0] if self._follows_fixed else self.place
        self.place += size
        self.fixed.append((start, self.place))
        self._follows_fixed = True

    def _align(self, size: int) -> None:
        if not self.is_ros1:
            self.place += -(self.place - CDR_HEAD) % size
