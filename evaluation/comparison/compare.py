"""Several policies side by side: rates, intervals, and which of them differ.

Single runs are compared by episodes, recipes of several runs by runs (`recipes`). Of one task, and over all
tasks that every policy has, each pair is tested, the p-values are adjusted by Holm's method within that
scope, and letters follow from what is significant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.evaluation.comparison.differences import difference_interval, paired_difference
from robot_foundry.evaluation.comparison.exact import Barnard, McNemar, check_alpha
from robot_foundry.evaluation.comparison.least import least_paired, least_sequential, told
from robot_foundry.evaluation.comparison.multiple import holm, letters
from robot_foundry.evaluation.comparison.outcomes import SETTINGS, Outcomes, Policy, Task, task_name
from robot_foundry.evaluation.comparison.recipes import Recipe, difference
from robot_foundry.evaluation.comparison.sequential import anytime_p
from robot_foundry.evaluation.intervals import clopper_pearson
from robot_foundry.evaluation.rollouts.spec import RANDOM
from robot_foundry.runtime.errors import FoundryError, UsageError

ALL = "all tasks"
MOST_UNPAIRED = 200  # episodes of each; of more their limit takes long to find
MCNEMAR, BARNARD, SEQUENTIAL, WELCH = "McNemar", "Barnard", "sequential", "Welch on runs"
Episode = tuple[Task, int]
Episodes = Mapping[Episode, bool]


@dataclass(frozen=True)
class Standing:
    """One policy in one scope. `effective` is as how many independent episodes its own count."""

    name: str
    successes: int
    trials: int
    rate: float
    interval: tuple[float, float]
    rates_of_runs: tuple[float, ...]
    effective: float
    letters: str = ""


@dataclass(frozen=True)
class Pair:
    """Two policies in one scope; `difference` is the second rate less the first, on what was compared.

    `scenes` is on how many scenes both acted, None where they are not paired. `stopped_at` is the scene after
    which the sequential test has this pair decided, among all of the scope; None where it has not. `limit`
    says of runs that are not shown to differ which difference so many scenes could have shown, by this pair
    alone.
    """

    first: str
    second: str
    test: str
    scenes: int | None
    difference: float
    interval: tuple[float, float]
    p: float
    p_adjusted: float = 1.0
    stopped_at: int | None = None
    limit: str | None = None


@dataclass(frozen=True)
class Scope:
    """One task, or all."""

    name: str
    standings: tuple[Standing, ...]
    pairs: tuple[Pair, ...]

    @property
    def may_stop(self) -> bool:
        """Whether every pair is decided."""
        return all(pair.stopped_at is not None for pair in self.pairs)

    @property
    def limits(self) -> list[str]:
        """Those of its pairs, each once."""
        return list(dict.fromkeys(pair.limit for pair in self.pairs if pair.limit is not None))


@dataclass(frozen=True)
class Comparison:
    """`of` is "runs" or "recipes"; `notes` say what was left out, and what the figures do not say."""

    of: str
    alpha: float
    sequential: bool
    scopes: tuple[Scope, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        scopes = [
            {**asdict(scope), **({"may_stop": scope.may_stop} if self.sequential else {})}
            for scope in self.scopes
        ]
        return {**asdict(self), "scopes": scopes}


def compare(policies: Sequence[Policy], *, alpha: float = 0.05, sequential: bool = False) -> Comparison:
    """UsageError where they cannot be compared: no task in common, runs beside recipes, names that repeat."""
    _check(policies, alpha, sequential)
    of_recipes = len(policies[0].runs) > 1
    tasks = _common_tasks(policies)
    notes = list(_notes(policies, tasks))
    scopes = [_scope(task_name(task), policies, [task], alpha, sequential) for task in tasks]
    if len(tasks) > 1:
        if _is_balanced(policies, tasks):
            scopes.append(_scope(ALL, policies, tasks, alpha, sequential))
        else:
            notes.append(
                "there is no row over all tasks: the policies have unlike numbers of episodes by task"
            )
    if sequential:
        notes.append("p may be read whenever one looks; intervals are those of a number fixed before")
    unpaired = [pair for scope in scopes for pair in scope.pairs if pair.scenes is None]
    if unpaired:
        one = unpaired[0]
        notes.append(f"not paired, as their scenes differ: {one.first} and {one.second}" + _more(unpaired))
    return Comparison("recipes" if of_recipes else "runs", alpha, sequential, tuple(scopes), tuple(notes))


def _check(policies: Sequence[Policy], alpha: float, sequential: bool) -> None:
    names = [policy.name for policy in policies]
    if len(policies) < 2:
        raise UsageError("give two policies or more to compare", hint="foundry-eval compare runs/a runs/b")
    if len(set(names)) < len(names):
        raise UsageError("two of what is compared have one name", hint="write NAME=RUN")
    check_alpha(alpha)
    single = [policy.name for policy in policies if len(policy.runs) == 1]
    if single and len(single) < len(policies):
        many = next(policy.name for policy in policies if len(policy.runs) > 1)
        raise UsageError(
            f"{many} is a recipe of several runs and {single[0]} is one run: how much training seeds of it "
            "differ is not known",
            hint="give every recipe two runs or more, or compare single runs",
        )
    if sequential and not single:
        raise UsageError("--sequential is of single runs: more episodes are not more seeds")


def _common_tasks(policies: Sequence[Policy]) -> list[Task]:
    common = [task for task in policies[0].tasks if all(task in policy.tasks for policy in policies)]
    if not common:
        held = (
            f"{p.name} has {'; '.join(map(task_name, p.tasks)) or 'none in all its runs'}" for p in policies
        )
        raise UsageError(f"no task was rolled out with every policy: {', '.join(held)}")
    return common


def _notes(policies: Sequence[Policy], tasks: Sequence[Task]) -> Iterator[str]:
    """What was left out, and settings that are not the same."""
    conditions = {run[task].settings["condition"] for p in policies for run in p.runs for task in tasks}
    if len(policies[0].runs) == 1 and conditions != {RANDOM}:
        yield (
            "one training seed each: what differs are these runs; whether their recipes do cannot be told "
            "without more seeds (NAME=RUN,RUN,…)"
        )
    for policy in policies:
        extra = {task_name(task) for run in policy.runs for task in run if task not in tasks}
        if extra:
            yield f"left out, as not every run has it: {', '.join(sorted(extra))} of {policy.name}"
    for task in tasks:
        for setting in SETTINGS:
            values = {
                policy.name: [run[task].settings[setting] for run in policy.runs] for policy in policies
            }
            if len({value for of_policy in values.values() for value in of_policy}) > 1:
                each = ", ".join(f"{name} {_set(of_policy)}" for name, of_policy in values.items())
                yield f"{task_name(task)}: {setting} is not the same: {each}"
        if unlike := _unlike_starts([run[task] for policy in policies for run in policy.runs]):
            yield (
                f"{task_name(task)}: scenes did not begin alike though their seeds are the same ({unlike}): "
                "another version of the world, or another kind of machine"
            )


def _unlike_starts(runs: Sequence[Outcomes]) -> int:
    """Of how many seeds two runs say that they began with something else."""
    of_seed: dict[int, set[str]] = {}
    for run in runs:
        for seed, start in run.starts.items():
            of_seed.setdefault(seed, set()).add(start)
    return sum(len(starts) > 1 for starts in of_seed.values())


def _set(values: Sequence[Any]) -> str:
    return "/".join(dict.fromkeys(str(value) for value in values))


def _more(pairs: Sequence[Pair]) -> str:
    return f" (and {len(pairs) - 1} more)" if len(pairs) > 1 else ""


def _is_balanced(policies: Sequence[Policy], tasks: Sequence[Task]) -> bool:
    """Whether tasks weigh the same in every run's mean over all episodes."""
    return all(
        len({len(run[task].success) for policy in policies for run in policy.runs}) == 1 for task in tasks
    )


def _scope(
    name: str, policies: Sequence[Policy], tasks: Sequence[Task], alpha: float, sequential: bool
) -> Scope:
    runs = {policy.name: [_episodes(run, tasks) for run in policy.runs] for policy in policies}
    if len(policies[0].runs) > 1:
        recipes = {policy: _recipe(policy, of_policy) for policy, of_policy in runs.items()}
        standings = [_of_recipe(policy, recipe, alpha) for policy, (recipe, _) in recipes.items()]
        pairs = [_recipe_pair(*two, recipes, alpha) for two in combinations(recipes, 2)]
        return _decided(name, standings, pairs, alpha)
    single = {policy: of_policy[0] for policy, of_policy in runs.items()}
    standings = [_of_run(policy, episodes, alpha) for policy, episodes in single.items()]
    if sequential:
        return _decided(name, standings, _looked_at(name, single, alpha), alpha)
    return _decided(
        name, standings, [_run_pair(*two, single, alpha) for two in combinations(single, 2)], alpha
    )


def _episodes(run: Mapping[Task, Outcomes], tasks: Sequence[Task]) -> dict[Episode, bool]:
    """Those of the tasks in turn, so that any first part of them has all tasks alike."""
    by_task = [[((task, seed), success) for seed, success in run[task].success.items()] for task in tasks]
    return dict(entry for turn in zip_longest(*by_task) for entry in turn if entry is not None)


def _decided(name: str, standings: Sequence[Standing], pairs: Sequence[Pair], alpha: float) -> Scope:
    """With adjusted p-values, and letters, of which the best has the first."""
    adjusted = holm([pair.p for pair in pairs])
    pairs = [replace(pair, p_adjusted=float(p)) for pair, p in zip(pairs, adjusted, strict=True)]
    trials = {standing.name: standing.trials for standing in standings}
    pairs = [replace(pair, limit=_limit(pair, trials, alpha)) for pair in pairs]
    ranked = sorted(standings, key=lambda standing: (-standing.rate, standing.name))
    place = {standing.name: rank for rank, standing in enumerate(ranked)}
    differ = [(place[pair.first], place[pair.second]) for pair in pairs if pair.p_adjusted <= alpha]
    given = letters(len(ranked), differ)
    lettered = (replace(standing, letters=given[place[standing.name]]) for standing in standings)
    return Scope(name, tuple(lettered), tuple(pairs))


def _limit(pair: Pair, trials: Mapping[str, int], alpha: float) -> str | None:
    if pair.p_adjusted <= alpha or pair.test == WELCH:
        return None
    if pair.scenes is not None:
        least = least_sequential if pair.test == SEQUENTIAL else least_paired
        scenes = "1 scene" if pair.scenes == 1 else f"{pair.scenes} scenes"
        return told(scenes, least(pair.scenes, alpha), alpha)
    first, second = trials[pair.first], trials[pair.second]
    if max(first, second) > MOST_UNPAIRED:
        return None
    return told(f"{first} and {second} episodes", Barnard(first, second).least(alpha), alpha)


# -- single runs -------------------------------------------------------------------------------------


def _of_run(name: str, episodes: Episodes, alpha: float) -> Standing:
    successes, trials = sum(episodes.values()), len(episodes)
    interval = clopper_pearson(successes, trials, 1.0 - alpha)
    rate = successes / trials
    return Standing(name, successes, trials, rate, interval, (rate,), float(trials))


def _shared(first: Episodes, second: Episodes) -> list[Episode] | None:
    """The scenes of one where all of them are the other's too, in the order of the first."""
    shared = [episode for episode in first if episode in second]
    return shared if len(shared) == min(len(first), len(second)) else None


def _run_pair(first: str, second: str, single: Mapping[str, Episodes], alpha: float) -> Pair:
    one, other = single[first], single[second]
    shared = _shared(one, other)
    if shared is None:
        x, n = (sum(one.values()), sum(other.values())), (len(one), len(other))
        p, interval = Barnard(*n).p_value(*x), difference_interval(x, n, confidence=1.0 - alpha)
        return Pair(first, second, BARNARD, None, x[1] / n[1] - x[0] / n[0], _ends(interval), p)
    p = McNemar(len(shared)).p_value(
        sum(one[scene] and not other[scene] for scene in shared),
        sum(other[scene] and not one[scene] for scene in shared),
    )
    return _paired(first, second, MCNEMAR, [(one[scene], other[scene]) for scene in shared], p, alpha)


def _paired(
    first: str, second: str, test: str, outcomes: Sequence[tuple[bool, bool]], p: float, alpha: float
) -> Pair:
    ones, others = zip(*outcomes, strict=True)
    value, low, high = paired_difference(others, ones, 1.0 - alpha)
    return Pair(first, second, test, len(outcomes), value, (low, high), p)


def _looked_at(name: str, single: Mapping[str, Episodes], alpha: float) -> list[Pair]:
    """Every pair after its last scene, and the scene at which it was decided; looked at after each.

    Whichever has fewer scenes keeps its last p-value while others go on.
    """
    pairs, series = [], []
    for first, second in combinations(single, 2):
        one, other = single[first], single[second]
        shared = _shared(one, other)
        if shared is None:
            raise UsageError(
                f"--sequential needs the same scenes, and those of {first} and {second} differ ({name})",
                hint="roll out with one --seed, or leave --sequential away",
            )
        outcomes = [(one[scene], other[scene]) for scene in shared]
        series.append(anytime_p(*np.array(outcomes, bool).T))
        pairs.append(_paired(first, second, SEQUENTIAL, outcomes, float(series[-1][-1]), alpha))
    longest = max(map(len, series))
    p_nP = np.stack([np.pad(p_n, (0, longest - len(p_n)), mode="edge") for p_n in series], axis=-1)
    decided_nP = holm(p_nP) <= alpha
    stopped = [int(decided_n.argmax()) + 1 if decided_n.any() else None for decided_n in decided_nP.T]
    return [replace(pair, stopped_at=scene) for pair, scene in zip(pairs, stopped, strict=True)]


# -- recipes -----------------------------------------------------------------------------------------


def _recipe(name: str, runs: Sequence[Episodes]) -> tuple[Recipe, tuple[Episode, ...]]:
    """The table of a recipe, and its scenes; FoundryError where its runs have unlike ones."""
    scenes = tuple(sorted(runs[0]))
    if any(set(run) != set(scenes) for run in runs):
        raise FoundryError(
            f"the runs of {name} were rolled out on unlike scenes",
            hint="roll out with one --seed and --episodes",
        )
    return Recipe(_table(runs, scenes)), scenes


def _table(runs: Sequence[Episodes], scenes: Sequence[Episode]) -> NDArray[np.bool_]:
    return np.array([[run[scene] for scene in scenes] for run in runs], bool)


def _of_recipe(name: str, recipe: Recipe, alpha: float) -> Standing:
    successes, trials = int(recipe.success_RS.sum()), int(recipe.success_RS.size)
    interval = _ends(recipe.interval(1.0 - alpha))
    rates = tuple(map(float, recipe.rate_R))
    return Standing(name, successes, trials, float(recipe.rate), interval, rates, float(recipe.effective()))


def _recipe_pair(
    first: str, second: str, recipes: Mapping[str, tuple[Recipe, tuple[Episode, ...]]], alpha: float
) -> Pair:
    (one, scenes), (other, of_other) = recipes[first], recipes[second]
    is_paired = scenes == of_other
    found = difference(one, other, paired=is_paired, confidence=1.0 - alpha)
    number = len(scenes) if is_paired else None
    interval = float(found.low), float(found.high)
    return Pair(first, second, WELCH, number, float(found.value), interval, float(found.p))


def _ends(interval: tuple[Any, Any]) -> tuple[float, float]:
    return float(interval[0]), float(interval[1])
