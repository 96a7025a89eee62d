"""foundry-eval: how well what was trained does, with honest intervals."""

from __future__ import annotations

import sys

import click

from robot_foundry import __version__
from robot_foundry.cli.lazy import LazyCommand, LazyGroup
from robot_foundry.cli.output import DEBUG_OPTION, run

PROGRAM = "foundry-eval"
COMMANDS = {
    "collect": LazyCommand(
        "robot_foundry.cli.eval.collect:command", "Record demonstrations, or pictures with words, in a world."
    ),
    "rollout": LazyCommand(
        "robot_foundry.cli.eval.rollout:command", "Run a policy in closed loop and count successes."
    ),
    "watch": LazyCommand(
        "robot_foundry.cli.eval.watch:command", "Roll out each checkpoint of a run as it comes."
    ),
    "llm": LazyCommand("robot_foundry.cli.eval.llm:command", "Measure bits a byte of held-out text."),
    "vlm": LazyCommand(
        "robot_foundry.cli.eval.vlm:command", "Ask a vision-language model about held-out pictures."
    ),
    "openloop": LazyCommand(
        "robot_foundry.cli.eval.openloop:command", "Compare predicted actions with held-out episodes."
    ),
    "scorecard": LazyCommand(
        "robot_foundry.cli.eval.scorecard:command", "Tell at which stage of a run the fault is."
    ),
    "compare": LazyCommand(
        "robot_foundry.cli.eval.compare:command", "Tell which policy is better, and how sure that is."
    ),
    "latency": LazyCommand("robot_foundry.cli.eval.latency:command", "Time a policy's answers."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
@click.option(DEBUG_OPTION, is_flag=True, expose_value=False, help="Show the traceback of an error.")
@click.version_option(__version__, message="%(prog)s %(version)s")
def group() -> None:
    """Measure what was trained: text, answers about pictures, and policies, in closed loop too."""


def main() -> None:
    """Entry point."""
    sys.exit(run(group, PROGRAM))
