"""foundry-train vla: train a vision-language-action policy, or go on where a stopped run stands."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robot_foundry.cli.options import dry_run_option, json_option
from robot_foundry.cli.output import counted, emit, note, table

if TYPE_CHECKING:
    from robot_foundry.trainer.run import Outcome
    from robot_foundry.trainer.tasks.vla.resolve import Job


@click.command(name="vla")
@click.argument("arguments", nargs=-1, metavar="[RECIPE] [KEY=VALUE]...")
@click.option(
    "--store",
    envvar="FOUNDRY_STORE",
    show_envvar=True,
    metavar="FOLDER|URL",
    help="Where datasets live: the same as data.store=…  [default: ./store]",
)
@click.option("--nproc", type=click.IntRange(1), default=1, show_default=True, help="Ranks on this machine.")
@click.option(
    "--pointer",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write a small JSON file that names the checkpoint, for git and dvc.",
)
@dry_run_option
@json_option
def command(
    arguments: tuple[str, ...],
    store: str | None,
    nproc: int,
    pointer: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train a vision-language-action policy.

    RECIPE is a YAML file or the name of a packaged recipe (default: vla_tiny). KEY=VALUE sets one of its
    keys, such as data.mix=lift, data.mix=sim=0.6,real=0.4 or run.steps=200. The same command goes on from
    the last checkpoint. Under torchrun every process is a rank.
    """
    from robot_foundry.trainer.recipes.reader import DEFAULT, read_recipe
    from robot_foundry.trainer.tasks.vla.resolve import pinned, resolve_job

    recipe, overrides = _split(arguments)
    if store is not None and not any(item.startswith("data.store=") for item in overrides):
        overrides = [f"data.store={store}", *overrides]
    config = read_recipe(recipe, overrides)
    launching = nproc > 1 and "RANK" not in os.environ and not dry_run
    job = resolve_job(pinned(config) if launching else config)
    if launching:
        # The ranks resolve nothing themselves: a name that moves between their starts cannot split them.
        _launch(nproc, f"data.mix={job.config.data.mix}")
    is_main = int(os.environ.get("RANK", 0)) == 0
    if is_main:
        if recipe is None:
            note(f"recipe: {DEFAULT} (packaged)")
        for warning in job.notes:
            note(f"Warning: {warning}")
    if dry_run:
        _emit_plan(job, as_json)
    else:
        _train(job, pointer, as_json, is_main)


def _split(arguments: tuple[str, ...]) -> tuple[str | None, list[str]]:
    """The recipe, if the first argument is none of key=value, and the overrides."""
    if arguments and ("=" not in arguments[0] or Path(arguments[0]).is_file()):
        return arguments[0], list(arguments[1:])
    return None, list(arguments)


def _launch(nproc: int, *overrides: str) -> None:
    from robot_foundry.trainer.ranks.launch import run_ranks

    program = (
        "from robot_foundry.trainer.ranks.launch import end_with_launcher; end_with_launcher(); "
        "from robot_foundry.cli.foundry_train import main; main()"
    )
    sys.exit(run_ranks([sys.executable, "-c", program, *sys.argv[1:], *overrides], nproc))


def _emit_plan(job: Job, as_json: bool) -> None:
    from robot_foundry.normalization.report import HEADERS, as_text
    from robot_foundry.trainer.recipes.reader import resolved, write_yaml
    from robot_foundry.trainer.tasks.vla.build import count_parameters, geometry, mixture_rows, scales_report
    from robot_foundry.trainer.tasks.vla.outliers import outlier_notes
    from robot_foundry.trainer.tasks.vla.resolve import check_origin, first_scales

    config = job.config
    parameters = count_parameters(config.model, geometry(config, job.spaces))
    check_origin(job)
    scales = first_scales(job, quiet=False)
    dims = scales_report(scales, job.spaces)
    for line in outlier_notes(job.store, job.mixture, job.spaces, config.data.window.stream, scales):
        note(f"Warning: {line}")
    rows = mixture_rows(job.mixture)
    result: dict[str, Any] = {
        "config": resolved(config),
        "run_dir": str(job.run_dir),
        "steps": config.num_steps,
        "parameters": parameters,
        "mixture_id": job.mixture.id,
        "mixture": rows,
        "normalizer": dims,
        "init": job.origin.to_json() if job.origin else None,
    }
    samples = config.num_steps * config.data.global_batch
    listed = [
        (row["name"], row["version_id"][:12], row["weight"], row["num_samples"], round(epochs, 2))
        for row, component in zip(rows, job.mixture.components, strict=True)
        for epochs in (float(samples * component.fraction / component.num_samples),)
    ]
    headers = ("dataset", "version", "weight", "samples", "epochs")

    def text() -> str:
        parts = [
            write_yaml(resolved(config)).rstrip(),
            table(("part", "parameters"), parameters.items()),
            table(headers, listed),
            as_text(dims, ("of", "dataset", *HEADERS)),
            f"{config.num_steps} steps of {config.data.global_batch} samples, into {job.run_dir}",
        ]
        return "\n\n".join(parts)

    emit(result, as_json=as_json, text=text)


def _train(job: Job, pointer: Path | None, as_json: bool, is_main: bool) -> None:
    from robot_foundry.trainer.checkpoints.checkpoint import write_pointer
    from robot_foundry.trainer.run import run_vla

    if is_main:
        note(f"run: {job.run_dir} ({job.config.num_steps} steps)")
    outcome = run_vla(job)
    if is_main:
        if pointer is not None:
            write_pointer(pointer, outcome.checkpoint, step=outcome.step, weights=outcome.weights)
        _emit_outcome(outcome, as_json)


def _emit_outcome(outcome: Outcome, as_json: bool) -> None:
    next_command = f"foundry-eval openloop {outcome.run_dir}"
    result = {
        "run_dir": outcome.run_dir,
        "checkpoint": outcome.checkpoint,
        "step": outcome.step,
        "resumed_from": outcome.resumed_from,
        "weights": outcome.weights,
        "loss": outcome.loss,
        "held_out_loss": outcome.held_out_loss,
        "samples_per_s": outcome.samples_per_s,
        "skipped": outcome.skipped,
        "substituted": outcome.substituted,
        "next": next_command,
    }

    def text() -> str:
        held_out = "none" if outcome.held_out_loss is None else f"{outcome.held_out_loss:.4f}"
        loss = "none" if outcome.loss is None else f"{outcome.loss:.4f}"
        lines = [
            f"final loss      {loss}",
            f"held-out loss   {held_out}",
            f"checkpoint      {outcome.checkpoint}",
        ]
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
