"""What the commands of foundry-train share: arguments, ranks on this machine, and what a run ended with."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from robot_foundry.cli.options import dry_run_option, json_option
from robot_foundry.cli.output import counted, emit, note, table
from robot_foundry.cli.train.ranks import QUIET, launch, ranks_options

if TYPE_CHECKING:
    from robot_foundry.trainer.outcome import Outcome
    from robot_foundry.trainer.tasks.plan import RunPlan
    from robot_foundry.trainer.tasks.task import Task

Config = TypeVar("Config", bound=Any)
TaskT = TypeVar("TaskT", bound=Any)


@dataclass(frozen=True)
class Asked:
    """The arguments of a command that trains."""

    recipe: str | None
    overrides: list[str]
    nproc: int
    nnodes: int | None
    node_rank: int | None
    master: str | None
    logs: Path | None
    pointer: Path | None
    overfit: int | None
    profile: int | None
    dry_run: bool
    as_json: bool


def training_options(command: Callable[[Asked], None]) -> Callable[..., None]:
    """The arguments and options of a command that trains, which is called with them as `Asked`."""

    @click.argument("arguments", nargs=-1, metavar="[RECIPE] [KEY=VALUE]...")
    @click.option(
        "--store",
        envvar="FOUNDRY_STORE",
        show_envvar=True,
        metavar="FOLDER|URL",
        help="Where datasets live: the same as data.store=…  [default: ./store]",
    )
    @ranks_options
    @click.option(
        "--pointer",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Also write a small JSON file that names the checkpoint, for git and dvc.",
    )
    @click.option(
        "--overfit",
        type=click.IntRange(1),
        metavar="N",
        help="Learn the first N samples again and again, as a check: the loss must go to near zero.",
    )
    @click.option(
        "--profile",
        type=click.IntRange(1),
        is_flag=False,
        flag_value=5,
        metavar="[STEPS]",
        help="Also profile some steps, 5 unless --profile=STEPS says how many, into RUN/profile.",
    )
    @dry_run_option
    @json_option
    @wraps(command)
    def asked(arguments: tuple[str, ...], store: str | None, **options: Any) -> None:
        os.environ.setdefault(*QUIET)
        recipe, overrides = split_arguments(arguments)
        if store is not None and not any(item.startswith("data.store=") for item in overrides):
            overrides = [f"data.store={store}", *overrides]
        if options["overfit"] is not None:
            overrides = [*overrides, f"data.overfit={options['overfit']}"]
        command(Asked(recipe, overrides, **options))

    return asked


def split_arguments(arguments: tuple[str, ...]) -> tuple[str | None, list[str]]:
    """The recipe, if the first argument is none of key=value, and the overrides."""
    if arguments and ("=" not in arguments[0] or Path(arguments[0]).is_file()):
        return arguments[0], list(arguments[1:])
    return None, list(arguments)


def resolved_task(
    asked: Asked,
    read_recipe: Callable[[str | None, list[str]], Config],
    resolve: Callable[[Config], TaskT],
    default: str,
) -> TaskT:
    """The task of a command, found in the store; its notes are told.

    Where several ranks are asked for, they are run, and this process ends as they do.
    """
    from robot_foundry.trainer.ranks.nodes import chosen
    from robot_foundry.trainer.tasks.mixtures import pins

    nodes = chosen(asked.nproc, asked.nnodes, asked.node_rank, asked.master)
    config = read_recipe(asked.recipe, asked.overrides)
    if nodes is not None and not asked.dry_run:
        # The ranks resolve nothing themselves: a name that moves between their starts cannot split them.
        pinned = pins(config.data)
        task = resolve(read_recipe(asked.recipe, [*asked.overrides, *pinned]))  # what is wrong is told once
        launch(nodes, asked.nproc, pinned, asked.logs or task.run_dir / "logs")
    task = resolve(config)
    if is_main():
        if asked.recipe is None:
            note(f"recipe: {default} (packaged)")
        for warning in task.notes:
            note(f"Warning: {warning}")
    return task


def is_main() -> bool:
    """Whether this process is the only one, or the first of several ranks."""
    return int(os.environ.get("RANK", 0)) == 0


def train(task: Task, asked: Asked, next_command: str) -> None:
    """Train a task to its end, name its checkpoint in the pointer file, and print what came of it.

    `next_command` is what one would do with a run, its folder written as RUN.
    """
    from robot_foundry.trainer.checkpoints.checkpoint import write_pointer
    from robot_foundry.trainer.run import run_task

    if is_main():
        note(f"run: {task.run_dir} ({task.num_steps} steps)")
    outcome = run_task(task, profile=asked.profile)
    if is_main():
        if asked.pointer is not None:
            write_pointer(asked.pointer, outcome.checkpoint, step=outcome.step, weights=outcome.weights)
        _emit_outcome(outcome, asked.as_json, next_command.replace("RUN", str(outcome.run_dir)))


def emit_plan(
    task: Task,
    plan: RunPlan,
    as_json: bool,
    *,
    datasets: tuple[Sequence[str], Iterable[Sequence[object]]],
    first: Sequence[str] = (),
    more: Sequence[str] = (),
) -> None:
    """Print what a run would be: its recipe, parameters and datasets (headers and rows), and `more` of it.

    What may be a reason not to start it comes before that: warnings, and what `first` says.
    """
    from robot_foundry.trainer.recipes.yaml_text import write_yaml

    for line in plan.warnings:
        note(f"Warning: {line}")

    def text() -> str:
        parts = [
            *first,
            write_yaml(plan.values["config"]).rstrip(),
            table(("part", "parameters"), plan.values["parameters"].items()),
            table(*datasets),
            *more,
            f"{task.num_steps} steps of {task.config.global_batch} samples, into {task.run_dir}",
        ]
        return "\n\n".join(parts)

    emit(plan.values, as_json=as_json, text=text)


def _emit_outcome(outcome: Outcome, as_json: bool, next_command: str) -> None:
    result = {
        "run_dir": outcome.run_dir,
        "checkpoint": outcome.checkpoint,
        "step": outcome.step,
        "resumed_from": outcome.resumed_from,
        "weights": outcome.weights,
        "loss": outcome.loss,
        "held_out_loss": outcome.held_out_loss,
        **outcome.figures,
        **outcome.rates,
        "skipped": outcome.skipped,
        "substituted": outcome.substituted,
        "next": next_command,
        "scorecard": f"foundry-eval scorecard {shlex.quote(str(outcome.run_dir))}",
    }

    def text() -> str:
        measured = {"final loss": outcome.loss, "held-out loss": outcome.held_out_loss, **outcome.figures}
        lines = [
            f"{name.replace('_', ' '):<15} {'none' if value is None else f'{value:.4f}'}"
            for name, value in measured.items()
        ]
        lines.append(f"checkpoint      {outcome.checkpoint}")
        replaced = sum(outcome.substituted.values())
        if outcome.skipped:
            lines.append(
                f"skipped         {counted(outcome.skipped, 'step')} that were not finite, or spikes"
            )
        if replaced:
            lines.append(
                f"substituted     {counted(replaced, 'damaged sample')}; lineage.json names the files"
            )
        if outcome.resumed_from:
            lines.append(f"resumed from    step {outcome.resumed_from}")
        lines += [f"next            {next_command}", f"all stages      {result['scorecard']}"]
        return "\n".join(lines)

    emit(result, as_json=as_json, text=text)
