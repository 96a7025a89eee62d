"""foundry-train vla: train a vision-language-action policy, or go on where a stopped run stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from robot_foundry.cli.train.common import Asked, emit_plan, resolved_task, train, training_options

if TYPE_CHECKING:
    from robot_foundry.trainer.tasks.vla.vla_task import VLATask


@click.command(name="vla")
@training_options
def command(asked: Asked) -> None:
    """Train a vision-language-action policy.

    RECIPE is a YAML file or the name of a packaged recipe (default: vla_tiny). KEY=VALUE sets one of its
    keys, such as data.mix=lift, data.mix=sim=0.6,real=0.4 or run.steps=200. The same command goes on from
    the last checkpoint. Under torchrun every process is a rank.
    """
    from robot_foundry.trainer.tasks.vla.recipe import DEFAULT, read_recipe
    from robot_foundry.trainer.tasks.vla.resolving import resolve_vla

    task = resolved_task(asked, read_recipe, resolve_vla, DEFAULT)
    if asked.dry_run:
        _emit_plan(task, asked.as_json)
    else:
        train(task, asked, next_command="foundry-eval openloop RUN")


def _emit_plan(task: VLATask, as_json: bool) -> None:
    from robot_foundry.normalization.normalizer_report import HEADERS, as_text
    from robot_foundry.trainer.tasks.vla.dry_run import planned

    plan = planned(task)
    beside = [row for name in task.beside for row in plan.values[f"{name}_mixture"]]
    rows = [
        (row["name"], row["version_id"][:12], row["weight"], row["num_samples"], round(epochs, 2))
        for row, epochs in zip([*plan.values["mixture"], *beside], plan.epochs, strict=True)
    ]
    emit_plan(
        task,
        plan,
        as_json,
        datasets=(("dataset", "version", "weight", "samples", "epochs"), rows),
        first=[_of_features(plan.values["features"])],
        more=[as_text(plan.values["normalizer"], ("of", "dataset", *HEADERS))],
    )


def _of_features(features: Mapping[str, Any]) -> str:
    what = "features of the backbone"
    if features["change_by"] is not None:
        return f"{what} cannot be cached: {features['change_by']}"
    return f"{what} are cached" if features["cached"] else f"{what} can be cached: data.cache_features=true"
