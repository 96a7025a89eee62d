"""foundry-eval vlm RUN MIX: what a vision-language model answers about pictures, seen and unseen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robot_foundry.cli.devices import device_option
from robot_foundry.cli.eval.left import leads_on
from robot_foundry.cli.options import RUN, dry_run_option, json_option
from robot_foundry.cli.output import emit, note, table
from robot_foundry.runtime.errors import UsageError

if TYPE_CHECKING:
    from robot_foundry.catalog.opened import OpenMixture
    from robot_foundry.trainer.tasks.vlm.config import VLMTaskConfig


@click.command("vlm")
@click.argument("run", type=RUN)
@click.argument("mix")
@click.option(
    "--store", envvar="FOUNDRY_STORE", show_envvar=True, default="./store", show_default=True,
    metavar="FOLDER|URL", help="Where datasets live.",
)  # fmt: skip
@click.option(
    "--split", type=click.Choice(["val", "train", "all"]), default="val", show_default=True,
    help="Which pairs: val is what the run holds out; all, of a dataset that was never trained on.",
)  # fmt: skip
@click.option("--where", metavar="SQL", help="Only pairs of which this is so, such as min_side >= 64.")
@click.option("--pairs", type=click.IntRange(1), help="So many pairs by lot.  [default: all]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the lot, and of who is shown whose.")
@device_option
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the report.  [default: RUN/scorecards/vlm/…]",
)  # fmt: skip
@dry_run_option
@json_option
def command(
    run: Path,
    mix: str,
    store: str,
    split: str,
    where: str | None,
    pairs: int | None,
    seed: int,
    device: str,
    out: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Ask the model of RUN the questions of MIX, with pictures, with blank ones and with those of others.

    RUN is a run's folder, a checkpoint or a pointer file, of a vision-language model, or of a policy that
    began with one and whose backbone is asked then; MIX a dataset or a mixture of pairs, of which each
    selected pair is asked about once. Pairs with captions alone have a loss and no questions. The same model,
    pairs and seed give the same report.

    \b
    foundry-eval vlm runs/vlm scenes_held_out --split all
    foundry-eval vlm runs/vlm scenes --pairs 500
    """
    from robot_foundry.evaluation.scorecards.reports import VLM, Subject
    from robot_foundry.evaluation.vlm.report import save
    from robot_foundry.evaluation.vlm.scorecard import scorecard
    from robot_foundry.trainer.tasks.vla.cotraining import as_vlm

    subject = Subject.find(run)
    files = as_vlm.find(subject.checkpoint)
    opened = _opened(mix, store, split, where, files.config)
    name = f"{'+'.join(part.name for part in opened.parts)}-{split}"
    folder = subject.folder(VLM, name, out)
    about = {"mix": mix, "split": split, "where": where, "device": device}
    if split == "val" and files.learnt.isdisjoint(part.version_id for part in opened.mixture.components):
        note(f"Note: {run} learnt from none of {mix}: --split all asks about all of it")
    if dry_run:
        selected = sum(component.num_samples for component in opened.mixture.components)
        num_pairs = min(selected, pairs or selected)
        plan = {**about, "pairs": num_pairs, "of": selected, "out": str(folder)}
        emit(
            plan,
            as_json=as_json,
            text=f"would ask about {num_pairs:,} of {selected:,} pairs, and write to {folder}",
        )
        return
    trained = files.load(device)
    card = scorecard(trained, opened, most=pairs, seed=seed, quiet=False)
    report = save(card, {"run": str(run), **subject.to_json(), **about}, folder)
    subject.keep(VLM, name, report, folder)
    for text in report["notes"]:
        note(f"Note: {text}")
    emit({**report, "out": str(folder)}, as_json=as_json, text=lambda: _text(report, folder))
    leads_on(run)


def _opened(mix: str, store: str, split: str, where: str | None, trained: VLMTaskConfig) -> OpenMixture:
    """What is asked about, split as the run split what it learnt from."""
    from robot_foundry.catalog.mixture import make_mixture, weights_of
    from robot_foundry.catalog.opened import OpenVersions
    from robot_foundry.catalog.selection import DEFAULT_FRACTION
    from robot_foundry.catalog.store import Store

    versions, weights = OpenVersions(Store(store)), weights_of(mix)
    stored = [ref for ref in weights if versions.open(ref).manifest.mixture is not None]
    if where is not None and stored:
        raise UsageError(
            f"'{stored[0]}' is a stored mixture, which says itself which pairs it is of",
            hint="leave --where out, or name its datasets",
        )
    fraction = trained.data.val_fraction or DEFAULT_FRACTION
    return make_mixture(versions, weights, split=split, where=where, val_fraction=fraction)


def _text(report: dict[str, Any], folder: Path) -> str:
    from robot_foundry.evaluation.vlm.report import HEADERS, NEAR_HEADERS, kind_rows, loss_line, number_rows

    lines = [
        f"{report['pairs']:,} pairs of {report['mix']}, {report['split']}; {report['questions']:,} questions"
    ]
    lines.append(loss_line(report))
    if report["kinds"]:
        lines += ["", table(HEADERS, kind_rows(report))]
    if numbers := number_rows(report):
        lines += ["", table(NEAR_HEADERS, numbers)]
    return "\n".join([*lines, "", str(folder / "scorecard.json")])
