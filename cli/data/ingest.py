"""foundry-data ingest SPEC [SOURCE]: a version of a dataset from raw logs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from robot_foundry.cli.options import dry_run_option, json_option, store_option, workers_option
from robot_foundry.cli.output import counted, emit, note, size
from robot_foundry.cli.pointer import pointer_option, write_pointer
from robot_foundry.runtime.errors import FindingsError, UsageError

if TYPE_CHECKING:
    from robot_foundry.catalog.manifest import Quarantined
    from robot_foundry.ingest.kind import Preview
    from robot_foundry.ingest.report import Report
    from robot_foundry.ingest.spec.spec import SourceSpec

MOST_LISTED = 20  # reasons
MOST_NAMED = 5  # units of one reason
_SETTING = re.compile(r"--set '?(content|mapping)\.")

set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change the spec, e.g. mapping.state.right.gripper_opening.closed=0.08; null removes a key.",
)


@click.command("ingest")
@click.argument("spec")
@click.argument("source", required=False)
@click.option("--as", "--name", "name", metavar="DATASET", help="Name of the dataset. [default: the spec's]")
@store_option
@workers_option
@click.option("--ray-address", metavar="ADDRESS", help="A running Ray cluster to work on.")
@click.option("--strict", is_flag=True, help="Fail if anything was refused; the same as --max-errors 0.")
@click.option("--max-errors", type=click.IntRange(min=0), help="Fail if more units than this were refused.")
@click.option("--limit", type=click.IntRange(min=1), help="Take the first so many units of the source.")
@click.option(
    "--fingerprint",
    type=click.Choice(["auto", "full"]),
    default="auto",
    show_default=True,
    help="Know remote files by their store's checksum, or read them all first.",
)
@click.option("--yes", is_flag=True, help="Read from a remote location of the spec without asking.")
@set_option
@pointer_option
@dry_run_option
@json_option
def command(
    spec: str,
    source: str | None,
    name: str | None,
    store: str,
    workers: int,
    ray_address: str | None,
    strict: bool,
    max_errors: int | None,
    limit: int | None,
    fingerprint: str,
    yes: bool,
    overrides: tuple[str, ...],
    pointer: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make a version of DATASET from SOURCE as SPEC says.

    SOURCE is a file, a folder or a quoted glob, here or at s3:// or gs://; without it, the first place of
    the spec's own list where there is something. SPEC is the name of one that comes with the package
    (`foundry-data sources` lists public datasets), or the path of your own .yaml (docs/specs.md); also
    several with commas between, or @NAME for those of a named mixture. Running it again does only what is
    new. Units that cannot be read are named and left out.

    \b
    foundry-data ingest robomimic lift.hdf5 --as lift
    foundry-data ingest my.yaml 'logs/2026-*/*.hdf5' --as kitchen --workers 8
    foundry-data ingest my.yaml s3://lab/logs --store s3://lab/store --ray-address auto
    foundry-data ingest oxe/viola,oxe/toto --workers 8
    """
    from robot_foundry.cli.data.located import located, specs_of
    from robot_foundry.ingest.engine import Options, run
    from robot_foundry.ingest.spec.spec_files import load_spec

    names = specs_of(spec)
    _check_given(names, source, is_named=bool(name or pointer))
    options = Options(
        workers=workers,
        ray_address=ray_address,
        limit=limit,
        max_errors=0 if strict else max_errors,
        fingerprint=fingerprint,
        created=now(),
        quiet=False,
    )
    loaded = [load_spec(each, overrides) for each in names]
    places = [source] if source else located(loaded, ask=not (yes or dry_run))
    reports = []
    for each, place in zip(loaded, places, strict=True):
        made = name or _default_name(each)
        reports.append(run(each, place, store=store, name=made, options=options, dry_run=dry_run))
        if pointer is not None and reports[-1].version is not None:
            write_pointer(pointer, reports[-1].version, reports[-1].counts)
        if not as_json:
            show(reports[-1], as_json=False)
    if as_json:
        _show_as_json(reports)
    _check_previews(reports)


def _check_given(specs: Sequence[str], source: str | None, *, is_named: bool) -> None:
    if len(specs) > 1 and (source or is_named):
        raise UsageError("several specs take no SOURCE, --as or --pointer", hint="ingest them one by one")
    if source == "":
        raise UsageError("SOURCE is empty", hint="see that the variable is set, or leave SOURCE out")


def _show_as_json(reports: Sequence[Report]) -> None:
    """One object: the report, or all of them."""
    if len(reports) == 1:
        show(reports[0], as_json=True)
    else:
        emit({"reports": [report.to_json() for report in reports]}, as_json=True, text="")


def _check_previews(reports: Sequence[Report]) -> None:
    """FindingsError where a dry run read no unit. Of other kinds only the first samples of one were read."""
    if any(e is not None and e.schema is None and e.num_groups for e in (r.preview for r in reports)):
        raise FindingsError("no unit that was tried could be read with this mapping; the warning says why")


def _default_name(spec: SourceSpec) -> str:
    return Path(spec.name).name.removesuffix(".yaml").removesuffix(".yml").lower()


def now() -> str:
    """The time as a manifest's provenance tells it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def show(report: Report, *, as_json: bool) -> None:
    """The report on stdout; warnings and what was quarantined on stderr."""
    emit(report.to_json(), as_json=as_json, text=_text(report))
    for warning in report.warnings:
        note(f"Warning: {warning}")
    if report.refused:
        note(f"Warning: {report.num_refused:,} of {counted(report.discovered, 'unit')} left out:")
        for line in refusal_lines(report.refused):
            note(f"  {line}")
    for hint in _next(report):
        note(f"Hint: {hint}")


def _next(report: Report) -> Iterator[str]:
    """The commands that go on from what was told."""
    told = [*report.warnings, *(entry.reason for entry in report.refused)]
    sections = {found[1] for sentence in told for found in _SETTING.finditer(sentence)}
    version = report.version
    if version is None:
        if sections:
            yield "the same command with a --set that a warning names tries that"
        return
    if report.refused:
        where = f"dataset = '{version.dataset}' AND seq = {version.seq}"
        yield f'foundry-data query "SELECT unit, reason FROM quarantine WHERE {where}" lists what is left out'
        yield "once that is mended, the same command again reads what is new and nothing else"
    if "content" in sections:
        yield "the same command with the --set content.… that a warning names reads the source so"
    if "mapping" in sections:
        yield f"foundry-data remap {version} with the --set mapping.… that a warning names reads no image"
    if told:
        yield f"foundry-data validate {version} looks at what was made"


def refusal_lines(refused: Sequence[Quarantined]) -> Iterator[str]:
    """A line for each reason, with the first of its units and how many there are."""
    by_reason: dict[str, list[Quarantined]] = {}
    for entry in refused:
        by_reason.setdefault(entry.reason, []).append(entry)
    for reason, entries in list(by_reason.items())[:MOST_LISTED]:
        named = ", ".join(entry.unit for entry in entries[:MOST_NAMED])
        more = ", …" if len(entries) > MOST_NAMED else ""
        count = sum(entry.count for entry in entries)
        yield f"{named}{more}: {reason}{f' ({count:,} units)' if count > 1 else ''}"
    if len(by_reason) > MOST_LISTED:
        yield f"and {len(by_reason) - MOST_LISTED} more reasons (--json lists all)"


def _text(report: Report) -> str:
    left_out = "".join(f" + {report.counts.get(name, 0):,} {name}" for name in report.holds.left_out)
    discovered = f"{counted(report.discovered, 'unit')} discovered"
    counts = f"{discovered} = {report.written:,} written + {report.num_refused:,} quarantined{left_out}"
    written, stored = counted(report.shards_written, "shard"), size(report.counts["bytes"])
    if report.version is None:
        planned = f"would write {written} and reuse {report.shards_reused}, about {stored}"
        expected = report.preview
        if expected is not None and expected.num_groups is None:
            found = f"{counted(report.discovered, 'unit')}, {report.num_refused:,} refused by their headers"
            counts = f"{found}; their {report.holds.groups} are counted when they are read"
        else:
            counts += " (by their headers)"
        preview = "" if expected is None else _preview(expected)
        return f"{report.dataset}: {planned}\n{counts}\n{preview}build {report.build_id}"
    names = dict.fromkeys((report.holds.groups, report.holds.samples))  # of some kinds both are the same
    held = ", ".join(_counted(report.counts[name], name) for name in names)
    made = f"{report.version}: {held}, {stored}"
    done = "nothing to do" if report.noop else f"{written} written, {report.shards_reused} reused"
    return f"{made}; {done}\n{counts}"


def _preview(made: Preview) -> str:
    """What a dry run expects, line by line."""
    counts = (made.num_groups, made.holds.groups), (made.num_samples, made.holds.samples)
    held = [_counted(number, names) for number, names in counts if number is not None]
    grows = f"{made.growth:.2f} times the {size(made.source_bytes)} of the source"
    return "".join(f"{line}\n" for line in (", ".join([*held, grows]), *made.lines))


def _counted(number: int, names: str) -> str:
    """(1, 'frames') → '1 frame'."""
    return counted(number, names.removesuffix("s"))
