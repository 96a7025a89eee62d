"""Loading packed rows: our loader beside slices of a plain array of tokens, in one run.

    python benchmarks/packed_rows.py [--lengths 256 1024 4096] [--repeats 5]

Documents of 400 tokens on average, in the page cache; batches of 16 rows, as `llm_tiny` takes them. The plain
array is what the usual loaders of tokens have: one memory-mapped file, from which a row is cut wherever a
random number says, with nothing checked, and targets that are the same tokens one further on. Ours reads in
its shuffled order, proves every page that it reads, and adds segments, positions and bytes.
Time is CPU time of this process, all threads, for one row: the least of the repeats, which take turns.
A step of `llm_tiny` on 2 cores takes about 0.2 s.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import Loader, load
from robot_foundry.loader.tokens.rows import RowSpec

SUPPORT = Path(__file__).parent.parent / "tests" / "support"
DOCUMENTS, TOKENS, BATCH, STEPS, STEP_S = 25_000, 400, 16, 250, 0.2


def plain(token_N: NDArray[np.uint16], rng: np.random.Generator, length: int) -> None:
    for _ in range(STEPS):
        starts = rng.integers(0, len(token_N) - length - 1, BATCH)
        rows = np.stack([token_N[start : start + length + 1] for start in starts]).astype(np.int32)
        np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, 1:])


def ours(loader: Loader) -> None:
    for _ in range(STEPS):
        next(loader)


def cpu_seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def measure(folder: Path, length: int, repeats: int) -> None:
    rng = np.random.default_rng(0)
    token_N = np.load(folder / "tokens.npy", mmap_mode="r")
    options = {"seed": 0, "global_batch": BATCH, "store": Store(folder)}
    loaders = {threads: load("bench", RowSpec(length), threads=threads, **options) for threads in (0, 1)}
    methods: dict[str, Callable[[], object]] = {"a plain array": lambda: plain(token_N, rng, length)}
    for threads, loader in loaders.items():
        methods[f"robot_foundry, {threads} threads"] = lambda loader=loader: ours(loader)
    best = dict.fromkeys(methods, np.inf)
    for _ in range(repeats):
        for name, method in methods.items():
            best[name] = min(best[name], cpu_seconds(method) / STEPS / BATCH)
    for loader in loaders.values():
        loader.close()
    print(f"rows of {length} tokens")
    for name, seconds in best.items():
        share = seconds * BATCH / STEP_S
        print(f"    {name:26} {seconds * 1e6:7.1f} us a row, {share:6.2%} of a step of {STEP_S} s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    sys.path.insert(0, str(SUPPORT))
    from foundry_testing.tokens import write_tokens

    rng = np.random.default_rng(0)
    lengths = np.maximum(1, rng.lognormal(np.log(TOKENS) - 0.5, 1.0, DOCUMENTS)).astype(int)
    texts = [bytes(rng.integers(32, 127, length, dtype=np.uint8)).decode() for length in lengths]
    with tempfile.TemporaryDirectory() as folder:
        made = write_tokens(Store(folder), "bench", [texts[::2], texts[1::2]])
        tokens = np.concatenate([document.ids_N for document in made.documents])
        np.save(Path(folder) / "tokens.npy", tokens.astype(np.uint16))
        for length in options.lengths:
            measure(Path(folder), length, options.repeats)


if __name__ == "__main__":
    main()
