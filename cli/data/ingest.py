"""foundry-data ingest SPEC SOURCE: a version of a dataset from raw logs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from robot_foundry.cli.options import dry_run_option, json_option, store_option
from robot_foundry.cli.output import emit, note
from robot_foundry.cli.pointer import pointer_option, write_pointer

if TYPE_CHECKING:
    from robot_foundry.ingest.engine import Report

MOST_LISTED = 20

set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change the spec, e.g. mapping.state.right.gripper_opening.closed=0.08; null removes a key.",
)


@click.command("ingest")
@click.argument("spec")
@click.argument("source")
@click.option("--as", "--name", "name", required=True, metavar="DATASET", help="Name of the dataset.")
@store_option
@click.option(
    "--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Processes; 0 is inline."
)
@click.option("--ray-address", metavar="ADDRESS", help="A running Ray cluster to work on.")
@click.option("--strict", is_flag=True, help="Fail if anything was refused; the same as --max-errors 0.")
@click.option("--max-errors", type=click.IntRange(min=0), help="Fail if more units than this were refused.")
@click.option("--limit", type=click.IntRange(min=1), help="Take the first so many episodes only.")
@set_option
@pointer_option
@dry_run_option
@json_option
def command(
    spec: str,
    source: str,
    name: str,
    store: str,
    workers: int,
    ray_address: str | None,
    strict: bool,
    max_errors: int | None,
    limit: int | None,
    overrides: tuple[str, ...],
    pointer: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make a version of DATASET from SOURCE (a file, a folder or a quoted glob) as SPEC says.

    SPEC is robomimic, robosuite or tabletop, or the path of your own .yaml (docs/specs.md).
    Running it again does only what is new. Units that cannot be read are named and left out.

    \b
    foundry-data ingest robomimic lift.hdf5 --as lift
    foundry-data ingest my.yaml 'logs/2026-*/*.hdf5' --as kitchen --workers 8
    """
    from robot_foundry.ingest.engine import Options, run
    from robot_foundry.ingest.spec import load_spec

    options = Options(
        workers=workers,
        ray_address=ray_address,
        limit=limit,
        max_errors=0 if strict else max_errors,
        created=now(),
        quiet=False,
    )
    report = run(load_spec(spec, overrides), source, store=store, name=name, options=options, dry_run=dry_run)
    if pointer is not None and report.version is not None:
        write_pointer(pointer, report.version, report.counts)
    show(report, as_json=as_json)


def now() -> str:
    """The time as a manifest's provenance tells it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def show(report: Report, *, as_json: bool) -> None:
    """The report on stdout; warnings and what was quarantined on stderr."""
    emit(report.to_json(), as_json=as_json, text=_text(report))
    for warning in report.warnings:
        note(f"Warning: {warning}")
    if report.quarantined:
        note(f"Warning: {len(report.quarantined)} of {_count(report.discovered, 'unit')} left out:")
        for unit, reason in report.quarantined[:MOST_LISTED]:
            note(f"  {unit}: {reason}")
        if len(report.quarantined) > MOST_LISTED:
            note(f"  and {len(report.quarantined) - MOST_LISTED} more (--json lists all)")


def _text(report: Report) -> str:
    discovered, quarantined = _count(report.discovered, "unit"), len(report.quarantined)
    counts = f"{discovered} discovered = {report.written} written + {quarantined} quarantined"
    written, size = _count(report.shards_written, "shard"), _size(report.counts["bytes"])
    if report.version is None:
        planned = f"would write {written} and reuse {report.shards_reused}, about {size}"
        return f"{report.dataset}: {planned}\n{counts} (by their headers)"
    frames = _count(report.counts["frames"], "frame")
    made = f"{report.version}: {_count(report.counts['episodes'], 'episode')}, {frames}, {size}"
    done = "nothing to do" if report.noop else f"{written} written, {report.shards_reused} reused"
    return f"{made}; {done}\n{counts}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.1f} kB"
