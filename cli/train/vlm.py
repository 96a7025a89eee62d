"""foundry-train vlm: train a vision-language model, or go on where a stopped run stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from robot_foundry.cli.train.common import Asked, emit_plan, resolved_task, train, training_options

if TYPE_CHECKING:
    from robot_foundry.trainer.tasks.vlm.vlm_task import VLMTask


@click.command(name="vlm")
@training_options
def command(asked: Asked) -> None:
    """Train a vision-language model on image-text pairs.

    RECIPE is a YAML file or the name of a packaged recipe (default: vlm_tiny). KEY=VALUE sets one of its
    keys, such as data.mix=scenes, data.mix=scenes=0.7,charts=0.3, init.llm=RUN or run.samples=1e5. The same
    command goes on from the last checkpoint. Under torchrun every process is a rank.
    """
    from robot_foundry.trainer.tasks.vlm.recipe import DEFAULT, read_recipe
    from robot_foundry.trainer.tasks.vlm.resolving import resolve_vlm

    task = resolved_task(asked, read_recipe, resolve_vlm, DEFAULT)
    if asked.dry_run:
        _emit_plan(task, asked.as_json)
    else:
        train(task, asked, next_command='foundry-train sample RUN --image FILE "…"')


def _emit_plan(task: VLMTask, as_json: bool) -> None:
    from robot_foundry.trainer.tasks.vlm.dry_run import planned

    plan = planned(task)
    values = plan.values
    mixed = [*values["mixture"], *(values["text_mixture"] or ())]
    rows = [
        (of["name"], of["version_id"][:12], of["weight"], of["num_samples"], of["rows"], round(epochs, 2))
        for of, epochs in zip(mixed, plan.epochs, strict=True)
    ]
    tokenizer, pixels = values["tokenizer"], task.config.data.rows.image
    more = [
        f"tokenizer {tokenizer['id'][:12]} of {tokenizer['size']:,} tokens",
        f"{values['image_tokens']} tokens a picture of {pixels[0]} × {pixels[1]} pixels",
    ]
    for key, told in (values["init"] or {}).items():
        where = told.get("checkpoint") or told["pretrained"]
        more.append("\n".join([f"{key}: {where}", *told.get("map", ())]))
    emit_plan(
        task,
        plan,
        as_json,
        datasets=(("dataset", "version", "weight", "pairs or tokens", "rows", "epochs"), rows),
        more=[*more, f"{values['tokens']:,} tokens of rows with pictures"],
    )
