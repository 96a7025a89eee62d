"""foundry-train sample: text that a trained model goes on with, or what it answers about pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import click

from robot_foundry.cli.devices import device_option
from robot_foundry.cli.options import RUN, json_option
from robot_foundry.cli.output import emit, note
from robot_foundry.runtime.errors import FoundryError, UsageError

TEMPERATURE, TOP_P = 0.8, 0.95


@click.command(name="sample")
@click.argument("run", type=RUN, metavar="RUN")
@click.argument("prompt")
@click.option(
    "--image",
    "images",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A picture that PROMPT asks about: JPEG, PNG or WebP. May be given several times.",
)
@click.option("--tokens", type=click.IntRange(1), default=128, show_default=True, help="At most so many.")
@click.option(
    "--temperature",
    type=click.FloatRange(0),
    show_default=str(TEMPERATURE),
    help="0 takes the likeliest token, 1 draws as the model says.",
)
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    show_default=str(TOP_P),
    help="Draw from the likeliest tokens that have this share together.",
)
@click.option("--seed", type=int, show_default="0", help="Equal seeds give equal text.")
@device_option
@json_option
def command(
    run: Path,
    prompt: str,
    images: tuple[Path, ...],
    tokens: int,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Write what the model of RUN says to PROMPT.

    RUN is a run, one of its checkpoints or a pointer file; averaged weights are taken where it has them.
    A language model goes on with PROMPT, which begins a document. A vision-language model answers it, and so
    does a policy that began with one, with the likeliest token each time: <image> in it stands for a picture;
    without any, pictures come before it. Where PROMPT is empty, it writes a caption.
    """
    from robot_foundry.trainer.checkpoints import checkpoint
    from robot_foundry.trainer.tasks.vla.cotraining.as_vlm import sees_and_answers

    if any("\ud800" <= letter <= "\udfff" for letter in prompt):
        raise UsageError("PROMPT has bytes that are not UTF-8")
    if sees_and_answers(checkpoint.find(run)):
        drawing = {"--temperature": temperature, "--top-p": top_p, "--seed": seed}
        if given := [name for name, value in drawing.items() if value is not None]:
            raise UsageError(f"an answer is the likeliest, nothing is drawn: leave {', '.join(given)} out")
        _answer(run, prompt, images, tokens, device, as_json)
    elif images:
        raise FoundryError(
            f"the model of {run} sees no pictures", hint="foundry-train vlm trains one that does"
        )
    else:
        _go_on(
            run, prompt, tokens, TEMPERATURE if temperature is None else temperature,
            TOP_P if top_p is None else top_p, seed or 0, device, as_json,
        )  # fmt: skip


def _answer(
    run: Path, question: str, images: tuple[Path, ...], tokens: int, device: str, as_json: bool
) -> None:
    from robot_foundry.shards.pairs.pair import USER, Turn
    from robot_foundry.shards.pictures.decode import decode
    from robot_foundry.trainer.tasks.vla.cotraining import as_vlm
    from robot_foundry.trainer.tasks.vlm.answering import answers, prompt_tokens

    trained = as_vlm.find(run).load(device)
    rows = trained.config.data.rows
    pictures = []
    for path in images:
        try:
            pictures.append(decode(path.read_bytes(), rows.image, fit=rows.fit))
        except FoundryError as error:
            raise FoundryError(f"{path}: {error.message}", hint=error.hint) from error
    asked = pictures, [Turn(USER, question)] if question else []
    [answer] = answers(trained, [asked], tokens=tokens)
    if (size := prompt_tokens(trained, asked)) > rows.length:
        note(
            f"Warning: the question has {size} tokens, the model was trained on rows of {rows.length}, "
            "and has seen no position behind them"
        )
    result = {"checkpoint": trained.folder, "question": question, "images": images, "answer": answer}
    emit({**result, "tokens": tokens}, as_json=as_json, text=lambda: answer)


def _go_on(
    run: Path,
    prompt: str,
    tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    from robot_foundry.trainer.tasks.llm.sampling import Sampling, sampled_ids, text_pieces
    from robot_foundry.trainer.tasks.llm.trained import load_trained

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
