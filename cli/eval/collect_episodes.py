"""foundry-eval collect <world>: record demonstrations of the world's scripted expert."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from robot_foundry.cli.options import dry_run_option, json_option, workers_option
from robot_foundry.cli.output import emit


@click.command("episodes")
@click.option("--task", required=True, help="Which task, such as reach_single.")
@click.option("--episodes", type=click.IntRange(min=1), required=True, help="How many demonstrations.")
@click.option("--variant", default="sim", show_default=True, help="Look and arm of the world: sim or real.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides every scene.")
@click.option(
    "--to", "to", type=click.Choice(["hdf5"]), default="hdf5", show_default=True, help="File format."
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write."
)
@click.option("--cameras", help="Camera roles, separated by commas. [default: all of the task]")
@click.option("--size", type=int, default=64, show_default=True, help="Image side in pixels.")
@workers_option
@dry_run_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    task: str,
    episodes: int,
    variant: str,
    seed: int,
    to: str,
    out: Path,
    cameras: str | None,
    size: int,
    workers: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Record demonstrations of the world's scripted expert, with a hand's noise and recovery from it.

    The same task, variant, seed and size give the same episodes whatever --workers says.

    \b
    foundry-eval collect tabletop --task reach_single --episodes 500 --out reach.hdf5
    foundry-data ingest tabletop reach.hdf5 --name reach
    """
    from robot_foundry.evaluation.collection import Request, collect

    world = str(context.info_name)  # the group has a command for each world
    roles = None if cameras is None else tuple(role.strip() for role in cameras.split(",") if role.strip())
    request = Request(task, variant, episodes, seed, roles, size, world)
    if dry_run:
        settings, columns = request.settings(), list(request.demonstrator().columns)
        planned = {"out": str(out), "cameras": settings.pop("cameras"), "columns": columns, **settings}
        emit(
            planned, as_json=as_json, text=f"would record {episodes} episodes of {task} ({variant}) to {out}"
        )
        return
    made = collect(request, out, workers=workers)
    emit(
        {**asdict(made), "world": world, "task": task, "variant": variant, "seed": seed},
        as_json=as_json,
        text=f"{made.path}: {made.episodes} episodes, {made.successes} successful, {made.frames} frames, "
        f"{made.bytes / 1e6:.1f} MB",
    )
