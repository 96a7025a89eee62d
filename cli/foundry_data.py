"""foundry-data: from raw logs to versions, and what is in them."""

from __future__ import annotations

import sys

import click

from robot_foundry import __version__
from robot_foundry.cli.lazy import LazyCommand, LazyGroup
from robot_foundry.cli.output import DEBUG_OPTION, run

PROGRAM = "foundry-data"
COMMANDS = {
    "ingest": LazyCommand("robot_foundry.cli.data.ingest:command", "Make a dataset version from raw logs."),
    "sources": LazyCommand(
        "robot_foundry.cli.data.sources:command", "List the public datasets that have a spec."
    ),
    "remap": LazyCommand(
        "robot_foundry.cli.data.remap:command", "Make a version with a new mapping; reads no image."
    ),
    "tokenizer": LazyCommand("robot_foundry.cli.data.tokens.tokenizer:group", "Make and list tokenizers."),
    "tokenize": LazyCommand(
        "robot_foundry.cli.data.tokens.tokenize:command", "Make a version of tokens from one of text."
    ),
    "index": LazyCommand("robot_foundry.cli.data.index:command", "Index WebDataset tars where they lie."),
    "inspect": LazyCommand(
        "robot_foundry.cli.data.inspect:command", "Say what a file or folder is, and draft a spec."
    ),
    "topics": LazyCommand("robot_foundry.cli.data.topics:command", "List the topics of ROS bags."),
    "ls": LazyCommand("robot_foundry.cli.data.ls:command", "List datasets and their versions."),
    "show": LazyCommand("robot_foundry.cli.data.show:command", "Show what a version holds."),
    "stats": LazyCommand(
        "robot_foundry.cli.data.statistics.stats:command", "Show the distributions of a version."
    ),
    "validate": LazyCommand(
        "robot_foundry.cli.data.validate:command",
        "Find damage of a version, and doubtful data.",
    ),
    "query": LazyCommand("robot_foundry.cli.data.query:command", "Query the catalogue with SQL."),
    "export": LazyCommand(
        "robot_foundry.cli.data.export:command", "Write a version or mixture in a format of other tools."
    ),
    "mix": LazyCommand("robot_foundry.cli.data.mix:command", "Make a weighted mixture of datasets."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
@click.option(DEBUG_OPTION, is_flag=True, expose_value=False, help="Show the traceback of an error.")
@click.version_option(__version__, message="%(prog)s %(version)s")
def group() -> None:
    """Turn robot logs, text and pictures into immutable, versioned datasets, and look into them."""


def main() -> None:
    """Entry point."""
    sys.exit(run(group, PROGRAM))
