"""Adopting WebDataset tars beside copying them: CPU time, and bytes in the store, in one run.

    python benchmarks/adoption.py [--megabytes 200] [--repeats 2]

One tar has JPEGs of noise (20 kB each), no two alike, each with a `.json` of its caption, and is in the page
cache. It is ingested in this process into a new store each time, adopted and copied, with pictures checked by
their headers and decoded; all without looking for duplicates. Time is CPU time of this process for one pair,
the least of the repeats, which take turns. Read the ratios: times depend on the machine and its load.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import tempfile
import time
from itertools import count, product
from pathlib import Path

import numpy as np

from robot_foundry.catalog.store import Store
from robot_foundry.ingest.engine import Options
from robot_foundry.ingest.engine import run as ingest
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.shards.images import encode_jpeg

SIDE, QUALITY = 128, 95


def write(path: Path, num_bytes: int) -> int:
    """The number of pairs in a tar of about so many bytes."""
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w") as tar:
        for number in count():
            if tar.offset >= num_bytes:
                return number
            picture = encode_jpeg(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), QUALITY)
            said = json.dumps({"caption": f"noise, number {number}", "url": f"https://example.org/{number}"})
            for ending, data in (("jpg", picture), ("json", said.encode())):
                member = tarfile.TarInfo(f"{number:09}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    raise AssertionError("count() does not end")


def measured(source: Path, adopt: bool, verify: str) -> tuple[float, int]:
    """CPU seconds of an ingest, and the bytes of shards and datasets in its store."""
    settings = (
        f"content.adopt={str(adopt).lower()}",
        f"content.verify={verify}",
        "content.deduplicate=false",
    )
    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        ingest(
            load_spec("pairs", settings),
            source,
            store=Store(folder),
            name="noise",
            options=Options(quiet=True),
        )
        seconds = time.process_time() - begin
        files = (file for part in ("shards", "datasets") for file in (Path(folder) / part).rglob("*"))
        return seconds, sum(file.stat().st_size for file in files if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tar = Path(folder) / "00000.tar"
        pairs = write(tar, arguments.megabytes * 1_000_000)
        ways = tuple(product((True, False), ("header", "decode")))
        rounds = [{way: measured(Path(folder), *way) for way in ways} for _ in range(arguments.repeats)]
        print(f"{pairs:,} pairs, {tar.stat().st_size:,} bytes\n")
    print(f"{'adopt':<8}{'verify':<10}{'ms a pair':>10}{'store':>14}")
    for adopt, verify in ways:
        seconds = min(of_round[adopt, verify][0] for of_round in rounds)
        num_bytes = rounds[0][adopt, verify][1]
        print(f"{str(adopt).lower():<8}{verify:<10}{seconds / pairs * 1e3:>10.2f}{num_bytes / 1e6:>11.1f} MB")


if __name__ == "__main__":
    main()
