"""foundry-eval collect <world>: record demonstrations of the world's scripted expert."""

from __future__ import annotations

import re
import shlex
from dataclasses import asdict
from pathlib import Path

import click

from robot_foundry.cli.options import dry_run_option, json_option, workers_option
from robot_foundry.cli.output import emit, note
from robot_foundry.evaluation.recorders.formats import FORMATS, check_options, check_place, get_format

# Of a dataset.
LONGEST_NAME = 64


@click.command("episodes")
@click.option("--task", required=True, help="Which task of the world: docs/WORLD.md has them.")
@click.option("--episodes", type=click.IntRange(min=1), required=True, help="How many demonstrations.")
@click.option("--variant", default="sim", show_default=True, help="A variant of the world, such as sim.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides every scene.")
@click.option(
    "--to", "to", type=click.Choice(list(FORMATS)), default="hdf5", show_default=True, help="Format."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="What to write: a file of HDF5, in place of one recorded before; of any other format a new folder.",
)
@click.option("--images", is_flag=True, help="[lerobot] JPEG in the parquet instead of videos.")
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
    images: bool,
    cameras: str | None,
    size: int,
    workers: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Record demonstrations of the world's scripted expert, with a hand's noise and recovery from it.

    The same task, variant, seed and size give the same episodes whatever --workers and --to say.

    \b
    foundry-eval collect tabletop --task reach_single --episodes 500 --out reach.hdf5
    foundry-data ingest tabletop reach.hdf5 --as reach
    foundry-eval collect metaworld --task reach --episodes 100 --to mcap --out bags
    foundry-data ingest metaworld bags --as bags
    """
    from robot_foundry.evaluation.collection import Request, collect

    world = str(context.info_name)  # the group has a command for each world
    roles = None if cameras is None else tuple(role.strip() for role in cameras.split(",") if role.strip())
    request = Request(task, variant, episodes, seed, roles, size, world)
    options, expert = {"images": True} if images else {}, request.demonstrator()
    if dry_run:
        check_place(out, get_format(to))
        check_options(get_format(to), options)
        settings, columns = request.settings(), list(expert.columns)
        planned = {"out": str(out), "format": to, "cameras": settings.pop("cameras"), "columns": columns}
        text = f"would record {episodes} episodes of {task} ({variant}) as {to} to {out}"
        emit({**planned, **settings}, as_json=as_json, text=text)
        return
    made = collect(request, out, to=to, options=options, workers=workers)
    then = None if expert.spec is None else ingest_command(expert.spec, out)
    emit(
        {**asdict(made), "world": world, "task": task, "variant": variant, "seed": seed, "ingest": then},
        as_json=as_json,
        text=f"{made.path}: {made.episodes} episodes, {made.successes} successful, {made.frames} frames, "
        f"{made.bytes / 1e6:.1f} MB",
    )
    if then is None:
        note(f"To make a dataset of it: write a spec (docs/{world}.md)")
    else:
        note(f"To make a dataset of it: {then}")


def ingest_command(spec: str, out: Path) -> str:
    """What reads it: the spec tells the format by the files that are there."""
    name = re.sub(r"[^a-z0-9_-]+", "_", out.stem.lower()).strip("_") or spec
    return shlex.join(["foundry-data", "ingest", spec, str(out), "--as", name[:LONGEST_NAME]])
