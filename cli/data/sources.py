"""foundry-data sources: the public datasets that come with a spec, and named mixtures of them."""

from __future__ import annotations

from typing import Any

import click

from robot_foundry.cli.options import json_option
from robot_foundry.cli.output import emit, table

HEADERS = (
    "spec",
    "robot",
    "Hz",
    "cameras",
    "state",
    "actions",
    "episodes",
    "hours",
    "GB",
    "licence",
    "verified",
)
UNTOLD = "?"


@click.command()
@click.option("--mixture", metavar="NAME", help="Those of a named mixture alone, with their weights.")
@json_option
def command(mixture: str | None, as_json: bool) -> None:
    """List the public datasets that have a spec: what they hold, as published, and how that was verified.

    Verified is by `data` (files of it were read here), by `features` (what it publishes of its steps, against
    arithmetic of the tests) or by the `table` of others alone. What is `?` or unknown, no source tells.

    \b
    foundry-data sources --mixture oxe_magic_soup
    foundry-data ingest oxe/viola
    """
    from robot_foundry.ingest.robot.sources_list import sources
    from robot_foundry.ingest.spec.mixture_files import builtin_mixtures, load_mixture
    from robot_foundry.ingest.spec.spec_files import specs_of

    rows = sources()
    if mixture is not None:
        named = load_mixture(mixture)
        weights = dict(zip(specs_of(named.weights, named.name), named.weights.values(), strict=True))
        rows = [{**row, "weight": float(weights[row["spec"]])} for row in rows if row["spec"] in weights]
    result = {"sources": rows, "mixtures": builtin_mixtures()}
    emit(result, as_json=as_json, text=lambda: _text(rows, builtin_mixtures()))


def _text(rows: list[dict[str, Any]], mixtures: list[str]) -> str:
    weighed = any("weight" in row for row in rows)
    shown = [[*_cells(row), *([f"{row['weight']:g}"] if weighed else [])] for row in rows]
    headers = (*HEADERS, *(["weight"] if weighed else []))
    return f"{table(headers, shown)}\n\nmixtures: {', '.join('@' + name for name in mixtures)}"


def _cells(row: dict[str, Any]) -> list[object]:
    told = {
        key: UNTOLD if row[key] is None else row[key] for key in ("rate_hz", "episodes", "hours", "gigabytes")
    }
    streams = ", ".join(f"{name} {count or UNTOLD}" for name, count in row["actions"].items())
    return [
        row["spec"], row["robot"], f"{told['rate_hz']:g}" if row["rate_hz"] else UNTOLD, len(row["cameras"]),
        row["state"] or UNTOLD, streams, told["episodes"], told["hours"], told["gigabytes"], row["licence"],
        row["verified"],
    ]  # fmt: skip
