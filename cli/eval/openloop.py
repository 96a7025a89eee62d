"""foundry-eval openloop: predicted chunks beside demonstrated ones, on held-out rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from robot_foundry.cli.devices import device_option
from robot_foundry.cli.eval.left import leads_on
from robot_foundry.cli.options import RUN, json_option
from robot_foundry.cli.output import counted, emit, note, table

PAGE = "openloop.html"


@click.command(name="openloop")
@click.argument("run", type=RUN)
@click.option(
    "--store",
    envvar="FOUNDRY_STORE",
    show_envvar=True,
    metavar="FOLDER|URL",
    help="Where datasets live.  [default: where the run found them]",
)
@click.option("--split", type=click.Choice(["val", "train", "all"]), default="val", show_default=True)
@click.option("--samples", type=click.IntRange(1), default=512, show_default=True, help="Chunks to compare.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the rows and of the policy's noise.")
@device_option
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the report.  [default: RUN/scorecards/openloop/SPLIT]",
)  # fmt: skip
@json_option
def command(
    run: Path,
    store: str | None,
    split: str,
    samples: int,
    seed: int,
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Compare chunks of the policy RUN with demonstrated ones, by named dim and step by step ahead.

    RUN is a run's folder, a checkpoint or a pointer file. Errors are of absolute targets, for each part of
    the robot and each dim in its unit, beside those of a robot that holds still and of one that repeats its
    last command; openloop.html has them as plots. A small error does not show that the policy looks: see
    `foundry-eval rollout`.
    """
    from robot_foundry.catalog.store import as_store
    from robot_foundry.evaluation.openloop.openloop import openloop
    from robot_foundry.evaluation.openloop.page import page_of
    from robot_foundry.evaluation.scorecards.reports import FILES, OPENLOOP, Subject, write
    from robot_foundry.policy.policy import Policy
    from robot_foundry.runtime.storage.storage import open_storage

    subject = Subject.find(run)
    folder = subject.folder(OPENLOOP, split, out)
    policy = Policy.load(subject.checkpoint, device)
    where = as_store(store or policy.lineage["store"])
    found = openloop(policy, where, split=split, samples=samples, seed=seed, quiet=False)
    report = {"run": str(run), **subject.to_json(), "device": device, **found}
    write(folder, FILES[OPENLOOP], report)
    open_storage(folder).write(PAGE, page_of(report).encode("utf-8"))
    subject.keep(OPENLOOP, split, report, folder)
    if report["note"]:
        note(f"Note: {report['note']}")
    if report["substituted"]:
        note(f"Note: {counted(report['substituted'], 'damaged sample')} replaced by others")
    emit({**report, "out": folder}, as_json=as_json, text=lambda: _text(report, folder))
    leads_on(run)


def _text(report: dict[str, Any], folder: Path) -> str:
    from robot_foundry.evaluation.openloop.report import rows

    lines = [table(*rows(report)), ""]
    for dataset, found in report["datasets"].items():
        chunks, episodes = counted(found["chunks"], "chunk"), counted(found["episodes"], "episode")
        named = (
            f"; of {', '.join(found['unmeasured'])} no error is told but by dim"
            if found["unmeasured"]
            else ""
        )
        lines.append(f"{dataset}: {chunks} of {episodes}{named}")
        lines += [f"{dataset}: {why}" for why in found["left_out"].values()]
    chunks = f"{report['samples']} chunks of the split '{report['split']}'"
    lines.append(f"{chunks}; every dim and step ahead: {folder / PAGE}")
    return "\n".join(lines)
