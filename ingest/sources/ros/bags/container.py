"""What every open file of messages offers, and how reading goes on where one is broken."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from rosbags.interfaces import Connection
from rosbags.rosbag1 import ReaderError as Error1
from rosbags.rosbag2 import ReaderError as Error2

from robot_foundry.ingest.sources.ros.bags.damage import BROKEN, Damage, in_words
from robot_foundry.ingest.sources.ros.bags.decoders import Decoder

ERRORS: tuple[type[Exception], ...] = (*BROKEN, Error1, Error2)
OF_FILES: tuple[type[Exception], ...] = (*ERRORS, sqlite3.Error)
NOWHERE = -1
BEGINNING, FOR_EVER = -(2**63), 2**63 - 1  # of time in ns


@dataclass(frozen=True)
class Channel:
    """What one publisher wrote to a topic: a connection of a part of the bag.

    `decode` makes a message of bytes; None if nothing can, and `problem` says why after the type's name.
    `num_messages` is what the file says of itself. `number` tells it from the others of the bag, `part` is
    that of the part.
    """

    topic: str
    type: str
    num_messages: int
    decode: Decoder | None
    problem: str | None = None
    number: int = 0
    part: int = 0


class Message(NamedTuple):
    """Bytes of a channel, which came at `received_ns`, since 1970 by the recorder's clock.

    The bytes hold until the next message is asked for. `place` is where they lie as they are in the file of
    the part, or NOWHERE. `num_bytes` is how many they are if only their beginning is here, else 0.
    """

    channel: Channel
    received_ns: int
    raw: Any
    place: int = NOWHERE
    num_bytes: int = 0


@dataclass(frozen=True)
class Asked:
    """Messages of channels, which are by connection, from `low` ns up to and without `high`.

    Of the connections `heads` the beginning of a message will do, where the file can be read so.
    """

    wanted: Mapping[int, Channel]
    low: int = BEGINNING
    high: int = FOR_EVER
    heads: Collection[int] = ()


class Container(ABC):
    """An open file, with what it says of itself in its `reader`."""

    is_ros1: ClassVar[bool] = False
    reader: Any

    @property
    def connections(self) -> list[Connection]:
        """With the numbers of messages that the file says of itself."""
        return list(self.reader.connections)

    @property
    def span(self) -> tuple[int, int]:
        """When its first and its last message came, in ns, as it says itself; reversed if it has none."""
        first, last = self.reader.span
        return first, last

    @property
    def remarks(self) -> list[str]:
        """What the user should know of the file: sentences that follow its name."""
        return list(self.reader.remarks)

    @abstractmethod
    def messages(self, asked: Asked, damage: Damage) -> Iterator[Message]:
        """Those that are asked for, in order of time; what is broken is counted."""

    def read(self, place: int, num_bytes: int) -> bytes:
        """The bytes of a message that has a place. Refused if the file ends before."""
        raise AssertionError("no message of it has a place")


def further(messages: Iterator[Any], damage: Damage) -> Iterator[Any]:
    """The messages up to where the file cannot be read any more."""
    try:
        yield from messages
    except OF_FILES as error:
        damage.add(f"its file cannot be read further: {in_words(error)}", None)
