"""foundry-train llm: train a language model, or go on where a stopped run stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from robot_foundry.cli.train.common import Asked, emit_plan, resolved_task, train, training_options

if TYPE_CHECKING:
    from robot_foundry.trainer.tasks.llm.llm_task import LLMTask


@click.command(name="llm")
@training_options
def command(asked: Asked) -> None:
    """Train a language model on tokens.

    RECIPE is a YAML file or the name of a packaged recipe (default: llm_tiny). KEY=VALUE sets one of its
    keys, such as data.mix=wiki-bpe, data.mix=wiki-bpe=0.6,code-bpe=0.4 or run.tokens=2e9. The same command
    goes on from the last checkpoint. Under torchrun every process is a rank.
    """
    from robot_foundry.trainer.tasks.llm.recipe import DEFAULT, read_recipe
    from robot_foundry.trainer.tasks.llm.resolving import resolve_llm

    task = resolved_task(asked, read_recipe, resolve_llm, DEFAULT)
    if asked.dry_run:
        _emit_plan(task, asked.as_json)
    else:
        train(task, asked, next_command='foundry-train sample RUN "…"')


def _emit_plan(task: LLMTask, as_json: bool) -> None:
    from robot_foundry.trainer.tasks.llm.dry_run import planned

    plan = planned(task)
    values = plan.values
    rows = [
        (of["name"], of["version_id"][:12], of["weight"], of["num_samples"], of["rows"], round(epochs, 2))
        for of, epochs in zip(values["mixture"], plan.epochs, strict=True)
    ]
    tokenizer = values["tokenizer"]
    more = [f"tokenizer {tokenizer['id'][:12]} of {tokenizer['size']:,} tokens"]
    if values["init"] is not None:
        more.append("\n".join([f"starts from {task.config.init.weights}", *values["init"].get("map", ())]))
    emit_plan(
        task,
        plan,
        as_json,
        datasets=(("dataset", "version", "weight", "tokens", "rows", "epochs"), rows),
        more=[*more, f"{values['tokens']:,} tokens"],
    )
