"""Percentiles of robot data: our digests beside what peers use, on the same values in one run.

    python benchmarks/statistics.py [--values 1000000] [--leaves 2000] [--seed 0]

Estimators:
    robot_foundry        normalization.digest.Digest, one for each leaf, then one merge_all
    openpi               running 5000-bin histogram over the range seen so far, re-dealt when the range grows,
                         answers with a bin's left edge (RunningStats of src/openpi/shared/normalize.py)
    LeRobot              the same with interpolation inside the bin (RunningQuantileStats of
                         src/lerobot/datasets/compute_stats.py); envelope: percentiles of each leaf, merged as
                         the least p1 and the greatest p99 (aggregate_feature_stats, over episodes)
    VLA Foundry          t-digest of compression 100 with float32 means: the first 1000 values together, then
                         each leaf's digest merged in turn (TDigestEstimator of data/preprocessing in
                         github.com/TRI-ML/vla_foundry, on the package tdigest-rs)
    tdigest-rs, fastdigest, crick, tdigest    the packages of these names as they come, one digest a leaf,
                         then merged. tdigest is pure Python (35 us a value): it gets a tenth of the values.
The peers' methods are restated here from their published sources, not imported, so that nothing else has to
be installed; the time of VLA Foundry is that of this restatement, that of its engine stands at tdigest-rs.
Packages that are missing are left out, saying so. Read the ratios: absolute times depend on the machine and
its load. The last table is CPU time of one core: the aim is 5 million values a second, and 0.2 s to merge
2000 leaves of one dimension.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import reduce
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.normalization.digest import Digest

Array = NDArray[np.float64]
Percentile = Callable[[float], float]
ASKED = (1.0, 2.0, 50.0, 98.0, 99.0)


class RunningHistogram:
    """Equal-width bins over the range seen so far; a wider range re-deals the counts by their left edges."""

    def __init__(self, linear: bool, num_bins: int = 5000) -> None:
        self.linear, self.num_bins, self.total = linear, num_bins, 0
        self.edges, self.counts = np.empty(0), np.zeros(num_bins)

    def update(self, values: Array) -> None:
        low, high = values.min(), values.max()
        if not self.total:
            self.low, self.high = low, high
            self.edges = self._edges()
        wider = low < self.low or high > self.high
        self.low, self.high = np.minimum(low, self.low), np.maximum(high, self.high)  # as there: NaN stays
        if wider:
            old_edges, self.edges = self.edges, self._edges()
            self.counts = np.histogram(old_edges[:-1], self.edges, weights=self.counts)[0]
        self.counts = self.counts + np.histogram(values, self.edges)[0]
        self.total += len(values)

    def _edges(self) -> Array:
        return np.linspace(self.low - 1e-10, self.high + 1e-10, self.num_bins + 1)

    def percentile(self, q: float) -> float:
        below = np.cumsum(self.counts)
        target = q / 100 * self.total
        i = min(int(np.searchsorted(below, target)), self.num_bins - 1)
        share = 0.0
        if self.linear and self.counts[i]:
            share = (target - (below[i] - self.counts[i])) / self.counts[i]
        return float(self.edges[i] + share * (self.edges[i + 1] - self.edges[i]))


def histogram(linear: bool) -> Callable[[Sequence[Array]], Percentile]:
    def build(leaves: Sequence[Array]) -> Percentile:
        running = RunningHistogram(linear)
        for leaf in leaves:
            running.update(leaf)
        return running.percentile

    return build


def ours(leaves: Sequence[Array]) -> Percentile:
    return Digest.merge_all(Digest.of(leaf) for leaf in leaves).percentile


def envelope(leaves: Sequence[Array]) -> Percentile:
    of_leaf = np.array([np.percentile(leaf, ASKED) for leaf in leaves])
    weights = [len(leaf) for leaf in leaves]
    merged = {
        q: of_leaf[:, i].min()
        if q < 50
        else of_leaf[:, i].max()
        if q > 50
        else np.average(of_leaf[:, i], weights=weights)
        for i, q in enumerate(ASKED)
    }
    return lambda q: float(merged[q])


FOUNDRY_BUFFER, FOUNDRY_COMPRESSION = 1000, 100.0


def log_clusters(means: Array, weights: Array, compression: float) -> tuple[Array, Array]:
    """Neighbours joined while the rank after them stays below k(q) + 1, k(q) = c · ln(q / (1 - q)).

    c = compression / (4 ln(n / compression) + 24) of n entries: the scale function of tdigest-rs.
    """
    order = np.argsort(means, kind="stable")
    means, weights = means[order], weights[order]
    c = compression / (4 * np.log(len(means) / compression) + 24)
    below = np.concatenate([[0], np.cumsum(weights)])
    ends, total = [0], below[-1]
    while ends[-1] < len(means):
        q = below[ends[-1]] / total
        limit = 0.0 if q == 0 else 1 / (1 + (1 - q) / q * np.exp(-1 / c))
        ends.append(max(int(np.searchsorted(below, limit * total, "right")) - 1, ends[-1] + 1))
    starts = np.array(ends[:-1])
    grouped = np.add.reduceat(weights, starts)
    centres = np.add.reduceat(means.astype(np.float64) * weights, starts) / grouped
    return centres.astype(np.float32), grouped


def vla_foundry(leaves: Sequence[Array]) -> Percentile:
    def cluster(means: Array, weights: Array) -> tuple[Array, Array]:
        return log_clusters(means.astype(np.float32), weights, FOUNDRY_COMPRESSION)

    buffer: list[Array] = []
    digest: tuple[Array, Array] | None = None
    for leaf in leaves:
        if digest is None:
            buffer.append(leaf)
            values = np.concatenate(buffer)
            if len(values) >= FOUNDRY_BUFFER:
                digest = cluster(values, np.ones(len(values), np.int64))
        else:
            added = cluster(leaf, np.ones(len(leaf), np.int64))
            digest = cluster(*(np.concatenate(pair) for pair in zip(digest, added, strict=True)))
    if digest is None:
        return lambda q: float(np.percentile(values, q))
    means, weights = digest
    middles = np.cumsum(weights) - weights / 2
    return lambda q: float(np.interp(q / 100 * weights.sum(), middles, means))


def tdigest_rs(leaves: Sequence[Array]) -> Percentile:
    package = import_module("tdigest_rs")
    digests = [package.TDigest.from_array(leaf.astype(np.float32), FOUNDRY_COMPRESSION) for leaf in leaves]
    total = digests[0]
    for digest in digests[1:]:
        total = total.merge(digest, FOUNDRY_COMPRESSION)
    return lambda q: float(total.quantile(q / 100))


def fastdigest(leaves: Sequence[Array]) -> Percentile:
    package = import_module("fastdigest")
    digests = [package.TDigest.from_values(leaf) for leaf in leaves]
    return package.merge_all(digests).percentile


def crick(leaves: Sequence[Array]) -> Percentile:
    package = import_module("crick")
    total = package.TDigest()
    for leaf in leaves:
        digest = package.TDigest()
        digest.update(leaf)
        total.merge(digest)
    return lambda q: float(total.quantile(q / 100))


def tdigest(leaves: Sequence[Array]) -> Percentile:
    package = import_module("tdigest")
    total = package.TDigest()
    for leaf in leaves:
        total.batch_update(leaf[::10])
    return total.percentile


ESTIMATORS: dict[str, Callable[[Sequence[Array]], Percentile]] = {
    "robot_foundry": ours,
    "openpi": histogram(linear=False),
    "LeRobot": histogram(linear=True),
    "LeRobot, envelope": envelope,
    "VLA Foundry": vla_foundry,
    "tdigest-rs": tdigest_rs,
    "fastdigest": fastdigest,
    "crick": crick,
    "tdigest": tdigest,
}
PACKAGES = {name: name.replace("-", "_") for name in ("tdigest-rs", "fastdigest", "crick", "tdigest")}


def distributions(num_values: int, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)

    def where(share: float, then: Any, otherwise: Any) -> Array:
        return np.where(rng.random(num_values) < share, then, otherwise)

    normal = rng.normal(size=num_values)
    return {
        "gaussian": normal,
        "heavy tail": normal * where(1e-3, 1e4, 1.0),
        "bimodal": where(0.4, -3 + 0.1 * normal, 3 + 0.1 * normal),
        "gripper 0/1": where(0.7, 1.0, 0.0),
        "constant": np.full(num_values, 0.1),
        "90 % zeros": where(0.9, 0.0, normal),
        "open 99.5 %": where(0.995, 1.0, rng.random(num_values)),
        "one NaN": np.where(np.arange(num_values) == num_values // 3, np.nan, normal),
    }


def rank_error(ordered: Array, percentile: Percentile) -> float:
    """The largest distance between a rank asked for and the ranks that the answer has, in points."""
    worst = 0.0
    for q in ASKED:
        answer = percentile(q)
        if np.isnan(answer):
            return np.nan
        low, high = (
            np.searchsorted(ordered, answer, side) / len(ordered) * 100 for side in ("left", "right")
        )
        worst = max(worst, low - q, q - high)
    return worst


def value_error(ordered: Array, percentile: Percentile) -> float:
    """The largest error of p1 and p99, in percent of the true p1…p99 span (of 1 where that is zero)."""
    true = {q: np.quantile(ordered, q / 100, method="inverted_cdf") for q in (1.0, 99.0)}
    span = true[99.0] - true[1.0] or 1.0
    return float(max(abs(percentile(q) - true[q]) for q in true) / span * 100)


def cell(number: float) -> str:
    if not np.isfinite(number):
        return "no answer"
    return "0" if number == 0 else f"{number:.2g}" if number < 1e-2 else f"{number:.3g}"


def print_table(title: str, columns: Sequence[str], rows: dict[str, Sequence[str]]) -> None:
    print(f"\n{title}")
    width = max(map(len, rows))
    sizes = [max(len(column), *(len(row[i]) for row in rows.values())) for i, column in enumerate(columns)]
    print("  ".join([" " * width, *(c.rjust(s) for c, s in zip(columns, sizes, strict=True))]))
    for name, row in rows.items():
        print("  ".join([name.ljust(width), *(c.rjust(s) for c, s in zip(row, sizes, strict=True))]))


def installed(name: str) -> bool:
    try:
        import_module(PACKAGES.get(name, "numpy"))
    except ImportError:
        return False
    return True


def answers(build: Callable[[Sequence[Array]], Percentile], leaves: Sequence[Array]) -> Percentile:
    """What the estimator says; NaN where it fails on the data, as some do on a NaN."""
    try:
        with np.errstate(all="ignore"):
            return build(leaves)
    except (ValueError, KeyError):
        return lambda q: np.nan


LEAF_SIZES = (4096, 100_000, 1_000_000)
MERGED = 2000


def package_parts(name: str, of: str, merge: str) -> tuple[Callable[[Array], Any], Callable[[list], Any]]:
    def build(leaf: Array) -> Any:
        return getattr(import_module(name).TDigest, of)(leaf)

    return build, lambda leaves: getattr(import_module(name), merge)(leaves)


def crick_parts() -> tuple[Callable[[Array], Any], Callable[[list], Any]]:
    def build(leaf: Array) -> Any:
        digest = import_module("crick").TDigest()
        digest.update(leaf)
        return digest

    def merge(leaves: list) -> Any:
        total = import_module("crick").TDigest()
        total.merge(*leaves)
        return total

    return build, merge


def tdigest_rs_parts() -> tuple[Callable[[Array], Any], Callable[[list], Any]]:
    def build(leaf: Array) -> Any:
        return import_module("tdigest_rs").TDigest.from_array(leaf.astype(np.float32), FOUNDRY_COMPRESSION)

    return build, lambda leaves: reduce(lambda a, b: a.merge(b, FOUNDRY_COMPRESSION), leaves)


# How each makes a leaf, and merges leaves of one dimension.
DIGESTS = {
    "robot_foundry": (Digest.of, Digest.merge_all),
    "fastdigest": package_parts("fastdigest", "from_values", "merge_all"),
    "crick": crick_parts(),
    "tdigest-rs": tdigest_rs_parts(),
}


def speeds(of: Callable[[Array], Any], merge: Callable[[list], Any], seed: int) -> list[str]:
    values = np.random.default_rng(seed).normal(size=LEAF_SIZES[-1])
    found = []
    for size in LEAF_SIZES:
        leaves = np.split(values[: len(values) // size * size], len(values) // size)
        taken = best_of_three(lambda leaves=leaves: [of(leaf) for leaf in leaves])
        found.append(f"{len(leaves) * size / taken / 1e6:.1f}")
    merged = [of(leaf) for leaf in np.random.default_rng(seed).normal(size=(MERGED, 4096))]
    return [*found, f"{best_of_three(lambda: merge(merged)):.3f}"]


def best_of_three(work: Callable[[], Any]) -> float:
    """Seconds of this process's own CPU time, which other load disturbs least."""
    taken = []
    for _ in range(3):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--values", type=int, default=1_000_000)
    parser.add_argument("--leaves", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    data = distributions(options.values, options.seed)
    ranks: dict[str, list[str]] = {}
    values: dict[str, list[str]] = {}
    seconds: dict[str, list[float]] = {}
    for name, build in ESTIMATORS.items():
        if not installed(name):
            print(f"{name}: not installed, left out")
            continue
        for distribution in data.values():
            leaves = np.array_split(distribution, options.leaves)
            started = time.perf_counter()
            percentile = answers(build, leaves)
            seconds.setdefault(name, []).append(time.perf_counter() - started)
            ordered = np.sort(distribution[np.isfinite(distribution)])
            ranks.setdefault(name, []).append(cell(rank_error(ordered, percentile)))
            values.setdefault(name, []).append(cell(value_error(ordered, percentile)))

    size = f"{options.values} values in {options.leaves} leaves"
    print_table(f"largest rank error at p1, p2, p50, p98, p99 [points], {size}", list(data), ranks)
    print_table(f"largest error of p1 and p99 [% of the true p1..p99 span], {size}", list(data), values)
    times = {n: [f"{t * 1e3:.0f}" for t in row] for n, row in seconds.items()}
    print_table(f"time of all leaves and their merge [ms], {size}", list(data), times)
    base = np.array(seconds["robot_foundry"])
    relative = {name: [f"{ratio:.2f}" for ratio in np.array(row) / base] for name, row in seconds.items()}
    print_table("the same times as multiples of robot_foundry's", list(data), relative)
    rates = {name: speeds(*parts, options.seed) for name, parts in DIGESTS.items() if installed(name)}
    columns = [*(f"leaves of {size}" for size in LEAF_SIZES), f"merge of {MERGED} leaves [s]"]
    print_table("one core: millions of gaussian values a second, and merging (best of 3)", columns, rates)


if __name__ == "__main__":
    main()
