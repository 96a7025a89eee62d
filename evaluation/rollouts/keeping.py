"""Rollouts that leave their rows, report and pictures in a folder, and what they found with run and store."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robot_foundry.catalog.run_records import keep_record
from robot_foundry.catalog.store import Store
from robot_foundry.evaluation.rollout import decided_by, rollout, save
from robot_foundry.evaluation.rollouts.kept_rows import kept_rows
from robot_foundry.evaluation.rollouts.report import REPORT, Rollout
from robot_foundry.evaluation.rollouts.spec import RolloutSpec
from robot_foundry.evaluation.scorecards.reports import ROLLOUT, Report, Subject, read_reports
from robot_foundry.evaluation.scorecards.rollout_controls import control_of, is_control
from robot_foundry.runtime.errors import FoundryError, FoundryWarning, UsageError
from robot_foundry.runtime.parallel import Workers

RECORDED = "rollout"
BARE = "tabletop"


@dataclass(frozen=True)
class Found:
    """The report of a rollout, where it lies, and how many of its scenes had been run before."""

    report: dict[str, Any]
    folder: Path
    kept: int


@dataclass(frozen=True)
class Keeper:
    """Runs rollouts of `subject` (None: of no run) and keeps what they find, in `out` or with the run.

    `store` gets a record of each. With `again`, scenes that were kept are run anew.
    """

    subject: Subject | None
    out: Path | None
    workers: Workers
    store: Store | None = None
    again: bool = False

    def run(self, spec: RolloutSpec, below: str = "") -> Found:
        """The rollout of `spec`; in `out` it goes to the folder `below`."""
        name = name_of(spec)
        folder = folder_of(spec, self.subject, None if self.out is None else self.out / below)
        about = decided_by(spec)
        is_of_weights = self.subject is not None and spec.actor.run is not None
        of_weights = self.subject.to_json() if is_of_weights and self.subject else {}
        report, kept = (None, 0) if self.again else _kept_report(folder, about, spec, of_weights)
        if report is None:
            result = rollout(spec, workers=self.workers, keep=folder, again=self.again)
            report = save(result, folder, of_weights)
            kept = result.kept
        if self.subject is not None:
            self.subject.keep(ROLLOUT, name, report, folder)
        self._record(about, report)
        return Found(report, folder, kept)

    def beside(self, policy: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The controls of a rollout that are kept with its run. A FoundryWarning names a report that lacks
        something."""
        if self.subject is None or self.subject.run is None:
            return []
        reports: list[Report] = read_reports(self.subject.run, ROLLOUT)
        mine = [report for report in reports if report.is_of(self.subject.weights_id)]
        return [report.values for report in mine if _is_control(report, policy)]

    def _record(self, about: Mapping[str, Any], report: Mapping[str, Any]) -> None:
        if self.store is None:
            return
        values = {name: value for name, value in report.items() if name not in ("scenes", "seconds", "files")}
        try:
            keep_record(self.store, RECORDED, about, {**values, "episodes": report["scenes"]})
        except (OSError, FoundryError) as error:
            told = f"the episodes are not recorded in the store {self.store.url}: {error}"
            warnings.warn(told, FoundryWarning, stacklevel=2)


def _is_control(report: Report, policy: Mapping[str, Any]) -> bool:
    try:
        if not is_control(report.values, policy):
            return False
        control_of(policy, report.values)
        return True
    except (KeyError, TypeError, ValueError) as error:
        told = f"{report.path} is passed over: it is no report of this version ({error!r})"
        warnings.warn(told, FoundryWarning, stacklevel=3)
        return False


def name_of(spec: RolloutSpec) -> str:
    """What the report of a rollout is called with its run: worlds may share names of tasks.

    The tabletop goes without, as it did when there was no other.
    """
    world = spec.factory.name
    of_world = "" if world == BARE else f"{world}-"
    return f"{of_world}{spec.task}-{spec.variant}-{spec.condition}"


def folder_of(spec: RolloutSpec, subject: Subject | None, out: Path | None) -> Path:
    """Where the report of a rollout goes: `out`, else its place with the run; UsageError without either."""
    if subject is not None:
        return subject.folder(ROLLOUT, name_of(spec), out)
    if out is None:
        raise UsageError("what acts is of no run: say where to write with --out")
    return out


def _kept_report(
    folder: Path, about: Mapping[str, Any], spec: RolloutSpec, of_weights: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, int]:
    """The report that is there, where it says what the rows say that are kept, and how many these are."""
    try:
        report = json.loads((folder / REPORT).read_bytes())
        seconds = float(report["seconds"])
        has_files = all((folder / name).is_file() for name in report["files"])
        rows = kept_rows(folder, about)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None, 0
    if not has_files or any(index not in rows for index in range(spec.episodes)):
        return None, 0
    episodes = tuple(rows[index] for index in range(spec.episodes))
    spec = replace(spec, actor=spec.actor.pinned())
    whole = Rollout(spec, spec.factory.describe(spec.task, spec.variant), episodes, seconds)
    told = json.loads(json.dumps({**of_weights, **whole.to_json()}))
    if any(report.get(name) != value for name, value in told.items()):
        return None, 0
    return report, spec.episodes
