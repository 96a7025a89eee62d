"""foundry-data export REF --to FORMAT --out FOLDER: a version or mixture in a format of other tools."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from robot_foundry.catalog.kind import all_flags
from robot_foundry.catalog.selection import DEFAULT_FRACTION, DEFAULT_GAP, SPLIT_BY, SPLITS
from robot_foundry.catalog.store import Store
from robot_foundry.cli.options import dry_run_option, json_option, store_option, workers_option
from robot_foundry.cli.output import counted, emit, note, size
from robot_foundry.export.excluded import read_names
from robot_foundry.export.formats import FORMATS, export, options_of
from robot_foundry.export.options import Option
from robot_foundry.export.report import ExportReport
from robot_foundry.export.request import ExportRequest


def _format_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options of all formats, each of which says in its help whose it is; those of one name are one."""
    owners: dict[str, dict[Option, list[str]]] = {}
    for name, entry in FORMATS.items():
        for option in entry.options:
            owners.setdefault(option.name, {}).setdefault(option, []).append(name)
    for meanings in reversed(owners.values()):
        function = _click_option(meanings)(function)
    return function


def _click_option(meanings: dict[Option, list[str]]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    first = next(iter(meanings))
    is_flag = first.kind is bool
    choices = list(dict.fromkeys(choice for option in meanings for choice in option.choices))
    # What is not given has the default of its format, which `options_of` knows.
    return click.option(
        f"--{first.name.replace('_', '-')}",
        first.name,
        is_flag=is_flag,
        type=None if is_flag else click.Choice(choices) if choices else first.kind,
        multiple=first.many,
        default=False if is_flag else None,
        metavar=first.metavar,
        help=" ".join(
            f"[{', '.join(names)}] {option.help}{_default(option)}" for option, names in meanings.items()
        ),
    )


def _default(option: Option) -> str:
    shown = option.kind is not bool and option.default not in (None, ())
    return f"  [default: {option.default}]" if shown else ""


@click.command("export")
@click.argument("ref", metavar="REF|WEIGHTS")
@click.option(
    "--to", "format_name", type=click.Choice(list(FORMATS)), required=True,
    help="; ".join(f"{name}: {entry.help}" for name, entry in FORMATS.items()) + ".",
)  # fmt: skip
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER",
    help="Where it goes: a new folder, or one that the same command began.",
)  # fmt: skip
@click.option("--split", type=click.Choice(SPLITS), default="all", show_default=True, help="Rows to use.")
@click.option("--val-fraction", default=DEFAULT_FRACTION, show_default=True, help="Share that is held out.")
@click.option(
    "--split-by", type=click.Choice(SPLIT_BY), default=SPLIT_BY[0], show_default=True, help="As of `mix`."
)
@click.option("--gap", default=DEFAULT_GAP, show_default=True, help="As of `mix`.")
@click.option("--where", metavar="SQL", help="Only what the condition holds for, as of `mix`.")
@click.option("--skip", multiple=True, type=click.Choice(all_flags()), help="Leave out what has this flag.")
@click.option(
    "--exclude", type=click.Path(path_type=Path), metavar="FILE", help="Leave out what it names, one a line."
)
@_format_options
@dry_run_option
@workers_option
@store_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    ref: str,
    format_name: str,
    out: Path,
    split: str,
    val_fraction: str,
    split_by: str,
    gap: int,
    where: str | None,
    skip: tuple[str, ...],
    exclude: Path | None,
    dry_run: bool,
    workers: int,
    store: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Write a version, or each component of a mixture, in a format of other tools.

    The same command goes on where it was interrupted. The same data, options and encoders give the same
    bytes.
    """
    given = {
        name: value
        for name, value in options.items()
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    request = ExportRequest(
        ref,
        out,
        split=split,
        val_fraction=val_fraction,
        split_by=split_by,
        gap=gap,
        where=where,
        skip=skip,
        exclude=() if exclude is None else read_names(exclude),
        options=options_of(format_name, given),
        dry_run=dry_run,
        workers=workers,
    )
    report = export(format_name, request, Store(store))
    emit({"format": format_name, "ref": ref} | report.to_json(), as_json=as_json, text=lambda: _text(report))
    for warning in report.warnings:
        note(f"Warning: {warning}")
    if not dry_run:
        note(f"Next: {FORMATS[format_name].then.replace('OUT', shlex.quote(str(report.out)))}")


def _text(report: ExportReport) -> str:
    counts = ", ".join(
        f"{count:,} {noun if count != 1 else noun.removesuffix('s')}" for noun, count in report.counts.items()
    )
    about = f"about {size(report.num_bytes)}" if report.dry_run else size(report.num_bytes)
    files = counted(report.files, "file")
    reused = f", {report.reused:,} of them finished before" if report.reused else ""
    first = f"{'would write ' if report.dry_run else ''}{report.out}: {counts} in {files}, {about}{reused}"
    encoders = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return "\n".join([first, *report.lines, *([f"encoders: {encoders}"] if encoders else [])])
