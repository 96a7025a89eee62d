"""Options and start of a command that trains on several ranks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from robot_foundry.trainer.ranks.nodes import Nodes

# Where a peer is gone PyTorch's C++ warns with pages of addresses. It reads this when it is loaded.
QUIET = ("TORCH_CPP_LOG_LEVEL", "ERROR")

_OPTIONS = (
    click.option(
        "--nproc", type=click.IntRange(1), default=1, show_default=True, help="Ranks on this machine."
    ),
    click.option("--nnodes", type=click.IntRange(1), help="Machines that train together; each runs this."),
    click.option("--node-rank", type=click.IntRange(0), help="Which of them this is, from 0."),
    click.option(
        "--master", metavar="HOST:PORT", help="The first of them, and a port of it.  [default port: 29400]"
    ),
    click.option(
        "--logs",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="FOLDER",
        help="Where each rank but the first writes a log.  [default: RUN/logs]",
    ),
)


def ranks_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how many ranks there are, and where."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def launch(nodes: Nodes, nproc: int, pins: Sequence[str], logs: Path) -> None:
    """Run the same command, with the `pins` of the first node added, as ranks, and end as they do."""
    from robot_foundry.trainer.ranks.launch import run_ranks

    program = (
        "from robot_foundry.trainer.ranks.launch import end_with_launcher; end_with_launcher(); "
        "from robot_foundry.cli.foundry_train import main; main()"
    )
    command = [sys.executable, "-c", program, *sys.argv[1:]]
    sys.exit(run_ranks(command, nproc, nodes=nodes, pins=pins, logs=logs))
