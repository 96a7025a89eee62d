"""foundry-train: from a mixture of datasets to a trained model."""

from __future__ import annotations

import sys

import click

from robot_foundry import __version__
from robot_foundry.cli.lazy import LazyCommand, LazyGroup
from robot_foundry.cli.output import DEBUG_OPTION, run

PROGRAM = "foundry-train"
COMMANDS = {
    "llm": LazyCommand("robot_foundry.cli.train.llm:command", "Train a language model."),
    "vlm": LazyCommand("robot_foundry.cli.train.vlm:command", "Train a vision-language model."),
    "vla": LazyCommand("robot_foundry.cli.train.vla:command", "Train a vision-language-action policy."),
    "pipeline": LazyCommand(
        "robot_foundry.cli.train.pipeline:command", "Run all stages and their evaluation from one YAML."
    ),
    "describe": LazyCommand(
        "robot_foundry.cli.train.describe:command", "Tell what a recipe takes: parameters, FLOPs, memory."
    ),
    "diff": LazyCommand("robot_foundry.cli.train.diff:command", "Say in what two runs differ."),
    "verify": LazyCommand(
        "robot_foundry.cli.train.verify:command", "Recompute what a run logged, and compare to the bit."
    ),
    "sample": LazyCommand(
        "robot_foundry.cli.train.sample:command", "Write what a trained model says to a prompt."
    ),
    "export": LazyCommand(
        "robot_foundry.cli.train.export:command", "Write weights as other tools read them."
    ),
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
@click.option(DEBUG_OPTION, is_flag=True, expose_value=False, help="Show the traceback of an error.")
@click.version_option(__version__, message="%(prog)s %(version)s")
def group() -> None:
    """Train models; a run that was stopped resumes with the same command."""


def main() -> None:
    """Entry point."""
    sys.exit(run(group, PROGRAM))
