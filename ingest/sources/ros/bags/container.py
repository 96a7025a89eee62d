"""What every open file of messages offers, and how reading goes on where one is broken."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Protocol

from rosbags.interfaces import Connection
from rosbags.rosbag1 import ReaderError as Error1
from rosbags.rosbag2 import ReaderError as Error2

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.ros.bags.damage import BROKEN, Damage, in_words

ERRORS: tuple[type[Exception], ...] = (*BROKEN, Error1, Error2)

Message = tuple[Connection, int, Any]  # and its time of receipt in ns, and its bytes


class Container(Protocol):
    """An open file. `connections` have the numbers of messages that it says of itself."""

    is_ros1: bool

    @property
    def connections(self) -> list[Connection]: ...

    def messages(
        self, ids: Collection[int], start: int | None, stop: int | None, damage: Damage
    ) -> Iterator[Message]:
        """Messages of these connections from `start` ns up to and without `stop`."""
        ...


def further(messages: Iterator[Message], damage: Damage) -> Iterator[Message]:
    """The messages up to where the file cannot be read any more."""
    try:
        yield from messages
    except Refused:
        raise
    except Exception as error:  # of SQLite, whose errors have no common base with the others
        if not isinstance(error, ERRORS) and type(error).__module__ != "apsw":
            raise
        damage.add(f"its file cannot be read further: {in_words(error)}", None)
