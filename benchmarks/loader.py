"""Loading batches: our loader beside webdataset, on the same tars with the same decoder, in one run.

    python benchmarks/loader.py [--frames 1500] [--repeats 5]

Frames of one camera, JPEG at 256 x 256 (about 17 kB each), in the page cache; batches of 32. webdataset reads
in tar order, decodes and stacks the images, which is the least that it can do. Ours reads in its shuffled
order, checks every checksum, decodes, and adds the state, 16 relative targets, masks and the instruction.
As pairs, the same JPEGs each with a caption, it decodes and adds the tokens of the caption: a pair a row.
Time is CPU time of this process, all threads, for one sample: the least of the repeats, which take turns.
Read the ratios: absolute times depend on the machine and its load.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import webdataset

from robot_foundry.catalog.mixture import make_mixture
from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import Loader, load
from robot_foundry.loader.order import Order
from robot_foundry.loader.pairs.spec import PairRows, PairSpec
from robot_foundry.shards.images import decode, encode_jpeg
from robot_foundry.shards.pairs.shard import Encoded
from robot_foundry.windows.window import WindowSpec

SUPPORT = Path(__file__).parent.parent / "tests" / "support"
SIZE, BATCH = 256, 32
MEMBER = "primary_camera.jpg"


def photographs() -> Callable[[np.random.Generator, int, int], bytes]:
    """JPEGs of smooth noise, whose power falls with frequency as in photographs."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None]) + 1 / SIZE
    spectrum = rng.normal(size=(8, 3, *frequency.shape)) / frequency**1.5
    noise = np.moveaxis(np.fft.irfft2(spectrum), 1, -1)
    pictures = (128 + 50 * noise / noise.std()).clip(0, 255).astype(np.uint8)

    def encode(rng: np.random.Generator, height: int, width: int) -> bytes:
        shift = tuple(rng.integers(0, SIZE, 2))
        return encode_jpeg(np.roll(pictures[rng.integers(len(pictures))], shift, axis=(0, 1)), 85)

    return encode


def raw_samples(tars: list[str]) -> Iterator[bytes]:
    samples = webdataset.WebDataset(tars, shardshuffle=False)
    return (sample[MEMBER] for sample in samples if MEMBER in sample)


def decoded_batches(tars: list[str]) -> Iterator[np.ndarray]:
    images = []
    for data in raw_samples(tars):
        images.append(decode(data))
        if len(images) == BATCH:
            yield np.stack(images)
            images = []


def ours(loader: Loader, num_batches: int) -> None:
    for _ in range(num_batches):
        next(loader)


def write_captions(store: Store, name: str, pictures: Iterator[bytes]) -> None:
    """A version of pairs of these pictures."""
    from foundry_testing.pairs import TestPair, write_pairs

    caption = "a soft cloud of grey and brown over a wide field at dusk, number {}"
    pairs = [
        TestPair([Encoded(data, "jpg", SIZE, SIZE)], {"caption": caption.format(number)})
        for number, data in enumerate(pictures)
    ]
    write_pairs(store, name, pairs, per_shard=1000, per_block=250)


def cpu_seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=1500)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Store(folder), options.frames, options.repeats)


def measure(store: Store, num_frames: int, repeats: int) -> None:
    sys.path.insert(0, str(SUPPORT))
    from foundry_testing.loader_fixtures import write_version as write

    shards = [[num_frames // 10] * 5] * 2
    write(store, "bench", shards, cameras={"primary": (SIZE, SIZE)}, flaws=False, encode=photographs())
    tars = [str(store.storage.local_path(p)) for p in store.storage.list("shards") if p.endswith(".tar")]
    num_samples, num_batches = sum(map(sum, shards)), sum(map(sum, shards)) // BATCH
    window = WindowSpec(history=1)
    write_captions(store, "pairs", raw_samples(tars))
    rows = PairSpec(PairRows(length=128, packed=False, image=(SIZE, SIZE)), image_tokens=64)
    loaders = {
        f"robot_foundry, {name}, {threads} threads": load(
            ref, settings, seed=0, global_batch=BATCH, threads=threads, store=store, split="all"
        )
        for threads in (0, 1, 2)
        for name, ref, settings in (("robots", "bench", window), ("pairs", "pairs", rows))
    }
    order = Order(make_mixture(store, {"bench": 1}, split="all").mixture, seed=0)
    methods: dict[str, tuple[Callable[[], object], int]] = {
        "webdataset, bytes only": (lambda: sum(map(len, raw_samples(tars))), num_samples),
        "webdataset, decoded": (lambda: sum(map(len, decoded_batches(tars))), num_batches * BATCH),
    }
    for name, loader in loaders.items():
        methods[name] = (lambda loader=loader: ours(loader, num_batches), num_batches * BATCH)
    methods["robot_foundry, order only"] = (lambda: order.at(np.arange(2**18)), 2**18)
    best = {name: np.inf for name in methods}
    for _ in range(repeats):
        for name, (function, count) in methods.items():
            best[name] = min(best[name], cpu_seconds(function) / count)
    for loader in loaders.values():
        loader.close()
    reference = best["webdataset, decoded"]
    for name, seconds in best.items():
        print(f"{name:32} {seconds * 1e6:8.2f} us/sample   {seconds / reference:6.3f} of webdataset, decoded")


if __name__ == "__main__":
    main()
