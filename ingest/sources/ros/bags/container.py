"""What every open file of messages offers, and how reading goes on where one is broken."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from rosbags.interfaces import Connection
from rosbags.rosbag1 import ReaderError as Error1
from rosbags.rosbag2 import ReaderError as Error2

from robot_foundry.ingest.sources.ros.bags.damage import BROKEN, Damage, in_words
from robot_foundry.ingest.sources.ros.bags.decoders import Decoder

ERRORS: tuple[type[Exception], ...] = (*BROKEN, Error1, Error2)
OF_FILES: tuple[type[Exception], ...] = (*ERRORS, sqlite3.Error)


NOWHERE = -1


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


class Scanned:
    """A file whose messages have no places."""

    @property
    def remarks(self) -> list[str]:
        return []

    def read(self, place: int, num_bytes: int) -> bytes:
        raise AssertionError("a message without a place is read by going through the file")


class Container(Protocol):
    """An open file. `connections` have the numbers of messages that it says of itself."""

    is_ros1: bool

    @property
    def connections(self) -> list[Connection]: ...

    @property
    def span(self) -> tuple[int, int]:
        """When its first and its last message came, in ns, as it says itself; the first is later if it has
        none."""
        ...

    @property
    def remarks(self) -> list[str]:
        """What the user should know of the file: sentences that follow its name."""
        ...

    def messages(
        self,
        wanted: Mapping[int, Channel],
        start: int | None,
        stop: int | None,
        damage: Damage,
        heads: Collection[int] = (),
    ) -> Iterator[Message]:
        """Messages of these channels by connection, from `start` ns up to and without `stop`.

        Of `heads` among them the beginning of a message will do, where the file can be read so.
        """
        ...

    def read(self, place: int, num_bytes: int) -> bytes:
        """The bytes of a message that has a place. Refused if the file ends before."""
        ...


def further(messages: Iterator[Any], damage: Damage) -> Iterator[Any]:
    """The messages up to where the file cannot be read any more."""
    try:
        yield from messages
    except OF_FILES as error:
        damage.add(f"its file cannot be read further: {in_words(error)}", None)
