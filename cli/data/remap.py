"""foundry-data remap VERSION: the same tars under another mapping."""

from __future__ import annotations

import click

from robot_foundry.cli.data.ingest import now, set_option, show
from robot_foundry.cli.options import json_option, store_option, workers_option
from robot_foundry.runtime.errors import UsageError


@click.command("remap")
@click.argument("version")
@click.option(
    "--spec", metavar="NAME|FILE", help="Take the mapping of this spec. [default: the version's own]"
)
@set_option
@store_option
@workers_option
@click.option("--strict", is_flag=True, help="Fail if the mapping does not fit every episode.")
@json_option
def command(
    version: str,
    spec: str | None,
    overrides: tuple[str, ...],
    store: str,
    workers: int,
    strict: bool,
    as_json: bool,
) -> None:
    """Make a version that shares every tar of VERSION and has its states and actions by another mapping.

    Reads no image and writes no tar, so that a wrong sign or unit costs seconds.

    \b
    foundry-data remap lift --spec my.yaml
    foundry-data remap lift --set mapping.state.right.gripper_opening.open=0.085
    """
    from robot_foundry.ingest.engine import Options
    from robot_foundry.ingest.remapping import run, spec_of

    if spec is None and not overrides:
        raise UsageError("there is nothing to change", hint="give --spec or --set")
    wanted = spec_of(version, spec, overrides, store=store)
    options = Options(workers=workers, max_errors=0 if strict else None, created=now())
    show(run(version, wanted, store=store, options=options), as_json=as_json)
