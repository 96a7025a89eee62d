"""foundry-train sample: text that a trained language model goes on with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import click

from robot_foundry.cli.devices import device_option
from robot_foundry.cli.options import json_option
from robot_foundry.cli.output import emit, note
from robot_foundry.runtime.errors import UsageError


@click.command(name="sample")
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.argument("prompt")
@click.option("--tokens", type=click.IntRange(1), default=128, show_default=True, help="At most so many.")
@click.option(
    "--temperature",
    type=click.FloatRange(0),
    default=0.8,
    show_default=True,
    help="0 takes the likeliest token, 1 draws as the model says.",
)
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.95,
    show_default=True,
    help="Draw from the likeliest tokens that have this share together.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Equal seeds give equal text.")
@device_option
@json_option
def command(
    run: Path,
    prompt: str,
    tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Write the text that the model of RUN goes on with after PROMPT, which begins a document.

    RUN is a run, one of its checkpoints or a pointer file; averaged weights are taken where it has them.
    """
    from robot_foundry.trainer.tasks.llm.sampling import Sampling, sampled_ids, text_pieces
    from robot_foundry.trainer.tasks.llm.trained import load_trained

    if any("\ud800" <= letter <= "\udfff" for letter in prompt):
        raise UsageError("PROMPT has bytes that are not UTF-8")
    trained = load_trained(run, device)
    rows = trained.config.data.rows.length
    ids: list[int] = []
    drawn = sampled_ids(trained, prompt, Sampling(tokens, temperature, top_p, seed))
    pieces = text_pieces(trained.tokenizer, prompt, _kept(drawn, ids))
    begin = time.perf_counter()
    if as_json:
        text = "".join(pieces)
    else:
        click.echo(prompt, nl=False)
        for piece in pieces:
            click.echo(piece, nl=False)
        click.echo()
    seconds = time.perf_counter() - begin
    note(f"{len(ids)} tokens, {len(ids) / seconds:.0f} a second, of {trained.folder}")
    if len(ids) >= rows:
        note(f"Warning: the model was trained on rows of {rows} tokens, and has seen no position behind them")
    if as_json:
        settings = {"tokens": tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
        result = {"checkpoint": trained.folder, "prompt": prompt, "text": text, "ids": ids}
        result["ended"] = len(ids) < tokens
        emit({**result, **settings}, as_json=True, text="")


def _kept(drawn: Iterator[int], ids: list[int]) -> Iterator[int]:
    """What is drawn, which is added to `ids`."""
    for token in drawn:
        ids.append(token)
        yield token
