"""A suite, run: every task and its controls one after the other, then figures by task, category and over all.

Each rollout keeps its rows, so a suite that was stopped goes on with the scene where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from robot_foundry.evaluation.actors import ActorSpec
from robot_foundry.evaluation.comparison.differences import mean_of_strata
from robot_foundry.evaluation.rollouts.keeping import Keeper
from robot_foundry.evaluation.scorecards.rollout_controls import SHOWN, on_the_same, told_points
from robot_foundry.evaluation.suites.suite import Suite

ALL = "all"
Reports = Mapping[str, Mapping[str, Any]]  # by the suite's names of tasks


def run_suite(suite: Suite, actor: ActorSpec, keeper: Keeper, **settings: Any) -> dict[str, Any]:
    """Run all tasks with the suite's controls and put their figures together, as JSON.

        tasks        by name: category, and by condition successes, trials, rate, interval_95; of controls the
                     difference from the policy on the same scenes
        categories   by name, and over_all: the mean of the rates of their tasks, all of which weigh alike

    In the intervals of means, tasks are strata (`differences.mean_of_strata`). `says` tells what the policy
    does not show to need.
    """
    policy: dict[str, Mapping[str, Any]] = {}
    controls: dict[str, dict[str, Mapping[str, Any]]] = {name: {} for name in suite.controls}
    kept = 0
    for name in suite.tasks:
        spec = suite.spec(name, actor, **settings)
        for condition, found in ((None, policy), *controls.items()):
            asked = spec if condition is None else spec.control(condition)
            result = keeper.run(asked, f"{name}-{asked.condition}")
            found[name], kept = result.report, kept + result.kept
    groups = {**suite.categories, ALL: list(suite.tasks)}
    figures = {name: _group(members, policy, controls) for name, members in groups.items()}
    over_all = figures[ALL]
    return {
        "suite": suite.name,
        "settings": {**asdict(suite), **settings},
        **(keeper.subject.to_json() if keeper.subject is not None and actor.run is not None else {}),
        "tasks": {
            name: {"category": task.category} | _group([name], policy, controls)
            for name, task in suite.tasks.items()
        },
        "categories": {name: figures[name] for name in suite.categories},
        "over_all": over_all,
        "says": list(_says(over_all)),
        "kept": kept,
    }


def _group(members: Sequence[str], policy: Reports, controls: Mapping[str, Reports]) -> dict[str, Any]:
    figures: dict[str, Any] = {"policy": _figure(members, policy)}
    for condition, found in controls.items():
        differences = [on_the_same(policy[name], found[name]) for name in members]
        whole = [difference for difference in differences if difference is not None]
        figures[condition] = _figure(members, found)
        if len(whole) == len(members):
            mean, low, high = mean_of_strata(whole)
            figures[condition] |= {"difference": mean, "difference_95": [low, high]}
    return figures


def _figure(members: Sequence[str], found: Reports) -> dict[str, Any]:
    rate, low, high = mean_of_strata([(found[name]["rate"], *found[name]["interval_95"]) for name in members])
    return {
        "successes": sum(found[name]["successes"] for name in members),
        "trials": sum(found[name]["trials"] for name in members),
        "rate": rate,
        "interval_95": [max(low, 0.0), min(high, 1.0)],
    }


def _says(over_all: Mapping[str, Any]) -> Iterator[str]:
    """Of each control, over all tasks, whether the policy shows that it needs what was taken."""
    own = over_all["policy"]["rate"]
    for condition, (what, without) in SHOWN.items():
        if (figure := over_all.get(condition)) is None:
            yield f"{condition}: whether it {what} was not measured; the suite's key controls asks for it"
        elif "difference" in figure:
            difference = (figure["difference"], *figure["difference_95"])
            shows = f"it {what}" if difference[1] > 0 else f"this policy does not show that it {what}"
            against = f"{without} {figure['rate']:.1%} against {own:.1%}"
            yield f"{condition}: {shows}: {against}, difference {told_points(difference)}"


def suite_rows(report: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Headers and rows of a table: every task, every category and all, each condition with its interval."""
    conditions = list(report["over_all"])
    body = [
        [of["category"], name, *(_cell(of[condition]) for condition in conditions)]
        for name, of in report["tasks"].items()
    ]
    for name, of in report["categories"].items():
        body.append([name, "all", *(_cell(of[condition]) for condition in conditions)])
    body.append(["all", "all", *(_cell(report["over_all"][condition]) for condition in conditions)])
    return ["category", "task", *conditions], body


def _cell(figure: Mapping[str, Any]) -> str:
    low, high = figure["interval_95"]
    return f"{figure['successes']}/{figure['trials']} {figure['rate']:.0%} [{low:.0%}, {high:.0%}]"
