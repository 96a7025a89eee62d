"""What rollouts found, read from their reports: for each task, which scenes succeeded."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_foundry.evaluation.scorecards.reports import FILES, ROLLOUT, SCORECARDS, Report, read_reports
from robot_foundry.evaluation.world import Outcome
from robot_foundry.runtime.errors import FoundryError, FoundryWarning, UsageError, nearest

Task = tuple[str, str, str]  # world, task, variant
FILE = FILES[ROLLOUT]
OUTCOMES = [outcome.value for outcome in Outcome]
HINT = "give a rollout.json, its folder, or a run that was rolled out"
SETTINGS = ("max_steps", "execute", "size", "condition")  # what makes equal scenes another question


@dataclass(frozen=True)
class Outcomes:
    """Of one report: whether each scene succeeded, by its seed and in the order of the scenes.

    Settings are told as text, as people see them.
    """

    success: Mapping[int, bool]
    settings: Mapping[str, Any]
    starts: Mapping[int, str]  # names of what scenes began with, of those that say it
    weights_id: str | None  # of the policy, where the report says it


@dataclass(frozen=True)
class Policy:
    """One thing to compare: a run, or a recipe of several runs. Each run maps tasks to their outcomes."""

    name: str
    runs: tuple[Mapping[Task, Outcomes], ...]

    @property
    def tasks(self) -> list[Task]:
        """Those that all of its runs have."""
        return [task for task in self.runs[0] if all(task in run for run in self.runs)]


def read_policy(argument: str, condition: str) -> Policy:
    """Of `PLACE`, or `NAME=PLACE,PLACE,…` with one place a training seed.

    A place is a rollout.json, its folder, or a run's folder, of which the reports of `condition` are read.
    UsageError where it is none of these, FoundryError where a report is damaged.
    """
    name, named, places = argument.partition("=")
    if Path(argument).exists() or not named:
        name, places = argument.rstrip("/"), argument
    given = [place for place in places.split(",") if place] if places is not argument else [argument]
    if not name or not given:
        raise UsageError(
            f"'{argument}' names no runs", hint="write NAME=RUN,RUN with one run a training seed"
        )
    doubled = {place for place in given if given.count(place) > 1}
    if doubled:
        raise UsageError(f"'{argument}' has {sorted(doubled)[0]} twice: a run is one training seed")
    runs = tuple(_read_run(Path(place), condition) for place in given)
    _check_seeds(argument, given, runs)
    return Policy(name, runs)


def _check_seeds(argument: str, given: Sequence[str], runs: Sequence[Mapping[Task, Outcomes]]) -> None:
    """UsageError where two runs are of the same weights: they are no two training seeds."""
    whose: dict[str, str] = {}
    for place, run in zip(given, runs, strict=True):
        for weights in {found.weights_id for found in run.values()} - {None}:
            if (first := whose.setdefault(str(weights), place)) != place:
                raise UsageError(
                    f"'{argument}' has one checkpoint twice, {first} and {place}: a run is one training seed",
                    hint="give each training seed once, or compare single runs",
                )


def _read_run(place: Path, condition: str) -> dict[Task, Outcomes]:
    if place.is_file() or (place / FILE).is_file():
        report = _read_file(place if place.is_file() else place / FILE)
        return dict([_outcomes(report)])
    if not place.is_dir():
        beside = [other.name for other in place.parent.iterdir()] if place.parent.is_dir() else []
        raise UsageError(f"there is no '{place}'{nearest(place.name, beside)}", hint=HINT)
    reports = read_reports(place, ROLLOUT)
    if not reports:
        raise UsageError(
            f"{place} has no rollouts: there is no {SCORECARDS}/{ROLLOUT}/…/{FILE} in it",
            hint=f"foundry-eval rollout {place} --task TASK",
        )
    kept = [report for report in reports if report.values.get("condition") == condition]
    if not kept:
        there = sorted({str(report.values.get("condition")) for report in reports})
        raise UsageError(
            f"{place} has no rollouts of condition '{condition}'", hint=f"--condition {' or '.join(there)}"
        )
    _tell_steps(place, kept)
    found: dict[Task, Outcomes] = {}
    for report in kept:
        task, outcomes = _outcomes(report)
        if task in found:
            raise FoundryError(f"{place} has two rollouts of {task_name(task)}", hint="give the rollout.json")
        found[task] = outcomes
    return found


def _tell_steps(place: Path, reports: list[Report]) -> None:
    steps = sorted({str(report.values["step"]) for report in reports if "step" in report.values})
    if len(steps) > 1:
        told = f"the rollouts of {place} are of checkpoints at unlike steps: {', '.join(steps)}"
        warnings.warn(told, FoundryWarning, stacklevel=2)


def _read_file(path: Path) -> Report:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FoundryError(f"{path} cannot be read: {error}", hint=HINT) from error
    if not isinstance(values, dict):
        raise FoundryError(f"{path} is no report of a rollout", hint=HINT)
    return Report(path, values)


def _outcomes(report: Report) -> tuple[Task, Outcomes]:
    """FoundryError where it is not a rollout's, has no scenes, or contradicts itself."""
    values, path = report.values, report.path
    task = tuple(values.get(name) for name in ("world", "task", "variant"))
    scenes = values.get("scenes")
    if not all(isinstance(name, str) for name in task) or not isinstance(scenes, list):
        raise FoundryError(
            f"{path} is no report of a rollout: it lacks world, task, variant or scenes", hint=HINT
        )
    if not scenes:
        raise FoundryError(f"{path} has no scenes", hint="roll out again with --episodes of 1 or more")
    success: dict[int, bool] = {}
    starts: dict[int, str] = {}
    for number, scene in enumerate(scenes):
        seed, outcome = (scene.get("seed"), scene.get("outcome")) if isinstance(scene, dict) else (None, None)
        if type(seed) is not int or not isinstance(outcome, str):
            raise FoundryError(f"{path} is damaged: scene {number} has no seed or outcome", hint=HINT)
        if outcome not in OUTCOMES:
            raise FoundryError(
                f"{path} is damaged: scene {number} ended in {outcome!r}{nearest(outcome, OUTCOMES)}",
                hint=HINT,
            )
        if seed in success:
            raise FoundryError(f"{path} is damaged: two scenes have the seed {seed}", hint=HINT)
        success[seed] = outcome == Outcome.SUCCESS.value
        if isinstance(start := scene.get("start"), str):
            starts[seed] = start
    told = values.get("successes")
    if told is not None and told != sum(success.values()):
        counted = sum(success.values())
        raise FoundryError(
            f"{path} is damaged: it says {told} successes, its scenes have {counted}", hint=HINT
        )
    world, name, variant = map(str, task)
    settings = {name: str(values.get(name)) for name in SETTINGS}
    weights = values.get("weights_id")
    found = Outcomes(success, settings, starts, weights if isinstance(weights, str) else None)
    return (world, name, variant), found


def task_name(task: Task) -> str:
    """For people."""
    world, name, variant = task
    return f"{world}, {name} ({variant})"
