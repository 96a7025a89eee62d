"""Options that several commands share, so that they read and behave alike everywhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from robot_foundry.runtime.errors import UsageError, closest
from robot_foundry.runtime.storage.storage import OBJECT_STORES


class RunPath(click.Path):
    """A run's folder, a checkpoint or a pointer file; UsageError where it is not there, with the nearest.

    A URL of checkpoints is the copy of the newest in the user's cache.
    """

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value).partition("://")[0] in OBJECT_STORES:
            from robot_foundry.trainer.checkpoints import checkpoint

            return checkpoint.find(str(value))
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if path.exists():
            return path
        beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        meant = closest(path.name, beside)
        raise UsageError(
            f"there is no run '{path}'" + (f", did you mean '{path.with_name(meant)}'?" if meant else ""),
            hint="give a run's folder, a checkpoint or a pointer file",
        )


RUN = RunPath()

store_option = click.option(
    "--store",
    envvar="FOUNDRY_STORE",
    show_envvar=True,
    default="./store",
    show_default=True,
    metavar="FOLDER|URL",
    help="Where datasets live.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say what would be done; read what that needs and write nothing."
)

workers_option = click.option(
    "--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Processes; 0 is inline."
)
