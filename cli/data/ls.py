"""foundry-data ls: what is in a store."""

from __future__ import annotations

from typing import Any

import click

from robot_foundry.catalog.kind import ROOMS, kind_named
from robot_foundry.catalog.query.snapshot import NEWEST, Catalog
from robot_foundry.cli.options import json_option, store_option
from robot_foundry.cli.output import emit, note, size, table


@click.command()
@click.argument("dataset", required=False)
@store_option
@json_option
def command(dataset: str | None, store: str, as_json: bool) -> None:
    """List the datasets and mixtures of a store by their newest version, or all versions of DATASET."""
    catalog = Catalog(store)
    if dataset is None:
        rows = catalog.sql(NEWEST).to_pylist()
    else:
        version = catalog.resolve(dataset)
        rows = [
            row
            for row in catalog.sql("SELECT * EXCLUDE provenance FROM versions ORDER BY seq").to_pylist()
            if row["dataset"] == version.dataset
        ]
    key = "datasets" if dataset is None else "versions"
    emit({"store": catalog.store.url, key: rows}, as_json=as_json, text=lambda: _text(rows))
    if not rows:
        note(f"Store {catalog.store.url} is empty.\nHint: foundry-data ingest --help")


def _text(rows: list[dict[str, Any]]) -> str:
    kinds = {row["holds"] for row in rows} or set(ROOMS)
    held = [kind_named(name) for name in sorted(kinds)]
    names = [name for kind in held for name in (kind.groups, kind.samples)]
    counted = list(dict.fromkeys(names))
    return table(
        ("version", "kind", *counted, "size", "quarantined", "id"),
        [
            (
                *(row["version"], row["kind"], *(row[name] for name in counted)),
                *(size(row["bytes"]), row["quarantined"], row["version_id"][:12]),
            )
            for row in rows
        ],
    )
