"""foundry-data tokenizer: make tokenizers, take in those of others, and look at them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robot_foundry.cli.lazy import LazyCommand, LazyGroup
from robot_foundry.cli.options import json_option, store_option
from robot_foundry.cli.output import counted, emit, note, table

if TYPE_CHECKING:
    from robot_foundry.catalog.store import Store
    from robot_foundry.shards.tokens.tokenizer import Tokenizer

_HERE = "robot_foundry.cli.data.tokens.tokenizer"
COMMANDS = {
    "train": LazyCommand(f"{_HERE}:train", "Train one on a version of text."),
    "add": LazyCommand(f"{_HERE}:add", "Take one in from a file or folder."),
    "show": LazyCommand(f"{_HERE}:show", "Show one, or list those of the store."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def group() -> None:
    """Make tokenizers, take in those of others, and look at them."""


name_option = click.option("--as", "name", metavar="NAME", help="The name it gets in the store.")


@click.command("train")
@click.argument("ref")
@click.option("--vocab", type=int, default=8192, show_default=True, help="Tokens, the special ones included.")
@name_option
@click.option(
    "--digits",
    type=click.IntRange(1, 9),
    default=1,
    show_default=True,
    help="Digits of a number that may be one token.",
)
@click.option("--where", metavar="SQL", help="Only documents for which this holds.")
@click.option(
    "--val-fraction",
    default="1/10",
    show_default=True,
    help="Leave out the documents that a split of this share holds out.",
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Also write it here."
)
@store_option
@json_option
def train(
    ref: str,
    vocab: int,
    name: str | None,
    digits: int,
    where: str | None,
    val_fraction: str,
    out: Path | None,
    store: str,
    as_json: bool,
) -> None:
    """Train byte-level BPE on the training split of REF, a version of text.

    The same documents give the same tokenizer, whatever their order and the number of processors.

    \b
    foundry-data tokenizer train web --vocab 8192 --as bpe8k
    foundry-data tokenizer train web --vocab 32768 --where "language = 'en'" --as english
    """
    from robot_foundry.catalog.opened import OpenVersions
    from robot_foundry.catalog.selection import SelectionSpec
    from robot_foundry.catalog.store import Store, check_name
    from robot_foundry.catalog.tokens.tokenizers import keep
    from robot_foundry.ingest.tokens.tokenize import check_is_text
    from robot_foundry.ingest.tokens.training import train_tokenizer
    from robot_foundry.runtime.canonical import canonical_json
    from robot_foundry.shards.tokens.bpe import check_size

    check_size(vocab)
    if name is not None:
        check_name(name, "tokenizer name")
    opened = OpenVersions(Store(store)).open(ref)
    check_is_text(opened)
    selection = opened.select(SelectionSpec(where=where, val_fraction=val_fraction))
    tokenizer = train_tokenizer(opened, selection, vocab, digits=digits, quiet=False)
    keep(opened.store, tokenizer, name)
    if out is not None:
        out.write_bytes(canonical_json(tokenizer.to_json()))
    result = _told(opened.store, tokenizer) | {
        "version": str(opened.version),
        "documents": selection.num_groups,
        "characters": selection.num_samples,
    }
    documents = counted(selection.num_groups, "document")
    learned = f"from {documents}, {counted(selection.num_samples, 'character')} of {opened.version}"
    emit(result, as_json=as_json, text=f"{_line(result)} {learned}")
    if tokenizer.size < vocab:
        note(f"Warning: the text has only so many pairs: {tokenizer.size:,} tokens, not {vocab:,}")


@click.command("add")
@click.argument("place", metavar="FILE|FOLDER")
@name_option
@store_option
@json_option
def add(place: str, name: str | None, store: str, as_json: bool) -> None:
    """Take in a folder with a tokenizer.json, as Hugging Face's libraries write it, or such a file.

    What begins, ends and pads texts is what tokenizer_config.json beside it says.

    \b
    foundry-data tokenizer add models/SmolLM2-135M --as smollm2
    """
    from robot_foundry.catalog.store import Store
    from robot_foundry.catalog.tokens.tokenizers import keep
    from robot_foundry.shards.tokens.tokenizers import read

    opened, tokenizer = Store(store), read(place)
    keep(opened, tokenizer, name)
    result = _told(opened, tokenizer)
    emit(result, as_json=as_json, text=_line(result))


@click.command("show")
@click.argument("place", metavar="[NAME|ID|FILE|FOLDER]", required=False)
@store_option
@json_option
def show(place: str | None, store: str, as_json: bool) -> None:
    """Show a tokenizer, or list all that the store has."""
    from robot_foundry.catalog.store import Store
    from robot_foundry.catalog.tokens.tokenizers import BYTE, all_ids, find, read_id

    opened = Store(store)
    if place is not None:
        result = _told(opened, find(opened, place))
        emit(result, as_json=as_json, text=lambda: _text(result))
        return
    listed = [find(opened, BYTE), *(read_id(opened, of_one) for of_one in all_ids(opened))]
    told = list({one.id: _told(opened, one) for one in listed}.values())
    rows = [(", ".join(one["names"]), one["id"][:12], one["size"], one["tokens"][one["end"]]) for one in told]
    emit(
        {"store": opened.url, "tokenizers": told},
        as_json=as_json,
        text=lambda: table(("name", "id", "tokens", "end of text"), rows),
    )


def _told(store: Store, tokenizer: Tokenizer) -> dict[str, Any]:
    """What programs and people are told of a tokenizer; `tokens` names the ids that are special."""
    from robot_foundry.catalog.tokens.tokenizers import known

    return {
        "id": tokenizer.id,
        "names": [name for name, of_name in known(store).items() if of_name == tokenizer.id],
        "type": tokenizer.to_json()["type"],
        "size": tokenizer.size,
        "start": tokenizer.start,
        "end": tokenizer.end,
        "pad": tokenizer.pad,
        "tokens": {number: name for name, number in tokenizer.specials.items()},
    }


def _line(told: dict[str, Any]) -> str:
    names = f"{', '.join(told['names'])} " if told["names"] else ""
    return f"{names}{told['id'][:12]}: {told['size']:,} tokens"


def _text(told: dict[str, Any]) -> str:
    tokens = told["tokens"]
    roles = {role: f"{told[role]} {tokens[told[role]]}" for role in ("start", "end", "pad")}
    lines = [
        ("id", told["id"]),
        ("names", ", ".join(told["names"]) or "none"),
        ("type", told["type"]),
        ("tokens", f"{told['size']:,}"),
        *roles.items(),
        ("special", ", ".join(f"{number} {name}" for number, name in tokens.items())),
    ]
    return "\n".join(f"{label:<12} {text}" for label, text in lines)
