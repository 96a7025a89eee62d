"""foundry-data tokenize REF: a version of tokens from a version of text."""

from __future__ import annotations

import re
from pathlib import Path

import click

from robot_foundry.cli.data.ingest import now, show
from robot_foundry.cli.options import dry_run_option, json_option, store_option, workers_option
from robot_foundry.cli.pointer import pointer_option, write_pointer


@click.command("tokenize")
@click.argument("ref")
@click.option(
    "--tokenizer",
    "place",
    required=True,
    metavar="NAME|ID|FILE|FOLDER",
    help="'byte', one of the store by name or id, or a folder or file with a tokenizer.json.",
)
@click.option("--as", "name", metavar="DATASET", help="[default: REF-TOKENIZER]")
@store_option
@workers_option
@click.option("--ray-address", metavar="ADDRESS", help="Work on this Ray cluster; 'auto' finds one.")
@click.option("--strict", is_flag=True, help="Fail if a document is not exactly what its tokens decode to.")
@pointer_option
@dry_run_option
@json_option
def command(
    ref: str,
    place: str,
    name: str | None,
    store: str,
    workers: int,
    ray_address: str | None,
    strict: bool,
    pointer: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make tokens of REF, a version of text, with which language models are trained.

    Running it again does only what is new. Documents that the tokenizer does not give back exactly are told.

    \b
    foundry-data tokenize web --tokenizer bpe8k
    foundry-data tokenize web --tokenizer models/SmolLM2-135M --as web-smollm2 --workers 8
    """
    from robot_foundry.catalog.store import Store
    from robot_foundry.catalog.tokens.tokenizers import find
    from robot_foundry.ingest.engine import Options
    from robot_foundry.ingest.tokens.tokenize import run

    tokenizer = find(Store(store), place)
    options = Options(workers=workers, ray_address=ray_address, created=now(), quiet=False)
    report = run(
        ref,
        tokenizer,
        store=store,
        name=name or _default_name(ref, place),
        options=options,
        strict=strict,
        dry_run=dry_run,
    )
    if pointer is not None and report.version is not None:
        write_pointer(pointer, report.version, report.counts)
    show(report, as_json=as_json)


def _default_name(ref: str, place: str) -> str:
    """('web@v2', 'models/Smol LM/tokenizer.json') → 'web-smol-lm'."""
    parts = [part for part in Path(place).parts if part != "tokenizer.json"]
    stem = (parts[-1] if parts else "tokenizer").removesuffix(".json").lower()
    return f"{re.split('[@:]', ref)[0]}-{re.sub('[^a-z0-9_-]+', '-', stem).strip('-')}"[:64]
