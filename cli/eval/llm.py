"""foundry-eval llm RUN: bits a byte of held-out text, beside those of a code without context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from robot_foundry.cli.devices import device_option
from robot_foundry.cli.eval.left import leads_on
from robot_foundry.cli.options import RUN, json_option
from robot_foundry.cli.output import counted, emit, table


@click.command("llm")
@click.argument("run", type=RUN)
@click.option(
    "--store", envvar="FOUNDRY_STORE", show_envvar=True, metavar="FOLDER|URL",
    help="Where datasets live.  [default: where the run found them]",
)  # fmt: skip
@click.option("--split", type=click.Choice(["val", "train", "all"]), default="val", show_default=True)
@click.option("--rows", type=click.IntRange(1), default=512, show_default=True, help="Packed rows to score.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the rows that are drawn.")
@device_option
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the report.  [default: RUN/scorecards/llm/SPLIT]",
)  # fmt: skip
@json_option
def command(
    run: Path, store: str | None, split: str, rows: int, seed: int, device: str, out: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Measure how many bits a byte of held-out text costs the language model of RUN.

    RUN is a run's folder, a checkpoint or a pointer file; the text is of the mixture that it learnt from. The
    control knows how often each token is there, and nothing of what stands before it.
    """
    from robot_foundry.catalog.store import as_store
    from robot_foundry.evaluation.scorecards.reports import FILES, LLM, Subject, write
    from robot_foundry.evaluation.text import text_report
    from robot_foundry.trainer.checkpoints import checkpoint
    from robot_foundry.trainer.tasks.llm.trained import load_trained

    subject = Subject.find(run)
    folder = subject.folder(LLM, split, out)
    trained = load_trained(subject.checkpoint, device)
    where = as_store(store or checkpoint.read_json(subject.checkpoint, "lineage.json")["store"])
    found = text_report(trained, where, split=split, rows=rows, seed=seed, quiet=False)
    report = {"run": str(run), **subject.to_json(), "device": device, **found}
    write(folder, FILES[LLM], report)
    subject.keep(LLM, split, report, folder)
    emit({**report, "out": folder}, as_json=as_json, text=lambda: _text(report, folder / FILES[LLM]))
    leads_on(run)


def _text(report: dict[str, Any], path: Path) -> str:
    bits, interval = report["bits_per_byte"], report["real_95"]
    shown = "-" if interval is None else f"{interval[0]:.4f} … {interval[1]:.4f}"
    rows = [("model", f"{bits['real']:.4f}", shown), ("tokens without context", f"{bits['alone']:.4f}", "-")]
    text = f"{counted(report['rows'], 'row')} of the split '{report['split']}', {report['tokens']:,} tokens"
    return f"{table(('', 'bits a byte', '95 %'), rows)}\n{text}\n{path}"
