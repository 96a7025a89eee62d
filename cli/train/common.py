"""What the commands of foundry-train share: arguments, ranks on this machine, and what a run ended with."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from robot_foundry.cli.output import counted, emit, note

if TYPE_CHECKING:
    from robot_foundry.trainer.outcome import Outcome
    from robot_foundry.trainer.tasks.task import Task


def split_arguments(arguments: tuple[str, ...]) -> tuple[str | None, list[str]]:
    """The recipe, if the first argument is none of key=value, and the overrides."""
    if arguments and ("=" not in arguments[0] or Path(arguments[0]).is_file()):
        return arguments[0], list(arguments[1:])
    return None, list(arguments)


def is_main() -> bool:
    """Whether this process is the only one, or the first of several ranks."""
    return int(os.environ.get("RANK", 0)) == 0


def launch(nproc: int, *overrides: str) -> None:
    """Run the same command, with these overrides added, as `nproc` ranks, and end as they do."""
    from robot_foundry.trainer.ranks.launch import run_ranks

    program = (
        "from robot_foundry.trainer.ranks.launch import end_with_launcher; end_with_launcher(); "
        "from robot_foundry.cli.foundry_train import main; main()"
    )
    sys.exit(run_ranks([sys.executable, "-c", program, *sys.argv[1:], *overrides], nproc))


def train(task: Task, pointer: Path | None, as_json: bool, next_command: str) -> None:
    """Train a task to its end, name its checkpoint in the pointer file, and print what came of it.

    `next_command` is what one would do with a run, whose folder is added to it.
    """
    from robot_foundry.trainer.checkpoints.checkpoint import write_pointer
    from robot_foundry.trainer.run import run_task

    if is_main():
        note(f"run: {task.run_dir} ({task.num_steps} steps)")
    outcome = run_task(task)
    if is_main():
        if pointer is not None:
            write_pointer(pointer, outcome.checkpoint, step=outcome.step, weights=outcome.weights)
        _emit_outcome(outcome, as_json, f"{next_command} {outcome.run_dir}")


def _emit_outcome(outcome: Outcome, as_json: bool, next_command: str) -> None:
    result = {
        "run_dir": outcome.run_dir,
        "checkpoint": outcome.checkpoint,
        "step": outcome.step,
        "resumed_from": outcome.resumed_from,
        "weights": outcome.weights,
        "loss": outcome.loss,
        "held_out_loss": outcome.held_out_loss,
        **outcome.figures,
        **outcome.rates,
        "skipped": outcome.skipped,
        "substituted": outcome.substituted,
        "next": next_command,
    }

    def text() -> str:
        measured = {"final loss": outcome.loss, "held-out loss": outcome.held_out_loss, **outcome.figures}
        lines = [
            f"{name.replace('_', ' '):<15} {'none' if value is None else f'{value:.4f}'}"
            for name, value in measured.items()
        ]
        lines.append(f"checkpoint      {outcome.checkpoint}")
        replaced = sum(outcome.substituted.values())
        if outcome.skipped:
            lines.append(f"skipped         {counted(outcome.skipped, 'step')} whose gradient was not finite")
        if replaced:
            lines.append(
                f"substituted     {counted(replaced, 'damaged sample')}; lineage.json names the files"
            )
        if outcome.resumed_from:
            lines.append(f"resumed from    step {outcome.resumed_from}")
        return "\n".join([*lines, f"next            {next_command}"])

    emit(result, as_json=as_json, text=text)
