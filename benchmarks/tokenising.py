"""Tokenising a version of text beside `tokenizers`' own batch encoding of the same texts, in one run.

    python benchmarks/tokenising.py [--mb 100] [--vocab 8192] [--repeats 3] [--workers 1 2]

The text is what the installed packages have of sources and documents, again and again with its paragraphs in
another order and some words changed, until there is enough. It is ingested, in shards of 4 MB, so that there
are more shards than workers, and a tokenizer is trained on a tenth of it, beforehand. Then take turns:
`encode_batch` and `encode_batch_fast` of `tokenizers` on the texts in memory, in batches, with and without
taking their ids; and `foundry-data tokenize` in this process, which reads, decodes and checks the text,
encodes it, compares what the ids decode to with the text, and writes, hashes and commits a version. Wall time
and CPU time are the least of the repeats. At the end the same on Ray workers, of one thread each, from their
start to the commit. Read the ratios: absolute times depend on the machine and its load.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer as Engine

import robot_foundry
from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.selection import SelectionSpec
from robot_foundry.catalog.store import Store
from robot_foundry.ingest.engine import Options
from robot_foundry.ingest.engine import run as ingest
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.ingest.tokens.tokenize import run as tokenize
from robot_foundry.ingest.tokens.training import selected_texts, train_tokenizer
from robot_foundry.shards.tokens.tokenizer import Tokenizer

SUFFIXES = (".py", ".rst", ".txt", ".md")
MOST_CHARACTERS, BATCH, SHARD_BYTES = 50_000, 1_000, 4_000_000


def documents(num_bytes: int) -> Iterator[str]:
    """Texts of so many bytes in all, none twice."""
    packages = Path(json.__file__).parents[1], Path(np.__file__).parents[1]
    files = sorted(file for folder in packages for file in folder.rglob("*") if file.suffix in SUFFIXES)
    rng, done, again = np.random.default_rng(0), 0, 0
    while done < num_bytes:
        for file in files:
            text = file.read_bytes().decode(errors="ignore")[:MOST_CHARACTERS]
            if not text.strip():
                continue
            if again:
                parts = np.array(text.split("\n\n"), object)
                text = "\n\n".join(rng.permutation(parts)).replace(" a ", f" {again} ")
            yield text
            done += len(text.encode())
            if done >= num_bytes:
                return
        again += 1


def made_store(folder: Path, num_bytes: int) -> Store:
    source = folder / "text.jsonl"
    with source.open("w") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in documents(num_bytes))
    store, small = Store(folder / "store"), f"{SHARD_BYTES}"
    spec = load_spec("text", (f"content.unit_bytes={small}", f"content.shard_bytes={small}"))
    ingest(spec, source, store=store, name="text")
    source.unlink()
    return store


def peers(tokenizer: Tokenizer, texts: list[str]) -> dict[str, Callable[[], int]]:
    """Each returns the number of tokens."""
    engine = Engine.from_str(json.dumps(tokenizer.transformers_json()))
    batches = [texts[at : at + BATCH] for at in range(0, len(texts), BATCH)]

    def encoded(name: str, count: Callable[[object], int]) -> Callable[[], int]:
        encode = getattr(engine, name)
        return lambda: sum(count(one) for batch in batches for one in encode(batch, add_special_tokens=False))

    return {
        "encode_batch": encoded("encode_batch", len),
        "encode_batch_fast": encoded("encode_batch_fast", len),
        "encode_batch_fast, with ids": encoded("encode_batch_fast", lambda one: len(one.ids)),
    }


def timed(function: Callable[[], int]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mb", type=float, default=100)
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    options = parser.parse_args()
    print(f"robot_foundry {robot_foundry.__version__}, {sys.platform}")
    with tempfile.TemporaryDirectory() as folder:
        store = made_store(Path(folder), int(options.mb * 1e6))
        opened = OpenVersions(store).open("text")
        a_tenth = opened.select(SelectionSpec("val", "1/10"))
        tokenizer = train_tokenizer(opened, a_tenth, options.vocab)
        texts = list(selected_texts(opened, opened.select(SelectionSpec("all"))))
        size = sum(len(text.encode()) for text in texts)

        def ours(name: str, workers: int = 0) -> int:
            made = tokenize("text", tokenizer, store=store, name=name, options=Options(workers=workers))
            assert not made.noop and made.shards_reused == 0
            return made.counts["tokens"] - made.counts["documents"]

        runs = peers(tokenizer, texts)
        (expected,) = {count() for count in runs.values()}
        assert ours("tokens-check") == expected
        print(f"{size / 1e6:.0f} MB, {len(texts):,} documents, {expected:,} tokens of {tokenizer.size:,}")
        best: dict[str, tuple[float, float]] = {}
        for repeat in range(options.repeats):
            turns = {**runs, "foundry-data tokenize": lambda repeat=repeat: ours(f"tokens-{repeat}")}
            for name, function in turns.items():
                measured = timed(function)
                best[name] = tuple(map(min, zip(best.get(name, measured), measured, strict=True)))
        peer = best["encode_batch"]
        print(f"{'':30}{'MB/s wall':>10}{'ratio':>7}{'MB/s CPU':>10}{'ratio':>7}")
        for name, (wall, cpu) in best.items():
            rates = (
                f"{size / 1e6 / wall:10.2f}{peer[0] / wall:7.2f}{size / 1e6 / cpu:10.2f}{peer[1] / cpu:7.2f}"
            )
            print(f"{name:30}{rates}")
        walls = {}
        for workers in options.workers:
            walls[workers] = min(
                timed(lambda w=workers, r=r: ours(f"ray-{w}-{r}", w))[0] for r in range(options.repeats)
            )
            ratio = walls[options.workers[0]] / walls[workers]
            print(f"{f'{workers} Ray workers, with start':30}{size / 1e6 / walls[workers]:10.2f}{ratio:7.2f}")


if __name__ == "__main__":
    main()
