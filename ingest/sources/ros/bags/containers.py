"""Opening files of messages: MCAP, SQLite databases and ROS 1 bags, whatever they are called.

The reader of folders of rosbags matches the topics of metadata.yaml with those of the files by their
settings, by which all messages of some bags are lost: so files are opened one by one.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rosbags.rosbag1 import ReaderError as Error1
from rosbags.rosbag2 import ReaderError as Error2

from robot_foundry.ingest.sources.base import GIT_LFS, Refused
from robot_foundry.ingest.sources.ros.bags.container import OF_FILES, Container
from robot_foundry.ingest.sources.ros.bags.damage import in_words
from robot_foundry.ingest.sources.ros.bags.mcap.mcap import Mcap
from robot_foundry.ingest.sources.ros.bags.rosbag1 import Rosbag1
from robot_foundry.ingest.sources.ros.bags.sqlite import Sqlite

ROS1_MAGIC, MCAP_MAGIC, SQLITE_MAGIC = b"#ROSBAG", b"\x89MCAP0\r\n", b"SQLite format 3\0"


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
            made = Sqlite(path)
        elif GIT_LFS.startswith(head[:16]) and head:
            raise Refused(
                f"its file {name} is a pointer of Git LFS in place of the bag: fetch it (git lfs pull)"
            )
        else:
            raise Refused(f"its file {name} is no ROS 1 bag, MCAP file or SQLite database")
        try:
            made.reader.open()
        except OF_FILES as error:
            raise Refused(f"its file {name} cannot be read: {_why(error, path)}") from error
        until_closed.callback(made.reader.close)
        yield made


def _why(error: Exception, path: Path) -> str:
    """What its reader says, without the path of a copy."""
    if isinstance(error, sqlite3.Error):
        return f"{in_words(error)} (`sqlite3 FILE .recover` saves what is whole)"
    if not isinstance(error, Error1 | Error2 | OSError):
        return "what it says of itself is damaged"
    # rosbags shows what it has caught as Python does.
    text = re.sub(r"""\((['"])(.*)\1,\)""", r"\2", in_words(error)).replace(str(path), "it")
    if "not indexed" in text:
        text += " (`rosbag reindex` does)"
    if "end magic" in text:
        text = "it is cut off, for its end is missing (`mcap recover` saves what is whole)"
    return text[:1].lower() + text[1:]
