"""foundry-train vla: train a vision-language-action policy, or go on where a stopped run stands."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from robot_foundry.cli.options import dry_run_option, json_option
from robot_foundry.cli.output import emit, note, table
from robot_foundry.cli.train.common import is_main, launch, split_arguments, train

if TYPE_CHECKING:
    from robot_foundry.trainer.tasks.vla.vla_task import VLATask


@click.command(name="vla")
@click.argument("arguments", nargs=-1, metavar="[RECIPE] [KEY=VALUE]...")
@click.option(
    "--store",
    envvar="FOUNDRY_STORE",
    show_envvar=True,
    metavar="FOLDER|URL",
    help="Where datasets live: the same as data.store=…  [default: ./store]",
)
@click.option("--nproc", type=click.IntRange(1), default=1, show_default=True, help="Ranks on this machine.")
@click.option(
    "--pointer",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write a small JSON file that names the checkpoint, for git and dvc.",
)
@dry_run_option
@json_option
def command(
    arguments: tuple[str, ...],
    store: str | None,
    nproc: int,
    pointer: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train a vision-language-action policy.

    RECIPE is a YAML file or the name of a packaged recipe (default: vla_tiny). KEY=VALUE sets one of its
    keys, such as data.mix=lift, data.mix=sim=0.6,real=0.4 or run.steps=200. The same command goes on from
    the last checkpoint. Under torchrun every process is a rank.
    """
    from robot_foundry.trainer.tasks.mixtures import pinned
    from robot_foundry.trainer.tasks.vla.recipe import DEFAULT, read_recipe
    from robot_foundry.trainer.tasks.vla.resolving import resolve_vla

    recipe, overrides = split_arguments(arguments)
    if store is not None and not any(item.startswith("data.store=") for item in overrides):
        overrides = [f"data.store={store}", *overrides]
    config = read_recipe(recipe, overrides)
    launching = nproc > 1 and "RANK" not in os.environ and not dry_run
    task = resolve_vla(replace(config, data=pinned(config.data)) if launching else config)
    if launching:
        # The ranks resolve nothing themselves: a name that moves between their starts cannot split them.
        launch(nproc, f"data.mix={task.config.data.mix}")
    if is_main():
        if recipe is None:
            note(f"recipe: {DEFAULT} (packaged)")
        for warning in task.notes:
            note(f"Warning: {warning}")
    if dry_run:
        _emit_plan(task, as_json)
    else:
        train(task, pointer, as_json, next_command="foundry-eval openloop")


def _emit_plan(task: VLATask, as_json: bool) -> None:
    from robot_foundry.normalization.normalizer_report import HEADERS, as_text
    from robot_foundry.trainer.recipes.yaml_text import write_yaml
    from robot_foundry.trainer.tasks.vla.dry_run import planned

    plan = planned(task)
    for line in plan.warnings:
        note(f"Warning: {line}")
    values = plan.values

    def text() -> str:
        datasets = [
            (row["name"], row["version_id"][:12], row["weight"], row["num_samples"], round(epochs, 2))
            for row, epochs in zip(values["mixture"], plan.epochs, strict=True)
        ]
        parts = [
            write_yaml(values["config"]).rstrip(),
            table(("part", "parameters"), values["parameters"].items()),
            table(("dataset", "version", "weight", "samples", "epochs"), datasets),
            as_text(values["normalizer"], ("of", "dataset", *HEADERS)),
            f"{task.num_steps} steps of {task.config.global_batch} samples, into {task.run_dir}",
        ]
        return "\n\n".join(parts)

    emit(values, as_json=as_json, text=text)
