"""The scorecard of a run: what it and the runs that it began with reached, from text to success.

Reports are only read here; what makes them are the commands that are named where one is missing.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_foundry.evaluation.scorecards.figures import (
    answer_rows,
    openloop_rows,
    rollout_rows,
    text_rows,
)
from robot_foundry.evaluation.scorecards.origins import Origin, origins_of
from robot_foundry.evaluation.scorecards.reports import ROLLOUT, SCORECARDS, Report, Subject, read_reports
from robot_foundry.evaluation.scorecards.rollout_controls import is_whole, missing_controls
from robot_foundry.evaluation.scorecards.rows import Row, verdict
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.recipes.yaml_text import read_yaml
from robot_foundry.trainer.tasks.known import task_of

CONFIG = "config.yaml"


@dataclass(frozen=True)
class Member:
    """A run of the chain, at the checkpoint that counts. `task` is None where its recipe is of none."""

    subject: Subject
    task: str | None
    began_with: tuple[Origin, ...]

    @property
    def name(self) -> str:
        """How commands call it: its folder."""
        return str(self.subject.run or self.subject.checkpoint)

    def to_json(self) -> dict[str, Any]:
        about = {"run": self.name, "task": self.task, **self.subject.to_json()}
        return about | {"began_with": [origin.to_json() for origin in self.began_with]}


@dataclass(frozen=True)
class Stage:
    """A question that is asked of the runs of one task, and of any other that has an answer to it."""

    name: str
    task: str
    rows: Callable[[Path, Subject], Iterator[Row]]
    missing: Callable[[Member, Sequence[Row]], Iterator[str]]  # commands that make what is not there


@dataclass(frozen=True)
class StageCard:
    """What was found of a stage: rows with the run that they are of, and what to run for the rest."""

    stage: Stage
    rows: tuple[tuple[Member, Row], ...]
    missing: tuple[str, ...]
    has_run: bool

    @property
    def beats(self) -> bool | None:
        """Whether it beats its controls; None where that is not known."""
        return verdict([row for _, row in self.rows])

    def to_json(self) -> dict[str, Any]:
        rows = [{"run": member.name, **row.to_json()} for member, row in self.rows]
        about = {"stage": self.stage.name, "has_run": self.has_run, "beats": self.beats}
        return {**about, "rows": rows, "missing": list(self.missing)}


@dataclass(frozen=True)
class Scorecard:
    """All stages in order. `runs` are the oldest first; the last is the one that was asked about."""

    runs: tuple[Member, ...]
    stages: tuple[StageCard, ...]

    @property
    def first_fault(self) -> StageCard | None:
        """The first stage that a run of the chain is of, and that is not known to beat its controls."""
        return next((card for card in self.stages if card.has_run and card.beats is not True), None)

    def to_json(self) -> dict[str, Any]:
        fault = self.first_fault
        return {
            "runs": [member.to_json() for member in self.runs],
            "stages": [card.to_json() for card in self.stages],
            "first_fault": None if fault is None else fault.stage.name,
        }


def scorecard(path: Path) -> Scorecard:
    """That of a run, checkpoint folder or pointer file; FoundryError where it is none, or a report torn."""
    runs = tuple(_chain(Subject.find(path), set()))
    return Scorecard(runs, tuple(_stage_card(stage, runs) for stage in STAGES))


def _chain(subject: Subject, seen: set[str]) -> Iterator[Member]:
    """The runs that it began with, and these began with, then itself; each once."""
    seen.add(subject.weights_id)
    origins = tuple(origins_of(subject))
    for origin in origins:
        if origin.subject is not None and origin.subject.weights_id not in seen:
            yield from _chain(origin.subject, seen)
    config = subject.checkpoint / CONFIG
    task = task_of(read_yaml(config.read_text("utf-8"), str(config)))
    yield Member(subject, None if task is None else task.name, origins)


def _stage_card(stage: Stage, runs: Sequence[Member]) -> StageCard:
    rows = [(member, row) for member in runs for row in _rows_of(stage, member)]
    # Where phases of one task follow each other, the last is what the next stage stands on.
    last = next((member for member in reversed(runs) if member.task == stage.task), None)
    missing: tuple[str, ...] = ()
    if last is not None:
        missing = tuple(stage.missing(last, [row for member, row in rows if member is last]))
    return StageCard(stage, tuple(rows), missing, last is not None or bool(rows))


def _rows_of(stage: Stage, member: Member) -> list[Row]:
    run = member.subject.run
    try:
        return [] if run is None else list(stage.rows(run, member.subject))
    except KeyError as error:
        raise FoundryError(
            f"a report of {stage.name} under {run}/{SCORECARDS} lacks {error}, which this version writes",
            hint="delete it, or evaluate again",
        ) from error


def _is_there(rows: Sequence[Row]) -> bool:
    return any(row.stale is None for row in rows)


def _text_missing(member: Member, rows: Sequence[Row]) -> Iterator[str]:
    if not any(row.stale is None and row.interval is not None for row in rows):
        yield shlex.join(["foundry-eval", "llm", member.name])


def _answers_missing(member: Member, rows: Sequence[Row]) -> Iterator[str]:
    if not _is_there(rows):
        mix = read_yaml((member.subject.checkpoint / CONFIG).read_text("utf-8"), CONFIG)["data"]["mix"]
        yield shlex.join(["foundry-eval", "vlm", member.name, mix])


def _openloop_missing(member: Member, rows: Sequence[Row]) -> Iterator[str]:
    if not _is_there(rows):
        yield shlex.join(["foundry-eval", "openloop", member.name])


def _rollout_missing(member: Member, rows: Sequence[Row]) -> Iterator[str]:
    """The rollout itself, and each control that a rollout of this checkpoint has not."""
    if not _is_there(rows):
        yield shlex.join(["foundry-eval", "rollout", member.name, "--task"]) + " TASK"
        return
    assert member.subject.run is not None
    reports = read_reports(member.subject.run, ROLLOUT)
    for report in reports:
        if is_whole(report.values) and report.is_of(member.subject.weights_id):
            yield from _controls_missing(member, report, reports)


def _controls_missing(member: Member, policy: Report, reports: Sequence[Report]) -> Iterator[str]:
    others = [other.values for other in reports if other.is_of(member.subject.weights_id)]
    yield from missing_controls(policy.values, others, member.name)


STAGES = (
    Stage("text", "llm", text_rows, _text_missing),
    Stage("answers", "vlm", answer_rows, _answers_missing),
    Stage("open loop", "vla", openloop_rows, _openloop_missing),
    Stage("closed loop", "vla", rollout_rows, _rollout_missing),
)
