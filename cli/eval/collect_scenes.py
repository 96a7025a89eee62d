"""foundry-eval collect scenes: pictures of a world's scenes with captions, questions and answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import click

from robot_foundry.cli.options import dry_run_option, json_option, workers_option
from robot_foundry.cli.output import emit
from robot_foundry.evaluation.worlds.registry import SCENES


@click.command("scenes")
@click.option("--pictures", type=click.IntRange(min=1), required=True, help="How many pictures to train on.")
@click.option(
    "--held-out",
    type=click.IntRange(min=0),
    default=400,
    show_default=True,
    help="How many more with combinations that no training picture has.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The folder to write; it must not be there.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides every scene.")
@click.option(
    "--size",
    type=click.IntRange(16, 1024),
    default=64,
    show_default=True,
    help="Side of the pictures in pixels.",
)
@click.option("--world", type=click.Choice(list(SCENES)), default="tabletop", show_default=True)
@click.option(
    "--variant", default="sim", show_default=True,
    help="Look of the world: of tabletop sim or real, of metaworld sim, shadows or other cameras.",
)  # fmt: skip
@click.option("--tasks", help="[metaworld] Tasks to show, separated by commas. [default: all]")
@workers_option
@dry_run_option
@json_option
def command(
    pictures: int,
    held_out: int,
    out: Path,
    seed: int,
    size: int,
    world: str,
    variant: str,
    tasks: str | None,
    workers: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Render scenes and say what is true of them: image-text pairs in WebDataset tars.

    OUT/train has the pictures to learn from, each with a conversation; OUT/held_out other scenes, a pair for
    each question. Equal options give equal bytes whatever --workers says.

    \b
    foundry-eval collect scenes --pictures 50000 --out scenes --workers 2
    foundry-data ingest pairs scenes/train --as scenes
    foundry-data ingest pairs scenes/held_out --as scenes_held_out
    """
    from robot_foundry.evaluation.scenes import ScenesRequest, check_folder, collect_scenes

    names = tuple(name.strip() for name in (tasks or "").split(",") if name.strip())
    request = ScenesRequest(pictures, held_out, seed, size, world, variant, names)
    if dry_run:
        request.scenes()
        check_folder(out)
        text = f"would render {pictures} pictures to train on and {held_out} held-out ones to {out}"
        emit({"out": str(out), **asdict(request)}, as_json=as_json, text=text)
        return
    made = collect_scenes(request, out, workers=workers)
    lines = [f"{out}: {made.bytes / 1e6:.1f} MB"]
    lines += [
        f"{split}: {made.pictures[split]} pictures, {made.pairs[split]} pairs, {_answers(made.kinds[split])}"
        for split in made.pictures
    ]
    emit(
        {**asdict(made), "world": world, "variant": variant, "seed": seed},
        as_json=as_json,
        text="\n".join(lines),
    )


def _answers(kinds: Mapping[str, int]) -> str:
    return f"{sum(kinds.values())} answers ({', '.join(f'{n} {kind}' for kind, n in kinds.items())})"
