"""What intervals cover, how often tests err, and how many episodes they take, in simulated experiments.

    python benchmarks/comparison.py [--experiments 10000] [--only NAME,NAME] [--json FILE]

Each row of a table is the worst of its cells: the lowest coverage of 95 % intervals, or the highest share of
false alarms at level 0.05. The same seed gives the same tables.

Outcomes of two policies on one scene depend on each other by a scene's hardness: a policy succeeds where
√r·z + √(1 − r)·e is below a bound, with one z a scene and an e of its own, both normal. At r = 0 they are
independent, at r = 0.9 nearly alike. Training seeds move the bound by a normal of standard deviation `sd`;
at a rate of 50 % an sd of 0.25 is 10 points of success rate between seeds, 0.5 is 18.

Legend: K experiments, n scenes, P policies, R runs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from functools import cache
from itertools import combinations, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtr, ndtri

from robot_foundry.evaluation.comparison.differences import difference_interval, paired_interval
from robot_foundry.evaluation.comparison.exact import Barnard, McNemar
from robot_foundry.evaluation.comparison.multiple import holm
from robot_foundry.evaluation.comparison.recipes import Recipe, difference
from robot_foundry.evaluation.comparison.sequential import log_e
from robot_foundry.evaluation.intervals import clopper_pearson
from robot_foundry.runtime.keyed import generator

ALPHA = 0.05
BOUND = -np.log(ALPHA)
RATES = (0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98)
FEWER = (0.02, 0.1, 0.3, 0.5, 0.98)
HARDNESS = (0.0, 0.5, 0.9)
EQUAL, UNEQUAL = ((2, 2), (3, 3), (5, 5), (10, 10)), ((3, 5), (3, 10), (5, 10))  # runs of two recipes
BLOCK = 1000  # experiments drawn at once
Cell = tuple[str, float, str]  # row, value, which cell


def outcomes(
    random: np.random.Generator, rate_P: list[float], n: int, r: float, number: int
) -> Iterator[NDArray[np.bool_]]:
    """Successes [K, P, n] of policies on the same scenes, in blocks."""
    for begin in range(0, number, BLOCK):
        size = min(BLOCK, number - begin)
        z_K1n = random.standard_normal((size, 1, n), np.float32)
        e_KPn = random.standard_normal((size, len(rate_P), n), np.float32)
        yield np.sqrt(r) * z_K1n + np.sqrt(1 - r) * e_KPn < ndtri(np.array(rate_P))[:, None]


def rates(number: int) -> Iterator[Cell]:
    """Clopper and Pearson's interval of one rate."""
    for n, rate in product((5, 20, 50, 100, 200), RATES):
        x_K = generator("rates", n, str(rate)).binomial(n, rate, number)
        ends = np.array([clopper_pearson(x, n) for x in range(n + 1)])[x_K]
        yield f"rate, {n} scenes", share((ends[:, 0] <= rate) & (rate <= ends[:, 1])), f"{rate}"


def differences(number: int) -> Iterator[Cell]:
    """Newcombe's interval of a difference, and the exact one of pairs."""
    for n, m in ((20, 50), (50, 50), (200, 50), (200, 200)):
        low, high = difference_interval(np.ogrid[: n + 1, : m + 1], (n, m))
        for one, other in product(RATES, RATES):
            random = generator("differences", n, m, str(one), str(other))
            at = random.binomial(n, one, number), random.binomial(m, other, number)
            covers = (low[at] <= other - one) & (other - one <= high[at])
            yield f"difference, {n} and {m} episodes", share(covers), f"{one} {other}"
    for n, r, one, other in product((30, 100), HARDNESS, FEWER, FEWER):
        random = generator("paired", n, str(r), str(one), str(other))
        _, first_K, second_K, _ = random.multinomial(n, joint(one, other, r), number).T
        low_K, high_K = paired_ends(n)[:, first_K, second_K]
        covers = (low_K <= one - other) & (one - other <= high_K)
        yield f"difference, {n} pairs, hardness {r}", share(covers), f"{one} {other}"


@cache
def paired_ends(n: int) -> NDArray[np.float64]:
    """Both ends [2, n + 1, n + 1] for every pair of counts [only the first, only the second]."""
    ends = np.full((2, n + 1, n + 1), np.nan)
    for b in range(n + 1):
        for c in range(n + 1 - b):
            ends[:, b, c] = paired_interval(b, c, n)
    return ends


def tests(number: int) -> Iterator[Cell]:
    """Barnard's, McNemar's and the sequential test, looked at after every scene, of equal policies."""
    for (n, m), rate in product(((20, 20), (20, 50), (50, 50), (200, 50), (200, 200)), RATES):
        random = generator("barnard", n, m, str(rate))
        x_K, y_K = random.binomial(n, rate, number), random.binomial(m, rate, number)
        yield f"Barnard, {n} and {m} episodes", share(barnard(n, m)[x_K, y_K]), f"{rate}"
    for n, r, rate in product((20, 50, 200), HARDNESS, FEWER):
        random = generator("pairs", n, str(r), str(rate))
        b_Kn, c_Kn = walks(random, joint(rate, rate, r), n, number)
        yield f"McNemar, {n} pairs, hardness {r}", share(mcnemar(n)[b_Kn[:, -1], c_Kn[:, -1]]), f"{rate}"
        for sides in ("two-sided", "one-sided"):
            ever_K = (evidence(n, sides == "one-sided")[b_Kn, c_Kn] >= BOUND).any(axis=1)
            yield f"sequential {sides}, any of {n} looks, hardness {r}", share(ever_K), f"{rate}"


def families(number: int) -> Iterator[Cell]:
    """Any false alarm in a family of pairs, by Holm's method: all policies equal, or one better."""
    for policies, rate, gain, r in product((3, 6), (0.1, 0.5), (0.0, 0.08), (0.0, 0.5)):
        pairs = list(combinations(range(policies), 2))
        equal = [k for k, (one, _) in enumerate(pairs) if one > 0 or gain == 0.0]
        random = generator("families", policies, str(rate), str(gain), str(r))
        fixed, ever = [], []
        for success_KPn in outcomes(random, [rate + gain] + [rate] * (policies - 1), 60, r, number):
            p_Kp = np.stack([paired_p(60)[counts(success_KPn, *pair)] for pair in pairs], axis=-1)
            fixed.append((holm(p_Kp) <= ALPHA)[:, equal].any(-1))
            e_Kp = np.stack([ever_p(success_KPn[:, i], success_KPn[:, j]) for i, j in pairs], axis=-1)
            ever.append((holm(e_Kp) <= ALPHA)[:, equal].any(-1))
        what = f"{policies} policies, {'all equal' if gain == 0.0 else 'one unlike'}"
        yield f"McNemar and Holm, {what}", share(np.concatenate(fixed)), f"{rate} {gain} {r}"
        yield f"sequential and Holm, {what}", share(np.concatenate(ever)), f"{rate} {gain} {r}"


def recipes(number: int, *, alarms: bool) -> Iterator[Cell]:
    """Means of recipes, and equal recipes on the same scenes; also of unlike spread between seeds."""
    shapes = EQUAL + UNEQUAL if alarms else EQUAL
    for (runs, of_other), sd, ratio, rate in product(shapes, (0.0, 0.25, 0.5, 1.0), (1.0, 0.1), FEWER):
        if ratio != 1.0 and (sd < 0.5 or not alarms):
            continue
        random = generator("recipes", runs, of_other, str(sd), str(ratio), str(rate))
        found = []
        for begin in range(0, number, BLOCK):
            size = min(BLOCK, number - begin)
            z_K1n = random.standard_normal((size, 1, 60), np.float32)
            one = Recipe(recipe(random, z_K1n, rate, sd, runs))
            if alarms:
                other = Recipe(recipe(random, z_K1n, rate, sd * ratio, of_other))
                found.append(difference(one, other, paired=True).p <= ALPHA)
            else:
                low, high = one.interval()
                found.append((low <= rate) & (rate <= high))
        what = f"{runs} and {of_other} runs" if alarms else f"{runs} runs"
        spread = f"sd {sd}" if ratio == 1.0 else f"sd {sd} and {sd * ratio:g}"
        yield f"recipes, {what}, {spread}", share(np.concatenate(found)), f"{rate}"


def recipe_differences(number: int) -> Iterator[Cell]:
    """Differences of two recipes on the same scenes."""
    rates = ((0.02, 0.1), (0.1, 0.5), (0.5, 0.7), (0.9, 0.98))
    for (runs, of_other), sd, (rate, other) in product(((3, 3), (5, 5), (10, 10)), (0.25, 0.5, 1.0), rates):
        random = generator("recipe differences", runs, str(sd), str(rate))
        found = []
        for begin in range(0, number, BLOCK):
            z_K1n = random.standard_normal((min(BLOCK, number - begin), 1, 60), np.float32)
            pair = recipe(random, z_K1n, rate, sd, runs), recipe(random, z_K1n, other, sd, of_other)
            between = difference(*map(Recipe, pair), paired=True)
            found.append((between.low <= other - rate) & (other - rate <= between.high))
        what = f"difference of recipes, {runs} and {of_other} runs, sd {sd}"
        yield what, share(np.concatenate(found)), f"{rate} {other}"


def recipe(
    random: np.random.Generator, z_K1n: NDArray[np.float32], rate: float, sd: float, runs: int
) -> NDArray[np.bool_]:
    """Successes [K, R, n], of hardness ½, whose mean over training seeds and scenes is `rate`."""
    number, _, n = z_K1n.shape
    seed_KR1 = sd * random.standard_normal((number, runs, 1), np.float32)
    e_KRn = random.standard_normal((number, runs, n), np.float32)
    bound = ndtri(rate) * np.sqrt(1.0 + sd**2)
    return np.sqrt(0.5) * (z_K1n + e_KRn) < bound + seed_KR1


def episodes(number: int) -> str:
    """Fixed tests and the sequential one at equal power: how many episodes of each policy."""
    from robot_foundry.evaluation.comparison.plan import plan

    lines = [
        "| rates | Barnard | power | McNemar | power | sequential, most | power | mean | simulated |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one, other in ((0.5, 0.7), (0.5, 0.68), (0.8, 0.9), (0.9, 0.97), (0.3, 0.7), (0.5, 0.6)):
        planned = plan(one, other)
        random = generator("episodes", str(one), str(other))
        sizes = planned.barnard, planned.mcnemar, planned.sequential_most
        first, second = (random.binomial(sizes[0], rate, number) for rate in (one, other))
        b_Kn, c_Kn = walks(random, joint(one, other, 0.0), max(sizes), number)
        same = mcnemar(sizes[1])[b_Kn[:, sizes[1] - 1], c_Kn[:, sizes[1] - 1]]
        over_Kn = evidence(max(sizes), False)[b_Kn, c_Kn][:, : sizes[2]] >= BOUND
        stopped_K = over_Kn.any(axis=1)
        taken_K = np.where(stopped_K, over_Kn.argmax(axis=1) + 1, sizes[2])
        error = taken_K.std() / np.sqrt(number)
        powers = [
            f"{share(found):.3f}" for found in (barnard(sizes[0], sizes[0])[first, second], same, stopped_K)
        ]
        lines.append(
            f"| {one} and {other} | {sizes[0]} | {powers[0]} | {sizes[1]} | {powers[1]} | {sizes[2]} "
            f"| {powers[2]} | {planned.sequential_mean:.1f} | {taken_K.mean():.1f} ± {1.96 * error:.1f} |"
        )
    return "\n".join(lines)


def joint(one: float, other: float, r: float) -> NDArray[np.float64]:
    """P(both succeed, only the first, only the second, none) on one scene of hardness r."""
    z = np.linspace(-8.0, 8.0, 8001)
    given = [ndtr((ndtri(rate) - np.sqrt(r) * z) / np.sqrt(1.0 - r)) for rate in (one, other)]
    density = np.exp(-(z**2) / 2.0)
    both = float((density * given[0] * given[1]).sum() / density.sum())
    return np.array([both, one - both, other - both, 1.0 - one - other + both])


def walks(
    random: np.random.Generator, joint_4: NDArray[np.float64], n: int, number: int
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """After each scene the counts [K, n] of those on which only the first, only the second succeeded."""
    drawn_Kn = random.random((number, n), np.float32)
    first, second = joint_4[1], joint_4[1] + joint_4[2]
    only_first_Kn = drawn_Kn < first
    only_second_Kn = ~only_first_Kn & (drawn_Kn < second)
    return only_first_Kn.cumsum(axis=1, dtype=np.int16), only_second_Kn.cumsum(axis=1, dtype=np.int16)


@cache
def evidence(n: int, one_sided: bool) -> NDArray[np.float64]:
    """log E of every pair of counts up to n."""
    b, c = np.ogrid[: n + 1, : n + 1]
    return log_e(b, c, one_sided=one_sided)


def ever_p(first_Kn: NDArray[np.bool_], second_Kn: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The smallest p-value of any look [K]."""
    b_Kn = (first_Kn & ~second_Kn).cumsum(axis=1, dtype=np.int16)
    c_Kn = (second_Kn & ~first_Kn).cumsum(axis=1, dtype=np.int16)
    return np.exp(-np.maximum(evidence(first_Kn.shape[1], False)[b_Kn, c_Kn].max(axis=1), 0.0))


@cache
def barnard(n: int, m: int) -> NDArray[np.bool_]:
    """Whether each table [x, y] is significant."""
    test = Barnard(n, m)
    return np.asarray(test._statistic_xy >= test.bound(ALPHA) * (1 - 1e-9))


@cache
def paired_p(n: int) -> NDArray[np.float64]:
    """The p-value of every pair of counts [only the first, only the second]; 1 where there is none."""
    test, p = McNemar(n), np.ones((n + 1, n + 1))
    for b in range(n + 1):
        for c in range(b, n + 1 - b):
            p[b, c] = p[c, b] = test.p_value(b, c)
    return p


@cache
def mcnemar(n: int) -> NDArray[np.bool_]:
    """Whether each pair of counts is significant, by the bound of the conditional p."""
    b, c = np.ogrid[: n + 1, : n + 1]
    conditional = 2.0 * bdtr(np.minimum(b, c).astype(float), b + c, 0.5)
    return np.asarray(conditional <= McNemar(n).bound(ALPHA) * (1 + 1e-9))


def counts(success_KPn: NDArray[np.bool_], one: int, other: int) -> tuple[NDArray, NDArray]:
    first, second = success_KPn[:, one], success_KPn[:, other]
    return (first & ~second).sum(-1), (second & ~first).sum(-1)


def share(holds_K: NDArray[np.bool_]) -> float:
    return float(np.mean(holds_K))


def worst(cells: Iterator[Cell], *, lowest: bool) -> list[Cell]:
    """Of each row the cell that is furthest to the wrong side."""
    rows: dict[str, Cell] = {}
    for cell in cells:
        kept = rows.get(cell[0])
        if kept is None or (cell[1] < kept[1] if lowest else cell[1] > kept[1]):
            rows[cell[0]] = cell
    return list(rows.values())


def markdown(what: str, cells: list[Cell]) -> str:
    head = f"| {what} | worst | at |\n|---|---|---|"
    return "\n".join([head, *(f"| {row} | {value:.4f} | {cell} |" for row, value, cell in cells)])


TABLES = {
    "rates": lambda number: worst(rates(number), lowest=True),
    "differences": lambda number: worst(differences(number), lowest=True),
    "means": lambda number: worst(recipes(number, alarms=False), lowest=True),
    "between": lambda number: worst(recipe_differences(number), lowest=True),
    "tests": lambda number: worst(tests(number), lowest=False),
    "families": lambda number: worst(families(number), lowest=False),
    "recipes": lambda number: worst(recipes(number, alarms=True), lowest=False),
}
COVERAGE = ("rates", "differences", "means", "between")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--experiments", type=int, default=10_000)
    parser.add_argument(
        "--only", default="", help=f"of {', '.join([*TABLES, 'episodes'])}, with commas between"
    )
    parser.add_argument("--json", type=Path, help="a file that gets the tables")
    arguments = parser.parse_args()
    names = [name for name in arguments.only.split(",") if name] or [*TABLES, "episodes"]
    done = {}
    for name in names:
        if name == "episodes":
            print(f"\n{episodes(arguments.experiments)}", flush=True)
            continue
        done[name] = TABLES[name](arguments.experiments)
        what = "coverage of 95 % intervals" if name in COVERAGE else "false alarms at level 0.05"
        print(f"\n{markdown(what, done[name])}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(done, indent=1))


if __name__ == "__main__":
    main()
