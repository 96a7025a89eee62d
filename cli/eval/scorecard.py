"""foundry-eval scorecard RUN: at which stage the fault is, from text to success."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from robot_foundry.cli.options import RUN, json_option
from robot_foundry.cli.output import counted, emit, note, table
from robot_foundry.evaluation.scorecards.rows import SHARE, Control, Interval, Row

if TYPE_CHECKING:
    from robot_foundry.evaluation.scorecards.scorecard import Member, Scorecard, StageCard

HEADERS = ("stage", "run", "what", "of", "value", "95 %", "controls", "beats")


@click.command(name="scorecard")
@click.argument("run", type=RUN)
@json_option
def command(run: Path, as_json: bool) -> None:
    """Set side by side what RUN and the runs that it began with reached, each beside its controls.

    RUN is a run's folder, a checkpoint or a pointer file. Only reports are read, which `foundry-eval llm`,
    `vlm`, `openloop` and `rollout` keep with a run; where one is missing, the command that makes it is named.
    A stage that does not beat what it would reach without looking, reading or moving is where to look first.
    """
    from robot_foundry.evaluation.scorecards.scorecard import scorecard

    card = scorecard(run)
    for member in card.runs:
        _tell(member)
    emit(card.to_json(), as_json=as_json, text=lambda: _text(card))


def _tell(member: Member) -> None:
    """What is not as it was when the run began, and what of it is not read."""
    from robot_foundry.evaluation.scorecards.origins import CHANGED, GONE
    from robot_foundry.evaluation.scorecards.reports import unread_reports

    for origin in member.began_with:
        if origin.state in (CHANGED, GONE):
            note(f"Warning: {member.name} began with {origin.where} ({origin.state}): {origin.why}")
    unread = [] if member.subject.run is None else unread_reports(member.subject.run)
    if unread:
        older = counted(len(unread), "report")
        note(f"Warning: not read, as it names no weights: {older} of an older version, such as {unread[0]}")


def _text(card: Scorecard) -> str:
    runs = "\n".join(_run_line(member) for member in card.runs)
    rows = [line for stage in card.stages for line in _rows(stage)]
    verdicts = "\n".join(_verdict(stage) for stage in card.stages)
    missing = [command for stage in card.stages for command in stage.missing]
    parts = [runs, table(HEADERS, rows), verdicts, _fault(card)]
    if missing:
        parts.append("\n".join(["not measured yet:", *(f"  {command}" for command in missing)]))
    return "\n\n".join(parts)


def _run_line(member: Member) -> str:
    began = ", ".join(
        f"{origin.where} (init.{origin.role.removeprefix('init.')}, {origin.state})"
        for origin in member.began_with
    )
    with_what = f"began with {began}" if began else "began at random"
    return f"{member.task or 'a run'} {member.name}, step {member.subject.step}, {with_what}"


def _rows(card: StageCard) -> Iterator[tuple[str, ...]]:
    if not card.rows:
        why = "no report" if card.has_run else "no run of this stage"
        yield (card.stage.name, "-", why, "", "", "", "", "")
    for member, row in card.rows:
        value, interval = _shown(row.value, row.unit), _interval(row.interval, row.unit)
        controls = ", ".join(_control(control, row.unit) for control in row.controls)
        name = Path(member.name).name
        what = row.what if row.stale is None else f"{row.what} [of {row.stale}, not {member.subject.step}]"
        yield (card.stage.name, name, what, row.number, value, interval, controls, _beats(row))


def _control(control: Control, unit: str) -> str:
    known = "" if control.interval is None else f" [{_interval(control.interval, unit)}]"
    return f"{control.name} {_number(control.value, unit)}{known}"


def _beats(row: Row) -> str:
    if row.stale is not None:
        return "stale"
    if not row.controls:
        return "no control"
    if row.beats:
        return "yes"
    not_beaten = [control.name for control in row.controls if control.is_beaten is False]
    unknown = [f"{control.name} ({control.basis})" for control in row.controls if control.is_beaten is None]
    parts = [f"not {', '.join(not_beaten)}"] if not_beaten else []
    return "; ".join(parts + ([f"not known: {', '.join(unknown)}"] if unknown else []))


def _verdict(card: StageCard) -> str:
    """A stage in one line: how many of its rows beat their controls, and how that was judged."""
    fresh = [row for _, row in card.rows if row.stale is None]
    if not fresh:
        return f"{card.stage.name}: nothing is known"
    beaten = sum(row.beats is True for row in fresh)
    controls = [control for row in fresh for control in row.controls]
    if not controls:
        return f"{card.stage.name}: no controls"
    names = ", ".join(dict.fromkeys(control.name for control in controls))
    bases = "; ".join(dict.fromkeys(control.basis for control in controls))
    return f"{card.stage.name}: {beaten} of {len(fresh)} beat {names} ({bases})"


def _fault(card: Scorecard) -> str:
    fault = card.first_fault
    if fault is None:
        return "every stage of these runs beats its controls"
    named = f"the first stage that is not shown to beat its controls: {fault.stage.name}"
    lacking = [f"  {row.what}: {_beats(row)}" for _, row in fault.rows if row.stale is None and not row.beats]
    return "\n".join([named, *lacking])


def _interval(interval: Interval | None, unit: str) -> str:
    """Its two ends."""
    return "-" if interval is None else f"{_number(interval[0], unit)} … {_number(interval[1], unit)}"


def _shown(value: float | None, unit: str) -> str:
    """A figure with its unit."""
    named = "" if unit == SHARE or value is None else f" {unit}"
    return f"{_number(value, unit)}{named}".rstrip()


def _number(value: float | None, unit: str) -> str:
    """Without its unit, but a share in percent."""
    if value is None:
        return "-"
    return f"{value:.1%}" if unit == SHARE else f"{value:.4g}"
