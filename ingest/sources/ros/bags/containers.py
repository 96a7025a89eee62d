"""Opening files of messages: MCAP, SQLite databases and ROS 1 bags, whatever they are called.

rosbags reads what a file says of itself. Its reader of folders matches the topics of metadata.yaml with those
of the files by their settings, by which all messages of some bags are lost: so files are opened one by one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

from robot_foundry.ingest.sources.base import GIT_LFS, Refused
from robot_foundry.ingest.sources.ros.bags.container import ERRORS, Asked, Container, Message, further
from robot_foundry.ingest.sources.ros.bags.damage import Damage, in_words
from robot_foundry.ingest.sources.ros.bags.mcap import Mcap
from robot_foundry.ingest.sources.ros.bags.rosbag1 import Rosbag1

ROS1_MAGIC, MCAP_MAGIC, SQLITE_MAGIC = b"#ROSBAG", b"\x89MCAP0\r\n", b"SQLite format 3\0"
# What a path may not hold that stands in an SQLite URI.
OF_URIS = "?#%"


@contextmanager
def open_container(path: Path, name: str) -> Iterator[Container]:
    """The file at a path, called `name` in messages. Refused if it is none, or cannot be used as a whole."""
    with path.open("rb") as file:
        head = file.read(16)
    with ExitStack() as until_closed:
        if head.startswith(ROS1_MAGIC):
            made: Container = Rosbag1(path)
        elif head.startswith(MCAP_MAGIC):
            made = Mcap(path)
        elif head == SQLITE_MAGIC:
            made = _Sqlite(until_closed.enter_context(_plain_path(path)))
        elif GIT_LFS.startswith(head[:16]) and head:
            raise Refused(
                f"its file {name} is a pointer of Git LFS in place of the bag: fetch it (git lfs pull)"
            )
        else:
            raise Refused(f"its file {name} is no ROS 1 bag, MCAP file or SQLite database")
        try:
            made.reader.open()
        except ERRORS as error:
            raise Refused(f"its file {name} cannot be read: {_why(error, path)}") from error
        until_closed.callback(made.reader.close)
        yield made


def _why(error: Exception, path: Path) -> str:
    """What rosbags says, without the path of a copy."""
    text = in_words(error).replace(str(path), "it")
    if "not indexed" in text:
        text += " (`rosbag reindex` does)"
    if "end magic" in text:
        text = "it is cut off, for its end is missing (`mcap recover` saves what is whole)"
    if isinstance(error, KeyError):
        text = f"rosbags does not know {text} in it"
    return text[:1].lower() + text[1:]


@contextmanager
def _plain_path(path: Path) -> Iterator[Path]:
    """The path, or a link to it where rosbags would take a part of it for something else."""
    if not any(letter in str(path) for letter in OF_URIS):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="robot-foundry-") as folder:
        link = Path(folder, "bag.db3")
        os.symlink(path.resolve(), link)
        yield link


class _Sqlite(Container):
    """See `Container`."""

    def __init__(self, path: Path) -> None:
        self.reader = Sqlite3Reader(path)

    def messages(self, asked: Asked, damage: Damage) -> Iterator[Message]:
        named = asked.connections(self.connections)
        for connection, time, data in further(self.reader.messages(named, asked.low, asked.high), damage):
            if isinstance(time, int) and isinstance(data, bytes):
                yield Message(asked.wanted[connection.id], time, data)
            else:
                damage.add("its database has rows without a time or without bytes", 1)
