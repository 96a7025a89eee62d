"""foundry-train describe: what a run of a recipe takes, without its data."""

from __future__ import annotations

import math
from dataclasses import asdict
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from robot_foundry.cli.options import json_option
from robot_foundry.cli.output import emit, note, size, table
from robot_foundry.cli.train.common import split_arguments
from robot_foundry.runtime.errors import UsageError

if TYPE_CHECKING:
    from robot_foundry.trainer.models.sizes.communication import Traffic
    from robot_foundry.trainer.models.sizes.picture_cost import PictureCost
    from robot_foundry.trainer.tasks.cost import RunCost, Tokens


@click.command(name="describe")
@click.argument("arguments", nargs=-1, metavar="[RECIPE] [KEY=VALUE]...")
@click.option(
    "--gpu-memory", type=click.FloatRange(0, min_open=True), default=80.0, show_default=True,
    metavar="GB", help="Of a GPU: how often a step must be divided so that it fits.",
)  # fmt: skip
@json_option
def command(arguments: tuple[str, ...], gpu_memory: float, as_json: bool) -> None:
    """Tell the parameters of a recipe's model, what a token costs, the memory on 1 … 128 GPUs, and what these
    send each other.

    RECIPE is a YAML file or the name of a packaged recipe (default: llm_tiny). No data is needed. Memory is
    that of DDP, where each rank holds all weights, of run.shard=0, where ranks share them, and of
    run.shard=8, where those of a machine do.
    """
    recipe, overrides = split_arguments(arguments)
    if not math.isfinite(gpu_memory):
        raise UsageError(f"--gpu-memory must be a finite number of GB, not {gpu_memory}")
    if recipe is None:
        recipe = "llm_tiny"
        note(f"recipe: {recipe} (packaged)")
    gpu_bytes = int(gpu_memory * 1e9)
    task, config = _read(recipe, ["data.mix=none", *overrides])
    cost: RunCost = import_module(f"robot_foundry.trainer.tasks.{task}.cost").run_cost(config, gpu_bytes)
    sent = [_sent(one) for one in cost.traffic]
    emit(
        {"task": task, **asdict(cost), "traffic": sent}, as_json=as_json, text=lambda: _text(cost, gpu_bytes)
    )


def _read(recipe: str, overrides: list[str]) -> tuple[str, Any]:
    """The task whose recipe this is, and its configuration: what a task needs, no other knows.

    The error of the task that has the least to say against it where it is one of none.
    """
    from robot_foundry.trainer.tasks.known import TASKS

    errors: list[UsageError] = []
    for task in TASKS:
        try:
            reader = import_module(f"robot_foundry.trainer.tasks.{task}.recipe").read_recipe
            return task, reader(recipe, overrides)
        except UsageError as error:
            errors.append(error)
    raise min(errors, key=lambda error: error.message.count("\n"))


def _text(cost: RunCost, gpu_bytes: int) -> str:
    accumulated = f" in {cost.accumulate} microbatches" if cost.accumulate > 1 else ""
    parts = [f"{cost.name}: {cost.global_batch:,} samples a step{accumulated}, {cost.precision}"]
    if cost.assumed is not None:
        parts.append(f"for {cost.assumed}")
    parts.append(table(("part", "parameters"), [(name, f"{n:,}") for name, n in cost.parameters.items()]))
    if cost.tokens is not None:
        parts.append(_token_text(cost.tokens, cost.picture))
    if cost.picture is not None:
        parts.append(_picture_text(cost.picture))
    for name, one in cost.beside.items():
        parts.append(f"{name} beside, {one.rows:,} rows a step")
        parts.append(_token_text(one.tokens, one.picture))
        if one.picture is not None:
            parts.append(_picture_text(one.picture))
    state = [(name, size(number)) for name, number in asdict(cost.state).items() if name != "unit"]
    parts.append(table(("of all parameters", "memory"), state))
    parts.append(_memory_text(cost, gpu_bytes))
    parts.append(_traffic_text(cost))
    return "\n\n".join(parts)


def _token_text(tokens: Tokens, picture: PictureCost | None) -> str:
    cost = tokens.cost
    rows = [
        ("FLOPs forward", f"{cost.forward_flops:.3g}"),
        ("FLOPs of training", f"{cost.training_flops:.3g}"),
        ("kept for the backward pass", size(round(cost.activation_bytes))),
        ("kept while generating", size(cost.cache_bytes)),
    ]
    flops = tokens.in_run * cost.training_flops
    if picture is not None:
        flops += tokens.in_run // picture.tokens * picture.training_flops
    run = f"{tokens.in_run:,} tokens in the run: {flops:.3g} FLOPs"
    return f"{table((f'a token in rows of {tokens.length:,}', ''), rows)}\n\n{run}"


def _picture_text(cost: PictureCost) -> str:
    rows = [
        ("tokens", str(cost.tokens)),
        ("FLOPs forward", f"{cost.forward_flops:.3g}"),
        ("FLOPs of training", f"{cost.training_flops:.3g}"),
        ("kept for the backward pass", size(round(cost.activation_bytes))),
    ]
    return table(("a picture, before its tokens reach the decoder", ""), rows)


def _memory_text(cost: RunCost, gpu_bytes: int) -> str:
    headers = ["GPUs", "samples at a time", "DDP", "fully sharded", "groups of 8"]
    rows = [
        [
            row.gpus,
            row.rows or "-",
            size(row.ddp),
            size(row.sharded),
            "-" if row.grouped is None else size(row.grouped),
        ]
        for row in cost.memory
    ]
    if cost.tokens is None:
        return table(headers, rows)
    fits = f"run.accumulate for {size(gpu_bytes)}"
    headers += ["activations", f"{fits}: DDP", "fully sharded"]
    for row, of in zip(rows, cost.memory, strict=True):
        row += [
            "-" if of.activations is None else size(of.activations),
            of.ddp_fits or "-",
            of.sharded_fits or "-",
        ]
    return table(headers, rows)


def _traffic_text(cost: RunCost) -> str:
    rows = [
        [
            one.gpus,
            one.shared,
            size(one.sent_each_microbatch) if one.shared > 1 else 0,
            size(one.sent_each_step),
        ]
        for one in cost.traffic
    ]
    return table(("GPUs", "run.shard", "a rank sends each microbatch", "and each step"), rows)


def _sent(one: Traffic) -> dict[str, int]:
    """As JSON, with what follows from it."""
    sums = {name: getattr(one, name) for name in ("gpus", "sent_each_microbatch", "sent_each_step")}
    return {**asdict(one), **sums}
