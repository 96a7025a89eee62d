"""SQLite databases of rosbag2, row by row in order of time.

They are read here because rosbags refuses a database for one definition of an encoding that it does not know,
which rosbag2 writes for every type that it does not find, and leaves messages of unknown topics out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2 import ReaderError

from robot_foundry.ingest.sources.ros.bags.container import (
    BEGINNING,
    FOR_EVER,
    Asked,
    Container,
    Message,
    further,
)
from robot_foundry.ingest.sources.ros.bags.damage import Damage

FORMATS = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}
TABLES = ("topics", "messages")
DEFINITIONS, HASH = "message_definitions", "type_description_hash"
UNDESCRIBED = "unknown"
LARGEST_VALUE = 1 << 30


class Sqlite(Container):
    """See `Container`."""

    def __init__(self, path: Path) -> None:
        self.reader = SqliteIndex(path)

    def messages(self, asked: Asked, damage: Damage) -> Iterator[Message]:
        for number, time, row in further(self.reader.rows(asked.low, asked.high), damage):
            if number not in asked.wanted:
                continue
            try:
                data = self.reader.data(row)
            except sqlite3.Error:
                damage.add("rows of its database are damaged", 1)
                continue
            if isinstance(time, int) and isinstance(data, bytes):
                yield Message(asked.wanted[number], time, data)
            else:
                damage.add("its database has rows without a time or without bytes", 1)


class SqliteIndex:
    """An open database. `remarks` are what the user should know of it: sentences that follow its name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections: list[Connection] = []
        self.remarks: list[str] = []
        self.span = (1, 0)
        self._database: sqlite3.Connection | None = None

    def open(self) -> None:
        """ReaderError or sqlite3.Error if it is no database of messages."""
        # What is in the journal was put into a copy before; the source is never written to.
        self._database = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            self._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)
            self._all("PRAGMA trusted_schema=OFF")
            self._all("PRAGMA cell_size_check=ON")
            self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
        self._database = None

    def rows(self, low: int, high: int) -> Iterator[tuple[Any, Any, int]]:
        """Topic, time and number of all rows from `low` ns up to and without `high`, in order of time.

        All topics, so that a damaged page ends them at the same row whatever is wanted.
        """
        assert self._database is not None
        # Rows without a time, which no bound holds for, are counted where all are asked for.
        bounds = (
            ""
            if (low, high) == (BEGINNING, FOR_EVER)
            else f"WHERE timestamp >= {low} AND timestamp < {high} "
        )
        yield from self._database.execute(
            f"SELECT topic_id, timestamp, rowid FROM messages {bounds}ORDER BY timestamp, rowid"  # noqa: S608
        )

    def data(self, row: int) -> Any:
        """The bytes of a row. sqlite3.Error if it is damaged."""
        assert self._database is not None
        found = self._database.execute("SELECT data FROM messages WHERE rowid = ?", (row,)).fetchone()
        if found is None:  # an index may name rows that no table has
            raise sqlite3.DatabaseError("it is not there")
        return found[0]

    def _all(self, query: str) -> list[tuple[Any, ...]]:
        assert self._database is not None
        return self._database.execute(query).fetchall()

    def _read(self) -> None:
        tables = {
            name
            for name, sql in self._all("SELECT name, sql FROM sqlite_master WHERE type='table'")
            if not str(sql).upper().startswith("CREATE VIRTUAL")
        }
        if not tables.issuperset(TABLES):
            raise ReaderError("it has no tables of topics and messages")
        columns = {row[1] for row in self._all("PRAGMA table_info(topics)")}
        digest = HASH if HASH in columns else "''"
        definitions = self._definitions() if DEFINITIONS in tables else {}
        counts = dict(self._all("SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id"))
        query = f"SELECT id, name, type, serialization_format, {digest} FROM topics ORDER BY id"  # noqa: S608
        for number, *texts in self._all(query):
            if not all(isinstance(text, str) for text in texts):
                raise ReaderError(f"its topic {number!r} has no name or type")
            topic, kind, form, known_by = texts
            self._add(number, topic, kind, definitions.get(kind), form, known_by, counts.pop(number, 0))
        for number, count in counts.items():
            # SQLite takes anything for a number of a topic.
            if isinstance(number, int):
                self._add(number, f"(topic {number})", UNDESCRIBED, None, "", "", count)
            self.remarks.append(f"has {count} messages of topic {number!r}, which nothing in it describes")
        ((first, last),) = self._all("SELECT MIN(timestamp), MAX(timestamp) FROM messages")
        if isinstance(first, int) and isinstance(last, int):
            self.span = first, last

    def _definitions(self) -> dict[str, MessageDefinition]:
        query = f"SELECT topic_type, encoding, encoded_message_definition FROM {DEFINITIONS} ORDER BY id DESC"  # noqa: S608
        return {
            str(kind): MessageDefinition(FORMATS.get(form, MessageDefinitionFormat.NONE), str(text))
            for kind, form, text in self._all(query)
        }

    def _add(
        self,
        number: int,
        topic: str,
        kind: str,
        definition: MessageDefinition | None,
        form: str,
        digest: str,
        count: int,
    ) -> None:
        told = definition or MessageDefinition(MessageDefinitionFormat.NONE, "")
        extended = ConnectionExtRosbag2(form, [])
        self.connections.append(Connection(number, topic, kind, told, digest, count, extended, self))
