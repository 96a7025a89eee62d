"""foundry-eval openloop: predicted chunks beside demonstrated ones, on held-out rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from robot_foundry.cli.devices import device_option
from robot_foundry.cli.options import json_option
from robot_foundry.cli.output import emit, note, table

COLUMNS = ("position_mm", "rotation_deg", "gripper", "joint_rad", "joint_m")
HEADERS = ("position mm", "rotation deg", "gripper right", "joints rad", "joints m")


@click.command(name="openloop")
@click.argument("run", type=click.Path(exists=True, path_type=Path))
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
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for the report as JSON."
)
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
    """Compare chunks of the policy RUN with demonstrated ones.

    RUN is a run's folder, a checkpoint or a pointer file. Errors are means over the steps of all chunks,
    beside those of a robot that holds still. A small error does not show that the policy looks: see
    `foundry-eval rollout`.
    """
    from robot_foundry.catalog.store import as_store
    from robot_foundry.policy.openloop import openloop
    from robot_foundry.policy.policy import Policy
    from robot_foundry.runtime.storage.storage import open_storage

    policy = Policy.load(run, device)
    where = as_store(store or policy.lineage["store"])
    report = openloop(policy, where, split=split, samples=samples, seed=seed, quiet=False)
    if report["note"]:
        note(f"Note: {report['note']}")
    report = {"run": str(run), **report}
    if out is not None:
        open_storage(out).write("openloop.json", (json.dumps(report, indent=2) + "\n").encode())
    emit(report, as_json=as_json, text=lambda: _text(report))


def _text(report: dict[str, Any]) -> str:
    rows = [
        (name, kind.replace("_", " "), *(means.get(column) for column in COLUMNS))
        for name, kinds in report["datasets"].items()
        for kind, means in kinds.items()
    ]
    used = [i for i, _ in enumerate(COLUMNS) if any(row[2 + i] is not None for row in rows)]
    shown = [(*row[:2], *(row[2 + i] for i in used)) for row in rows]
    headers = ("dataset", "chunks of", *(HEADERS[i] for i in used))
    return table(headers, shown) + f"\n{report['samples']} chunks of the split '{report['split']}'"
