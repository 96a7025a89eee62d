"""foundry-train verify: whether what a run logged comes out again."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from robot_foundry.cli.options import RUN, json_option
from robot_foundry.cli.output import counted, emit, note, table
from robot_foundry.cli.train.common import is_main
from robot_foundry.cli.train.ranks import launch
from robot_foundry.runtime.errors import EXIT_FINDINGS, EXIT_OK

if TYPE_CHECKING:
    from robot_foundry.trainer.verifying.replay import Verified
    from robot_foundry.trainer.verifying.subject import Subject

_SHOWN = 20  # differences


@click.command(name="verify")
@click.argument("run", metavar="RUN", type=RUN)
@click.option(
    "--checkpoint", type=click.IntRange(1), metavar="STEP",
    help="From which checkpoint.  [default: the newest that a record follows]",
)  # fmt: skip
@click.option(
    "--records", type=click.IntRange(1), default=1, show_default=True, help="How many records to recompute."
)
@click.option("--nproc", type=click.IntRange(1), help="Ranks on this machine.  [default: as the run had]")
@click.option("--store", metavar="FOLDER|URL", help="Where the data lie now.  [default: where they lay]")
@click.option("--work", type=click.Path(path_type=Path), hidden=True)  # of all ranks; theirs is made for them
@json_option
def command(
    run: Path,
    checkpoint: int | None,
    records: int,
    nproc: int | None,
    store: str | None,
    work: Path | None,
    as_json: bool,
) -> int:
    """Recompute the next records of a run from one of its checkpoints, and compare them with metrics.jsonl.

    With the same data, order, seed and number of ranks, losses and gradient norms must be equal to the bit,
    and so must all tensors of a checkpoint that is reached. Ends with 3 where they are not, and says in what,
    and what is otherwise here. The run's folder is only read.
    """
    from robot_foundry.trainer.verifying.subject import find_subject

    subject = find_subject(run, checkpoint, records)
    if work is not None:
        return _verified(subject, work, store, as_json)
    with tempfile.TemporaryDirectory(prefix="foundry-verify-") as folder:
        ranks = nproc or _ranks_here(subject)
        if ranks > 1 and "RANK" not in os.environ:
            from robot_foundry.trainer.ranks.nodes import Nodes

            launch(Nodes(), ranks, ("--work", folder), Path(folder) / "logs")
        return _verified(subject, Path(folder), store, as_json)


def _ranks_here(subject: Subject) -> int:
    """As many as the run had, or one where this machine has fewer GPUs than that."""
    from robot_foundry.trainer.ranks.machine import num_cuda_devices

    wanted = subject.num_ranks
    if subject.is_on_gpu and 0 < num_cuda_devices() < wanted:
        note(f"Warning: the run had {wanted} GPUs, here is one rank: sums are taken in another order")
        return 1
    return wanted


def _verified(subject: Subject, work: Path, store: str | None, as_json: bool) -> int:
    from robot_foundry.trainer.verifying.replay import replay
    from robot_foundry.trainer.verifying.subject import task_in

    found = replay(subject, task_in(subject, work, store))
    if not is_main():
        return EXIT_OK
    result = {"run": subject.run_dir, "checkpoint": subject.start, **found.to_json()}
    emit(result, as_json=as_json, text=lambda: _text(subject, found))
    return EXIT_OK if found.is_equal else EXIT_FINDINGS


def _text(subject: Subject, found: Verified) -> str:
    last = found.records[-1]
    steps = f"steps {found.start + 1} … {last} of {subject.run_dir}, from {subject.start.name}"
    what = [counted(len(found.records), "record")]
    if found.checkpoints:
        what.append(f"all tensors of {counted(len(found.checkpoints), 'checkpoint')}")
    lines = [f"{steps}: {', and '.join(what)}"]
    if found.is_equal:
        lines.append("equal to the bit")
    else:
        rows = [(of.step, of.field, of.logged, of.recomputed, of.difference) for of in found.differences]
        headers = ("step", "of", "logged", "recomputed", "differs by")
        lines += ["", table(headers, rows[:_SHOWN])]
        if len(rows) > _SHOWN:
            lines.append(f"and {len(rows) - _SHOWN} more, which --json lists")
    if found.environment:
        lines += ["", "what is otherwise here:", *(f"  {line}" for line in found.environment)]
    return "\n".join(lines)
