"""Ingest of sources that hold JPEG, beside only reading, hashing and writing the same bytes; all in one run.

    python benchmarks/ingest.py [--megabytes 200] [--repeats 3] [--memory-megabytes 400]

a  pass-through: RLDS as DROID has it (300 frames of three cameras, JPEG at 180 x 320, about 20 kB, four
   episodes a file), and compressed HDF5 as ALOHA writes it (400 frames of three cameras at 480 x 640, JPEG of
   quality 50, about 34 kB).
   DROID is 1.7 TB (README of droid_policy_learning) of 27.6 million frames: 20.5 kB an image, 300 frames an
   episode; its 2048 files hold 45 episodes each. 400 frames and quality 50 are those of ACT's own writers
   (record_sim_episodes.py, compress_data.py); how large real ALOHA images are depends on what they show.
   `copy` reads each file in blocks, updates a SHA-256, writes and syncs. Ingest starts with nothing known of
   the source, in this process. CPU and elapsed seconds are the least of the repeats, which take turns.
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
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

import h5py
import numpy as np

from robot_foundry.catalog.robot.tars import open_robot_shard
from robot_foundry.catalog.store import Store
from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.spec.spec_files import load_spec

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from foundry_testing.photographs import photographs

PR_SET_CHILD_SUBREAPER = 36
RLDS_SPEC = """
name: rlds
layout: rlds
content: {fps: 10}
mapping:
  embodiment: arm
  cameras: {image_0: primary, image_1: secondary, image_2: wrist_right}
  state:
    right.ee_position: {key: steps/observation/state}
  actions:
    command:
      right.ee_position: {key: steps/action}
"""


def write_rlds(folder: Path, num_bytes: int) -> str:
    """A TFDS directory, serialised by tensorflow-datasets. Returns the spec."""
    from tensorflow_datasets.core import features as tfds

    picture, size, num_frames, cameras = photographs(180, 320, 88), (180, 320, 3), 300, 3
    image = tfds.Image(shape=size, encoding_format="jpeg")
    observation = {f"image_{i}": image for i in range(cameras)}
    observation["state"] = tfds.Tensor(shape=(3,), dtype=np.float32)
    step = {"observation": observation, "action": tfds.Tensor(shape=(3,), dtype=np.float32)}
    from foundry_testing.rlds_directories import Directory

    made = Directory(folder, {**step, "is_first": np.bool_})
    rng = np.random.default_rng(0)

    def episode() -> bytes:
        walk = np.cumsum(rng.normal(size=(num_frames, 3)), axis=0).astype(np.float32) / 100
        steps = [
            {
                "observation": {"state": row, **{f"image_{i}": picture() for i in range(cameras)}},
                "action": row,
                "is_first": t == 0,
            }
            for t, row in enumerate(walk)
        ]
        return made.record(steps)

    records = [episode()]
    while len(records) * len(records[0]) < num_bytes:
        records.append(episode())
    made.write("train", *(records[i : i + 4] for i in range(0, len(records), 4)))
    spec = folder.parent / "rlds.yaml"
    spec.write_text(RLDS_SPEC)
    return str(spec)


def write_aloha(folder: Path, num_bytes: int) -> str:
    """Compressed ALOHA episodes. Returns the spec."""
    picture, num_frames, written = photographs(480, 640, 50), 400, 0
    folder.mkdir()
    for i in count():
        path, rng = folder / f"episode_{i}.hdf5", np.random.default_rng(i)
        with h5py.File(path, "w") as file:
            file.attrs["compress"] = True
            for name in ("action", "observations/qpos", "observations/qvel"):
                file[name] = np.cumsum(rng.normal(size=(num_frames, 14)), axis=0) / 100
            for camera in ("cam_high", "cam_left_wrist", "cam_right_wrist"):
                images = [picture() for _ in range(num_frames)]
                padded = np.zeros((num_frames, max(map(len, images))), np.uint8)
                for row, data in zip(padded, images, strict=True):
                    row[: len(data)] = np.frombuffer(data, np.uint8)
                place = f"observations/images/{camera}"
                file.create_dataset(place, data=padded, chunks=(1, padded.shape[1]))
        written += path.stat().st_size
        if written >= num_bytes:
            return "aloha"
    raise AssertionError


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
    # Not ru_maxrss, which starts from what the parent had.
    status = Path("/proc/self/status").read_text()
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
    print(json.dumps({"cpu": cpu, "peak": peak}))


def worker_cpu(folder: Path, kind: str, spec: str, source: Path, repeats: int) -> None:
    best = {1: np.inf, 2: np.inf}
    for _ in range(repeats):
        for workers in best:
            best[workers] = min(best[workers], child(spec, source, folder / "target", workers)["cpu"])
            shutil.rmtree(folder / "target")
    one, two = best.values()
    print(f"b  {kind}: CPU s {one:.1f} with one worker, {two:.1f} with two: {two / one:.2f} (goal 1.15)")


def memory(folder: Path, num_bytes: int) -> None:
    small, large = folder / "small", folder / "large"
    spec = write_aloha(small, num_bytes // 4)
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
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for kind, write in KINDS.items():
            source = folder / kind
            spec = write(source, options.megabytes * 1_000_000) if set(options.only) & set("abd") else ""
            if "a" in options.only:
                pass_through(folder, kind, spec, source, options.repeats)
            if "b" in options.only:
                worker_cpu(folder, kind, spec, source, options.repeats)
            if "d" in options.only:
                storage(kind, spec, source, folder / f"{kind} store")
        if "c" in options.only:
            memory(folder, options.memory_megabytes * 1_000_000)


if __name__ == "__main__":
    main()
