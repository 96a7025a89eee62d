"""Opening large datasets: time and memory to the first batch, and where they go.

    python benchmarks/scale.py [--frames 1e7 1e8 1e9]

A store is generated for each size: shards of 12,500 frames in 32 episodes, one instruction an episode, with
manifest, episodes and annotations as ingest writes them. All shards have the same rows, and only the frames
tables that the first batches read are there, as links to one file; there are no tars. What is measured is
`load` of low-dim windows and the first of its batches of 256, in a process of its own, with the files in the
page cache and one thread. Each line tells the seconds that passed and those that this process worked, which
differ on a busy machine; the most that was resident so far, mapped files included; and what is not of files.

What bends next: of a version with S shards and E episodes, as they are here,

    manifest    345 B · S on disk, 1.4 kB · S in memory once it is read: 28 and 116 MB for 80,000 shards
    tables      130 B · E of episodes and 95 B · E of annotations: mapped, and read once to be proven
    arrays      60 B · E in a loader: hash, start, length, rate and step of each episode, its instructions
    frames      100 B a frame of those shards, 256 at most, that a loader has open: mapped

Each is linear in time, too. The manifest bends first: ten times as many shards take about 10 s of work.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from robot_foundry.catalog.kind import kind_named
from robot_foundry.catalog.manifest import Manifest, ShardEntry, TableFile, commit, count_names
from robot_foundry.catalog.mixture import make_mixture
from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.robot.schema import Schema
from robot_foundry.catalog.robot.tables import (
    ANNOTATIONS_SCHEMA,
    EPISODES_SCHEMA,
    LEAVES_SCHEMA,
    frames_schema,
)
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.table_file import MeasuredFile
from robot_foundry.catalog.tables import matrix_column, save_table, table_digest, write_table
from robot_foundry.loader.load import load
from robot_foundry.loader.order import Order
from robot_foundry.normalization.rotation import axis_angle_to_matrix, matrix_to_rot6d
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.windows.window import WindowSpec

T = TypeVar("T")
NAME, BATCH, SEED = "large", 256, 0
POSE = ActionSpace(["right.ee_position", "right.ee_rot6d", "right.gripper_opening"])
LENGTHS = [400] * 31 + [100]  # frames of the episodes of each shard
FRAMES = sum(LENGTHS)
WINDOW = WindowSpec(history=2, cameras=())
LINKED_ROWS = 64 * BATCH  # more than a loader plans ahead


def generate(folder: Path, num_frames: int) -> None:
    """A store of about this many frames."""
    rng = np.random.default_rng(SEED)
    store, num_shards = Store(folder), max(1, num_frames // FRAMES)
    shard_keys, tar_hashes = (hexadecimal(rng, num_shards, digits) for digits in (32, 64))
    frames = frames_table(rng)
    data = write_table(frames)
    episodes = episodes_table(rng, num_shards)
    tables = {"episodes": episodes, "annotations": annotations_table(rng, episodes["key"], num_shards),
              "leaves": LEAVES_SCHEMA.empty_table()}  # fmt: skip
    written = {name: save(folder / f"{name}.arrow", table) for name, table in tables.items()}
    named = [f"frames/{key}" for key in shard_keys]
    of_frames, file = table_digest(frames), TableFile.of(data)
    manifest = Manifest(
        NAME,
        "0" * 32,
        Schema(POSE.dims, {"next_state": POSE.dims}, (), "panda", 20.0),
        "robot",
        tuple(
            ShardEntry(key, tar_hash, 10 * len(data), len(LENGTHS), FRAMES)
            for key, tar_hash in zip(shard_keys, tar_hashes, strict=True)
        ),
        dict.fromkeys(named, of_frames) | {name: table_digest(table) for name, table in tables.items()},
        dict.fromkeys(count_names(kind_named("robot")), 0)
        | {"episodes": episodes.num_rows, "frames": num_shards * FRAMES},
        files=dict.fromkeys(named, file) | written,
    )
    version = commit(store, manifest)
    for name in tables:
        os.rename(folder / f"{name}.arrow", local(store, store.table(NAME, version.version_id, name)))
    one = folder / "frames.arrow"
    one.write_bytes(data)
    opened = make_mixture(store, {NAME: 1})
    sample_n = Order(opened.mixture, seed=SEED).at(np.arange(LINKED_ROWS))[2]
    for ordinal in np.unique(opened.parts[0].select().locate(sample_n)[0]).tolist():
        path = local(store, store.table(NAME, version.version_id, f"frames/{shard_keys[ordinal]}"))
        path.parent.mkdir(exist_ok=True)
        os.link(one, path)


def local(store: Store, path: str) -> Path:
    place = store.storage.local_path(path)
    assert place is not None
    return place


def save(path: Path, table: pa.Table) -> TableFile:
    with path.open("wb") as file:
        measured = MeasuredFile(file)
        save_table(table.combine_chunks(), measured)
        return measured.measured()


def hexadecimal(rng: np.random.Generator, count: int, digits: int) -> list[str]:
    text = rng.bytes(count * digits // 2).hex()
    return [text[begin : begin + digits] for begin in range(0, len(text), digits)]


def frames_table(rng: np.random.Generator) -> pa.Table:
    frame_N = np.concatenate([np.arange(length) for length in LENGTHS])
    values_ND = rng.normal(size=(FRAMES, len(POSE))).astype(np.float32)
    values_ND[:, 3:9] = matrix_to_rot6d(axis_angle_to_matrix(rng.normal(size=(FRAMES, 3))))
    columns = {
        "episode": np.repeat(np.arange(len(LENGTHS)), LENGTHS),
        "frame": frame_N,
        "timestamp": frame_N / 20.0,
        "flags": np.zeros(FRAMES, np.uint32),
        "state": matrix_column(values_ND),
        "action.next_state": matrix_column(np.roll(values_ND, -1, axis=0)),
    }
    return pa.table(columns).cast(frames_schema(len(POSE), {"next_state": len(POSE)}))


def episodes_table(rng: np.random.Generator, num_shards: int) -> pa.Table:
    """Names, sources and attributes as long as those of public datasets."""
    number, count = len(LENGTHS), num_shards * len(LENGTHS)
    length_E = np.tile(np.array(LENGTHS, np.int32), num_shards)
    ids = joined("demo_", np.tile(np.arange(number), num_shards))
    columns = {
        "shard": np.repeat(np.arange(num_shards, dtype=np.int32), number),
        "episode": np.tile(np.arange(number, dtype=np.int32), num_shards),
        "key": joined("", np.arange(count) + 10**11, "-", rng.integers(10**11, 10**12, count)),
        "id": ids,
        "row_start": np.tile(np.cumsum(LENGTHS) - LENGTHS, num_shards),
        "num_frames": length_E,
        "fps": np.full(count, 20.0),
        "duration_s": length_E / 20.0,
        "success": rng.random(count) < 0.9,
        "source": joined("session-", np.repeat(np.arange(num_shards), number), "/demo.hdf5"),
        "split_hash": rng.integers(0, 2**64, count, dtype=np.uint64),
        "attributes": joined('{"operator":', rng.integers(0, 100, count), "}"),
    }
    return pa.table(columns).cast(EPISODES_SCHEMA)


def annotations_table(rng: np.random.Generator, keys: pa.ChunkedArray, num_shards: int) -> pa.Table:
    count = len(keys)
    columns = {
        "key": keys,
        "start": np.zeros(count, np.int32),
        "end": np.tile(np.array(LENGTHS, np.int32), num_shards),
        "kind": pa.repeat("instruction", count),
        "text": joined("put object ", rng.integers(0, 5000, count), " into the drawer"),
        "source": pa.repeat("spec", count),
    }
    return pa.table(columns).cast(ANNOTATIONS_SCHEMA)


def joined(*parts: str | NDArray[np.int64]) -> pa.Array:
    """Text and numbers, one behind the other."""
    texts = [part if isinstance(part, str) else pa.array(part).cast(pa.string()) for part in parts]
    return pc.binary_join_element_wise(*texts, "")


def measure(folder: Path) -> dict[str, Any]:
    """Seconds of each stage, waited and of work, and megabytes after it, up to the first batch."""
    stages: dict[str, tuple[float, float, float, float]] = {}
    versions = OpenVersions(Store(folder))

    def timed(name: str, stage: Callable[[], T]) -> T:
        start = time.perf_counter(), time.process_time()
        result = stage()
        seconds = time.perf_counter() - start[0], time.process_time() - start[1]
        stages[name] = (*seconds, megabytes("VmHWM"), megabytes("RssAnon"))
        return result

    timed("imports", lambda: None)
    opened = timed("manifest, parsed and checked", lambda: versions.open(NAME))
    timed("episodes, proven", lambda: opened.table("episodes"))
    timed("annotations, proven", lambda: opened.table("annotations"))
    timed("selection of the split", opened.select)
    mixture = timed("mixture", lambda: make_mixture(versions, {NAME: 1}))
    loader = timed("loader", lambda: load(mixture, WINDOW, seed=SEED, global_batch=BATCH, threads=0))
    timed("first batch", lambda: next(loader))
    loader.close()
    return {
        "shards": len(opened.manifest.shards),
        "episodes": opened.manifest.num_groups,
        "frames": opened.manifest.num_samples,
        "stages": stages,
        "sizes": {path.stem: path.stat().st_size for path in folder.glob("datasets/*/*/*.*")},
    }


def megabytes(what: str) -> float:
    """Of this process, as the kernel says."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{what}:"))) / 1e3


def show(measured: dict[str, Any], generated_s: float) -> None:
    stages, shards, episodes = measured["stages"], measured["shards"], measured["episodes"]
    waited, worked = (sum(stage[i] for stage in stages.values()) for i in (0, 1))
    _, _, peak, held = stages["first batch"]
    print(
        f"{measured['frames']:.3g} frames, {episodes:,} episodes, {shards:,} shards "
        f"(generated in {generated_s:.0f} s): first batch after {waited:.2f} s ({worked:.2f} s of work), "
        f"peak {peak:,.0f} MB"
    )
    print_stages(stages)
    per_shard = measured["sizes"]["manifest"] / shards
    episode, annotation = (measured["sizes"][name] / episodes for name in ("episodes", "annotations"))
    parsed = stages["manifest, parsed and checked"][3]
    objects = 1e6 * (parsed - stages["imports"][3]) / shards
    print(
        f"    manifest: {per_shard:.0f} B a shard on disk, {objects:,.0f} B in memory; tables: {episode:.0f} "
        f"and {annotation:.0f} B an episode; arrays: {1e6 * (held - parsed) / episodes:.0f} B an episode\n"
    )


def print_stages(stages: Mapping[str, Sequence[float]]) -> None:
    """A line a stage: seconds, seconds of work, and the peaks of memory up to its end in MB."""
    for name, (seconds, work, so_far, own) in stages.items():
        print(
            f"    {name:30} {seconds:7.3f} s {work:7.3f} s of work "
            f"  peak {so_far:6,.0f} MB, not of files {own:6,.0f} MB"
        )


def measure_sizes(
    script: str,
    description: str | None,
    option: str,
    *,
    generate: Callable[[Path, int], None],
    measure: Callable[[Path], dict[str, Any]],
    show: Callable[[dict[str, Any], float], None],
) -> None:
    """Generate a store of each size that `option` asks for, and measure it in a process of its own."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = parser.add_argument(option, type=float, nargs="+", default=[1e7, 1e8, 1e9]).dest
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.measure)))
        return
    for size in getattr(options, sizes):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            generate(Path(folder), int(size))
            generated_s = time.perf_counter() - start
            command = [sys.executable, script, "--measure", folder]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            show(json.loads(told.stdout), generated_s)


if __name__ == "__main__":
    measure_sizes(__file__, __doc__, "--frames", generate=generate, measure=measure, show=show)
