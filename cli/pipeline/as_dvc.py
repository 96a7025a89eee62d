"""A pipeline as the dvc.yaml that runs the same commands: dvc reads the same values from the same place."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from robot_foundry.cli.pipeline import references
from robot_foundry.cli.pipeline.pipeline_file import Pipeline, Stage
from robot_foundry.runtime.errors import UsageError
from robot_foundry.trainer.recipes.yaml_text import write_yaml

LONGEST_LINE = 1000  # no command is folded
OF_DVC = "params.yaml"  # whose values dvc reads unasked


def dvc_text(pipeline: Pipeline, folder: Path) -> str:
    """The text of a dvc.yaml in `folder`, where dvc runs its commands.

    Products stay where they are (`cache: false`): dvc knows their hashes, and keeps no copies. UsageError
    where a shell, which reads commands there, would read the place of one otherwise.
    """
    _check(pipeline, folder)
    places = {stage.name: stage.out for stage in pipeline.stages}
    content: dict[str, Any] = {}
    if pipeline.values_file is not None:
        file = os.path.relpath(pipeline.path.parent / pipeline.values_file, folder)
        content |= {} if file == OF_DVC else {"vars": [file]}
    elif pipeline.values:
        content["vars"] = [dict(pipeline.values)]
    content["stages"] = {stage.name: _stage(pipeline, stage, places, folder) for stage in pipeline.stages}
    file = os.path.relpath(pipeline.path, folder)
    made = f"# Made of {file}, which says more: foundry-train pipeline {file} --to-dvc dvc.yaml"
    return f"{made}\n{write_yaml(content, width=LONGEST_LINE)}"


def _check(pipeline: Pipeline, folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder} for a dvc.yaml")
    outs = {stage.name: stage.out for stage in pipeline.stages}
    odd = [f"{name}.out: '{out}'" for name, out in outs.items() if shlex.quote(out) != out]
    if odd:
        listed = ", ".join(odd)
        raise UsageError(
            f"dvc gives commands to a shell, which takes these places apart: {listed}",
            hint="letters, digits and - _ . / stay as they are",
        )


def _stage(pipeline: Pipeline, stage: Stage, places: dict[str, str], folder: Path) -> dict[str, Any]:
    run = references.with_products(stage.run, places | {references.OUT: stage.out})
    words = [word for word in shlex.split(stage.run)[1:] if not references.products_in(word)]
    flat = pipeline.flat
    files = [word for word in words if (folder / references.with_values(word, flat)).is_file()]
    deps = [*files, *(places[need] for need in stage.needs)]
    kept = {"deps": deps} if deps else {}
    return {"cmd": run, **kept, "outs": [{stage.out: {"cache": False}}]}
