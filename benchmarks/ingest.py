"""Ingest of sources that hold JPEG, beside only reading, hashing and writing the same bytes; all in one run.

    python benchmarks/ingest.py [--megabytes 200] [--repeats 3] [--memory-megabytes 400]

a  pass-through: RLDS and HDF5 (ALOHA, compressed), episodes of 100 frames of two cameras, JPEG at 256 x 256
   (about 17 kB). `copy` reads each file in blocks, updates a SHA-256, writes and syncs. Ingest starts with
   nothing known of the source, in this process. CPU and elapsed seconds are the least of the repeats, which
   take turns.
b  CPU of all processes of an ingest, Ray's own included, with two workers and with one.
c  peak resident memory of a process that ingests a source, and one four times as large (whose further files
   are links to the first). --memory-megabytes 5000 is the full setting.
d  bytes of the shards over those of the encoded images in them.

Read the ratios: absolute figures depend on the machine and its load.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import resource
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from robot_foundry.catalog.opening import open_robot_shard
from robot_foundry.catalog.store import Store
from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.spec import load_spec

HERE = Path(__file__).parent
SIZE, FRAMES = 256, 100
IMAGE_BYTES = 17_000  # by about
PR_SET_CHILD_SUBREAPER = 36
RLDS_SPEC = """
name: rlds
layout: rlds
content: {fps: 10}
mapping:
  embodiment: arm
  cameras: {image: primary, wrist: wrist_right}
  state:
    right.ee_position: {key: steps/observation/state}
  actions:
    command:
      right.ee_position: {key: steps/action}
"""


def write_rlds(folder: Path, num_files: int, picture: Callable[[], bytes]) -> str:
    """A TFDS directory of one episode a file, serialised by tensorflow-datasets. Returns the spec."""
    from tensorflow_datasets.core import features as tfds

    image = tfds.Image(shape=(SIZE, SIZE, 3), encoding_format="jpeg")
    observation = {"state": tfds.Tensor(shape=(3,), dtype=np.float32), "image": image, "wrist": image}
    step = {"observation": observation, "action": tfds.Tensor(shape=(3,), dtype=np.float32)}
    directory = runpy.run_path(str(HERE.parent / "tests" / "test_ingest_rlds.py"))["Directory"]
    made = directory(folder, {**step, "is_first": np.bool_})
    records = []
    for _ in range(num_files):
        walk = np.cumsum(np.random.default_rng(len(records)).normal(size=(FRAMES, 3)), axis=0) / 100
        steps = [
            {
                "observation": {"state": walk[t].astype(np.float32), "image": picture(), "wrist": picture()},
                "action": walk[t].astype(np.float32),
                "is_first": t == 0,
            }
            for t in range(FRAMES)
        ]
        records.append([made.record(steps)])
    made.write("train", *records)
    spec = folder.parent / "rlds.yaml"
    spec.write_text(RLDS_SPEC)
    return str(spec)


def write_aloha(folder: Path, num_files: int, picture: Callable[[], bytes]) -> str:
    """Compressed ALOHA episodes. Returns the spec."""
    folder.mkdir()
    for i in range(num_files):
        rng = np.random.default_rng(i)
        with h5py.File(folder / f"episode_{i}.hdf5", "w") as file:
            file.attrs["compress"] = True
            file["action"] = np.cumsum(rng.normal(size=(FRAMES, 14)), axis=0) / 100
            file["observations/qpos"] = np.cumsum(rng.normal(size=(FRAMES, 14)), axis=0) / 100
            file["observations/qvel"] = rng.normal(size=(FRAMES, 14))
            for camera in ("top", "cam_left_wrist"):
                images = [picture() for _ in range(FRAMES)]
                padded = np.zeros((FRAMES, max(map(len, images))), np.uint8)
                for row, data in zip(padded, images, strict=True):
                    row[: len(data)] = np.frombuffer(data, np.uint8)
                file.create_dataset(f"observations/images/{camera}", data=padded, chunks=(1, padded.shape[1]))
    return "aloha"


KINDS = {"RLDS": write_rlds, "HDF5": write_aloha}


def copy(source: Path, target: Path) -> None:
    """The least that an ingest must do: read, hash and write every byte."""
    target.mkdir()
    for i, path in enumerate(sorted(path for path in source.rglob("*") if path.is_file())):
        digest = hashlib.sha256()
        with path.open("rb") as file, (target / str(i)).open("wb") as out:
            while block := file.read(1 << 20):
                digest.update(block)
                out.write(block)
            out.flush()
            os.fsync(out.fileno())


def ingest(spec: str, source: Path, store: Path, workers: int = 0) -> None:
    report = run(load_spec(spec), source, store=store, name="bench", options=Options(workers=workers))
    assert not report.quarantined, report.quarantined[:1]


def pass_through(folder: Path, kind: str, spec: str, source: Path, repeats: int) -> None:
    methods = {"copy": copy, "ingest": lambda source, target: ingest(spec, source, target)}
    best = {name: (np.inf, np.inf) for name in methods}
    for _ in range(repeats):
        for name, method in methods.items():
            target = folder / "target"
            cpu, wall = time.process_time(), time.perf_counter()
            method(source, target)
            taken = time.process_time() - cpu, time.perf_counter() - wall
            best[name] = tuple(map(min, best[name], taken))
            shutil.rmtree(target)
    num_bytes = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    for name, (cpu, wall) in best.items():
        print(f"a  {kind}, {name:7} {num_bytes / cpu / 1e6:7.0f} MB/CPU s {num_bytes / wall / 1e6:7.0f} MB/s")
    shares = [best["copy"][i] / best["ingest"][i] for i in range(2)]
    print(
        f"a  {kind}: ingest at {shares[0]:.2f} of the rate of copying by CPU, {shares[1]:.2f} by time "
        "(goal 0.60)"
    )


def storage(kind: str, spec: str, source: Path, store: Path) -> None:
    ingest(spec, source, store)
    opened, images, tars = Store(store), 0, 0
    for path in (store / "shards").rglob("*.tar"):
        shard = open_robot_shard(opened, "bench", path.stem)
        sizes = shard.reader.index["size"].to_numpy()
        images += sum(int(sizes[shard.image_rows(camera)].sum()) for camera in shard.cameras)
        tars += path.stat().st_size
    print(f"d  {kind}: shards take {tars / images:.3f} of their encoded images (goal 1.10)")


def child(*arguments: object) -> dict[str, float]:
    """What a process of its own measures of one ingest."""
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])


def in_child(spec: str, source: str, store: str, workers: str) -> None:
    # Ray's processes become ours when their parents end, so that their CPU time is counted.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    ingest(spec, Path(source), Path(store), int(workers))
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in (own, others))
    print(json.dumps({"cpu": cpu, "peak": own.ru_maxrss * 1024}))


def worker_cpu(folder: Path, kind: str, spec: str, source: Path, repeats: int) -> None:
    best = {1: np.inf, 2: np.inf}
    for _ in range(repeats):
        for workers in best:
            best[workers] = min(best[workers], child(spec, source, folder / "target", workers)["cpu"])
            shutil.rmtree(folder / "target")
    one, two = best.values()
    print(f"b  {kind}: CPU s {one:.1f} with one worker, {two:.1f} with two: {two / one:.2f} (goal 1.15)")


def memory(folder: Path, num_bytes: int, picture: Callable[[], bytes]) -> None:
    num_files = max(4, round(num_bytes / 4 / (2 * FRAMES * IMAGE_BYTES)))
    small, large = folder / "small", folder / "large"
    spec = write_aloha(small, num_files, picture)
    large.mkdir()
    for repeat in range(4):
        for path in small.iterdir():
            os.link(path, large / f"{repeat}_{path.name}")
    peaks = []
    for source in (small, large):
        peaks.append(child(spec, source, folder / "target", 0)["peak"])
        shutil.rmtree(folder / "target")
    sizes = [sum(path.stat().st_size for path in source.iterdir()) for source in (small, large)]
    print(
        f"c  peak {peaks[0] / 1e6:.0f} MB over {sizes[0] / 1e6:.0f} MB, {peaks[1] / 1e6:.0f} MB over "
        f"{sizes[1] / 1e6:.0f} MB: {peaks[1] / peaks[0]:.2f} times (goal 1.1)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--memory-megabytes", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="abcd")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        in_child(*options.child)
        return
    rng, encode = np.random.default_rng(0), runpy.run_path(str(HERE / "loader.py"))["photographs"]()
    pictures = [encode(rng, SIZE, SIZE) for _ in range(200)]

    def picture() -> bytes:
        return pictures[rng.integers(len(pictures))]

    num_files = max(2, round(options.megabytes * 1e6 / (2 * FRAMES * IMAGE_BYTES)))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for kind, write in KINDS.items():
            source = folder / kind
            spec = write(source, num_files, picture)
            if "a" in options.only:
                pass_through(folder, kind, spec, source, options.repeats)
            if "b" in options.only:
                worker_cpu(folder, kind, spec, source, options.repeats)
            if "d" in options.only:
                storage(kind, spec, source, folder / f"{kind} store")
        if "c" in options.only:
            memory(folder, options.memory_megabytes * 1_000_000, picture)


if __name__ == "__main__":
    main()
