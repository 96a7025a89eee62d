"""foundry-train diff: in what two runs differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from robot_foundry.cli.options import RUN, json_option
from robot_foundry.cli.output import emit, table

if TYPE_CHECKING:
    from robot_foundry.trainer.difference import Compared

SAID = {True: "equal", False: "differs", None: "not known"}


@click.command(name="diff")
@click.argument("left", metavar="RUN", type=RUN)
@click.argument("right", metavar="RUN", type=RUN)
@json_option
def command(left: Path, right: Path, as_json: bool) -> None:
    """Say in what two runs differ: order of samples, data, normaliser, seed, code, and keys of the recipe.

    Each RUN is a run's folder, a checkpoint or a pointer file, and is judged by its newest checkpoint. The
    same order means that step after step both drew the same samples, whatever their models made of them.
    """
    from robot_foundry.trainer.difference import compare

    found = compare(left, right)
    emit(found.to_json(), as_json=as_json, text=lambda: _text(found))


def _text(found: Compared) -> str:
    rows = []
    for name, left, right in found.facts:
        is_equal = found.is_equal(name)
        shown = left if is_equal else f"{left or '-'}, {right or '-'}"
        rows.append((name, SAID[is_equal], shown))
    text = table(("what", "", "value"), rows)
    if not found.config:
        return f"{text}\n\nno key of the recipe differs"
    keys = [(key, json.dumps(left), json.dumps(right)) for key, left, right in found.config]
    return f"{text}\n\n{table(('key', 'of the first', 'of the second'), keys)}"
