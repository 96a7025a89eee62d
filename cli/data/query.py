"""foundry-data query: SQL over a store."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import Any

import click
import pyarrow as pa

from robot_foundry.catalog.kind import all_kinds
from robot_foundry.catalog.query.snapshot import Catalog
from robot_foundry.cli.options import json_option, store_option
from robot_foundry.cli.output import emit, note, table

MAX_ROWS = 100


def _help() -> str:
    """What can be asked of, of all kinds."""
    faces = [kind.sql for kind in all_kinds()]
    of_versions = dict.fromkeys(["versions", "shards", *(name for face in faces for name in face.tables)])
    tables = [
        ("datasets", "newest version of every dataset and mixture"),
        (" ".join(of_versions), "of every version: columns dataset, seq, version"),
        ("components tags quarantine", "of mixtures; names of versions; what ingest left out, and why"),
        *(line for face in faces for line in face.help),
        ("runs", "training and evaluation records, as JSON text"),
    ]
    queries = ["FROM datasets", *(query for face in faces for query in face.examples)]
    return "\n".join(
        [
            "Query the catalogue with DuckDB's SQL. Nothing can be written.\n",
            "\b\nTables",
            *(f"  {names:<30}  {what}" for names, what in tables),
            "\n\b\nExamples",
            *(f'  foundry-data query "{query}"' for query in queries),
        ]
    )


@click.command(no_args_is_help=True, help=_help())
@click.argument("sql")
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True
)
@click.option("--max-rows", default=MAX_ROWS, show_default=True, help="Rows that a table shows at most.")
@store_option
@json_option
def command(sql: str, form: str, max_rows: int, store: str, as_json: bool) -> None:
    rows = Catalog(store).sql(sql)
    if as_json or form == "json":
        emit({"columns": rows.column_names, "rows": _plain(rows.to_pylist())}, as_json=True, text="")
    elif form == "csv":
        click.echo(_csv(rows), nl=False)
    else:
        shown = rows.slice(0, max_rows)
        click.echo(table(shown.column_names, _cells(shown)))
        if shown.num_rows < rows.num_rows:
            note(f"{rows.num_rows - shown.num_rows:,} more rows; see --max-rows and --format csv")


def _csv(rows: pa.Table) -> str:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(rows.column_names)
    writer.writerows(_cells(rows))
    return sink.getvalue()


def _plain(value: Any) -> Any:
    """What JSON can hold: exact decimals as numbers, whole ones exactly; bytes as hex; dates as text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):  # as sums of integers are
        return int(value) if value.as_tuple().exponent == 0 else float(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _cells(rows: pa.Table) -> list[list[Any]]:
    """Plain values, nested ones as JSON text."""
    columns = [column.to_pylist() for column in rows.columns]
    return [
        [json.dumps(_plain(v)) if isinstance(v, list | dict) else _plain(v) for v in row]
        for row in zip(*columns, strict=True)
    ]
