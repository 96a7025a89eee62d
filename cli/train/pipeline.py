"""foundry-train pipeline FILE: all stages of training and their evaluation, from one YAML."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robot_foundry.cli.options import dry_run_option, json_option, store_option
from robot_foundry.cli.output import counted, emit, note, table

if TYPE_CHECKING:
    from robot_foundry.cli.pipeline.running import Told, Work


@click.command(name="pipeline")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("values", nargs=-1, metavar="[KEY=VALUE]...")
@store_option
@click.option(
    "--to-dvc",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Run nothing; write a dvc.yaml that runs the same commands.",
)
@dry_run_option
@json_option
def command(
    file: Path, values: tuple[str, ...], store: str, to_dvc: Path | None, dry_run: bool, as_json: bool
) -> None:
    """Run the stages of FILE that are not done, one after the other; the same command goes on where it was.

    KEY=VALUE changes one of its values. A stage is done while its command, the files that it names, and what
    it reads are as they were. Everything that can be wrong is looked for before the first stage runs.

    \b
    foundry-train pipeline pipeline.yaml --dry-run
    foundry-train pipeline pipeline.yaml vla.samples=80000
    """
    from robot_foundry.cli.pipeline.as_dvc import dvc_text
    from robot_foundry.cli.pipeline.done_by_dvc import DvcLock
    from robot_foundry.cli.pipeline.pipeline_file import read_draft, refuse
    from robot_foundry.cli.pipeline.programs import problems, recipe_problems
    from robot_foundry.cli.pipeline.running import Work, alone
    from robot_foundry.cli.pipeline.stage_records import Records, records_folder

    started = time.monotonic()
    draft = read_draft(file, values)
    pipeline = draft.pipeline
    again = shlex.join(["foundry-train", "pipeline", str(file), *values, "--store", store])
    work = Work(pipeline, store, Records(records_folder(file)), again, DvcLock.read())
    wrong = [*draft.problems, *problems(pipeline, draft.sound)]
    planned = [] if wrong else work.plan()
    # Those of stages that are done are not looked at: that imports what trains.
    to_run = draft.sound if wrong else [of.stage for of in planned if of.why is not None]
    refuse(file, [*wrong, *recipe_problems(pipeline, to_run)])
    for line in pipeline.notes:
        note(f"Note: {line}")
    if to_dvc is not None:
        to_dvc.write_text(dvc_text(pipeline, to_dvc.parent), encoding="utf-8")
        emit({"dvc": to_dvc}, as_json=as_json, text=f"{to_dvc}: {counted(len(pipeline.stages), 'stage')}")
    elif dry_run:
        _emit(work, planned, as_json, run=False, seconds=None)
    else:
        with alone(work.records.folder, note) as lock:
            told = work.run(note, lock)
        _emit(work, told, as_json, run=True, seconds=time.monotonic() - started)


def _emit(work: Work, told: Sequence[Told], as_json: bool, *, run: bool, seconds: float | None) -> None:
    """Every stage with what was, or would be, done."""
    done, other = "done before", "run" if run else "to run"
    result: dict[str, Any] = {
        "pipeline": work.pipeline.path,
        "store": work.store,
        "dry_run": not run,
        "stages": [
            {
                "name": of.stage.name,
                "state": done if of.why is None else other,
                "why": of.why,
                "seconds": of.seconds,
                "out": of.stage.out,
                "run": list(of.arguments),
            }
            for of in told
        ],
        "seconds": seconds,
    }
    rows = [(s["name"], s["state"], s["seconds"], s["out"], s["why"] or "") for s in result["stages"]]
    todo = sum(of.why is not None for of in told)
    last = f"{todo} of {counted(len(told), 'stage')} {'run' if run else 'to run'}"
    took = "" if seconds is None else f", {seconds:.0f} s"
    headers = ("stage", "", "seconds", "product", "why")
    emit(result, as_json=as_json, text=lambda: f"{table(headers, rows)}\n{last}{took}")
