"""DuckDB, opened so that it neither installs anything nor touches files that it was not given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from robot_foundry.catalog.query.shown import Rows
from robot_foundry.runtime.errors import UsageError

# Files of this storage version are readable by DuckDB 1.2 and later.
STORAGE_VERSION = "v1.2.0"
_DASH = 'syntax error at or near "-"'
_OFFLINE: dict[str, Any] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


def can_open(path: Path) -> bool:
    """Whether DuckDB takes the path for what it is: to it '?' begins options, and '\\' is a '/'."""
    return not set(str(path)) & {"?", "\\"}


def connect(path: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A connection that may write to the file `path`, or to a fresh in-memory database."""
    config = _OFFLINE | {"storage_compatibility_version": STORAGE_VERSION}
    return duckdb.connect(":memory:" if path is None else str(path), config=config)


def attach(path: Path) -> duckdb.DuckDBPyConnection:
    """A connection that reads the file `path`, which may be replaced while it is open.

    DuckDB keeps one instance a path and process, with one set of settings: were the file opened itself,
    threads would share each other's `lock_down`, and a replaced file would not be seen. So it is attached to
    a database in memory.
    """
    connection = connect()
    quoted = str(path).replace("'", "''")
    try:
        connection.execute(f"ATTACH '{quoted}' AS catalog (READ_ONLY)")
        connection.execute("USE catalog")
    except duckdb.Error:
        connection.close()
        raise
    return connection


def lock_down(connection: duckdb.DuckDBPyConnection) -> None:
    """No statement of this connection can read or write files, or undo this."""
    # Registered Arrow tables stay visible; names of Python variables never become tables.
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def show(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table | Rows) -> None:
    """Let the connection see Arrow rows under a name."""
    if not isinstance(rows, Rows):
        connection.register(name, rows)
        return
    stored = f"{name} as it is stored"
    connection.register(stored, rows.table)
    quoted, of = (text.replace('"', '""') for text in (name, stored))
    connection.execute(f'CREATE TEMP VIEW "{quoted}" AS SELECT {rows.columns} FROM "{of}"')


def fetch(connection: duckdb.DuckDBPyConnection, sql: str, what: str) -> pa.Table:
    """The rows of `sql` as one table; an SQL error raises UsageError that begins with `what`."""
    try:
        relation = connection.sql(sql)
        if relation is None:
            raise UsageError(f"{what}: this is not a query that returns rows")
        return relation.to_arrow_table()
    except duckdb.Error as error:
        message = _first_lines(error)
        hint = 'names with a dash stand in double quotes: "documents_web-bpe"' if _DASH in message else None
        raise UsageError(f"{what}: {message}", hint=hint) from error


def query_tables(sql: str, tables: Mapping[str, pa.Table], what: str) -> pa.Table:
    """`sql` over the Arrow `tables` alone."""
    with connect() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        lock_down(connection)
        return fetch(connection, sql, what)


def _first_lines(error: duckdb.Error) -> str:
    """DuckDB's message and its suggestions, without the excerpt of our own wrapping query."""
    lines = [line.strip() for line in str(error).splitlines()]
    cut = next((i for i, line in enumerate(lines) if line.startswith("LINE ")), len(lines))
    return " ".join(line for line in lines[:cut] if line)
