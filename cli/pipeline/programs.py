"""The commands of a pipeline's stages: how they are started, and what is wrong with them before any runs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path

import click

from robot_foundry.cli.pipeline.pipeline_file import Pipeline, Stage
from robot_foundry.cli.pipeline.references import OUT
from robot_foundry.cli.train.common import split_arguments
from robot_foundry.runtime.errors import FoundryError, UsageError

PROGRAMS: Mapping[str, str] = {
    "foundry-data": "robot_foundry.cli.foundry_data",
    "foundry-train": "robot_foundry.cli.foundry_train",
    "foundry-eval": "robot_foundry.cli.foundry_eval",
}
TRAINING: Mapping[str, str] = {
    f"foundry-train {task}": f"robot_foundry.trainer.tasks.{task}.recipe" for task in ("llm", "vlm", "vla")
}
PYTHON = ("python", "python3")


def process_of(arguments: Sequence[str]) -> list[str]:
    """What the system starts for a command: this Python and this package, whatever the PATH says."""
    program, *rest = arguments
    if program in PROGRAMS:
        return [sys.executable, "-c", f"from {PROGRAMS[program]} import main; main()", *rest]
    return [sys.executable, *rest] if program in PYTHON else list(arguments)


def problems(pipeline: Pipeline, stages: Iterable[Stage]) -> Iterator[str]:
    """A line for each command of the stages that is wrong in itself: its program, its options, their values.

    Nothing that an earlier stage makes has to be there.
    """
    yield from _problems(pipeline, stages, _check)


def recipe_problems(pipeline: Pipeline, stages: Iterable[Stage]) -> Iterator[str]:
    """What is wrong with the recipes of those of the stages that train. Imports what trains."""
    yield from _problems(pipeline, stages, _check_recipe)


def _problems(
    pipeline: Pipeline, stages: Iterable[Stage], check: Callable[[Sequence[str]], None]
) -> Iterator[str]:
    for stage in stages:
        # What an earlier stage makes is not there yet; the pipeline's own file is, and stands for it.
        stands_for = {need: str(pipeline.path) for need in stage.needs} | {OUT: stage.out}
        try:
            check(pipeline.arguments(stage, stands_for))
        except FoundryError as error:
            yield f"{stage.name}: {error}"
        except click.ClickException as error:
            yield f"{stage.name}: {error.format_message()}"
        except click.exceptions.Exit:
            yield f"{stage.name}: its command does nothing but tell something"


def files_of(pipeline: Pipeline, stage: Stage) -> list[Path]:
    """Files that a command names, and its recipe even if by a packaged name; no products of stages."""
    nowhere = {name: f"{{{name}}}" for name in (*stage.needs, OUT)}
    arguments = pipeline.arguments(stage, nowhere)
    named = [Path(word) for word in arguments[1:] if Path(word).is_file()]
    return list(dict.fromkeys([*named, *_recipe_file(arguments)]))


def _check(arguments: Sequence[str]) -> None:
    program, *rest = arguments
    if program in PROGRAMS:
        _parsed(import_module(PROGRAMS[program]).group, program, rest)
        _recipe_file(arguments)
    elif shutil.which(process_of(arguments)[0]) is None:
        raise UsageError(f"there is no program {program!r}")


def _check_recipe(arguments: Sequence[str]) -> None:
    task = " ".join(arguments[:2])
    if task in TRAINING:
        import_module(TRAINING[task]).read_recipe(*_training_arguments(arguments))


def _parsed(command: click.Command, name: str, arguments: list[str]) -> click.Context:
    """The arguments as the command reads them, which may be one of a group; click's errors if it cannot."""
    context = click.Context(command, info_name=name)
    while isinstance(command, click.Group):
        if not arguments:
            raise UsageError(f"{context.command_path} needs one of its commands")
        found, below, arguments = command.resolve_command(context, arguments)
        assert below is not None
        context, command = click.Context(below, info_name=found, parent=context), below
    assert context.parent is not None
    return command.make_context(context.info_name, arguments, parent=context.parent)


def _recipe_file(arguments: Sequence[str]) -> list[Path]:
    """The file of the recipe that a command names, if it does; UsageError if that is not there."""
    recipe = _training_arguments(arguments)[0]
    if recipe is None:
        return []
    from robot_foundry.trainer.recipes.form import recipe_path

    return [recipe_path(recipe)]


def _training_arguments(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The recipe and the overrides of a command that trains; (None, []) of another."""
    if " ".join(arguments[:2]) not in TRAINING:
        return None, []
    group: click.Command = import_module(PROGRAMS[arguments[0]]).group
    return split_arguments(_parsed(group, arguments[0], list(arguments[1:])).params["arguments"])
