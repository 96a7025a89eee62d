"""Robots' logs: pictures out of ROS bags, beside what the library beneath needs for the same.

    python benchmarks/streams.py [--only abcd] [--seconds 120] [--repeats 5] [--memory-megabytes 500 2000]

a  an MCAP file of a camera (CompressedImage: JPEG of quality 80 at 480 x 640, about 60 kB, 30 Hz) and of
   seven joints (JointState, 100 Hz): from the bag to frames with their JPEG, all streams matched, beside the
   messages of the same file as rosbags gives them without decoding any. Stored, as ros2 bag record writes it,
   and in chunks of zstd.
b  the same with Image (rgb8) in place of CompressedImage, a tenth as long: to frames with their pixels; then
   with the JPEG that ingest makes of them, beside rosbags and the same encoder.
c  for scale: the whole ingest of the stored bags of a and b, which also hashes the source and writes.
d  peak resident memory of a process that ingests a bag of rgb8, and a larger one, stored and in chunks of
   zstd; `--memory-megabytes 500 5000` is the full setting.

Bags are in the page cache. CPU and elapsed seconds are the least of the repeats, which take turns.
Read the ratios: absolute figures depend on the machine and its load.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapReader

from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.sources import SourceFile
from robot_foundry.ingest.sources.ros.ros import Ros
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime import files
from robot_foundry.shards.images import decode, encode_jpeg

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from foundry_testing.photographs import photographs
from foundry_testing.ros_bags import ROS2, Sent, compressed, joints, message_of, rgb

CAMERA_HZ, JOINTS_HZ, JOINTS = 30, 100, [f"joint_{number}" for number in range(7)]
HEIGHT, WIDTH = 480, 640
QUALITY = 95  # of an ingest that is told nothing
SPEC = f"""
layout: ros
content:
  ros:
    rate: {CAMERA_HZ}
    cameras: {{front: {{topic: /camera}}}}
    streams: {{joints: {{topic: /joint_states, field: position, names: [{", ".join(JOINTS)}]}}}}
mapping:
  embodiment: arm
  cameras: {{front: primary}}
  instruction: {{text: wave}}
  state: {{right.joint_position: {{key: joints}}}}
  actions: {{next_state: {{right.joint_position: {{from: next_state}}}}}}
"""


Methods = dict[str, Callable[[], int]]


def sent(pictures: Iterator[Any], seconds: float, make: Callable[[str, float, Any], Sent]) -> Iterator[Sent]:
    """What camera and joints send, in order of time."""
    next_picture = 0
    for number in range(round(seconds * JOINTS_HZ)):
        at = number / JOINTS_HZ
        while next_picture / CAMERA_HZ <= at:
            yield make("/camera", next_picture / CAMERA_HZ, next(pictures))
            next_picture += 1
        yield joints("/joint_states", at, {name: np.sin(at + i) for i, name in enumerate(JOINTS)})


def write_bag(place: Path, messages: Iterator[Sent], *, is_zstd: bool = False) -> Path:
    """A bag of messages in order of time, none of which is held. Returns its only file."""
    writer = Writer(place, version=9, storage_plugin=StoragePlugin.MCAP)
    if is_zstd:
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    connections: dict[str, Any] = {}
    with writer:
        for message in messages:
            if message.topic not in connections:
                added = writer.add_connection(message.topic, message.type, typestore=ROS2)
                connections[message.topic] = added
            raw = ROS2.serialize_cdr(message_of(ROS2, message), message.type)
            writer.write(connections[message.topic], message.received_ns, raw)
    return next(place.glob("*.mcap"))


def jpegs() -> list[bytes]:
    """More than a chunk of 1 MiB holds, so that zstd does not find one again in it."""
    picture = photographs(HEIGHT, WIDTH, 80)
    return list(dict.fromkeys(picture() for _ in range(400)))


def with_rosbags(path: Path) -> int:
    reader = McapReader(path)
    reader.open()
    count = sum(connection.topic == "/camera" for connection, _, _ in reader.messages(reader.connections))
    reader.close()
    return count


def with_reader(path: Path, spec: Any, *, encode: bool = False) -> int:
    """Frames of the bag with their pictures, as ingest reads them."""
    status = files.status(str(path.parent), path.name)
    file = SourceFile(str(path.parent), path.name, status.size, status.stamp, "")
    reader, count = Ros(), 0
    units, _ = reader.list_units(file, spec.content)
    with reader.open(units[0], spec.content) as episode:
        for (picture,) in episode.frames:
            assert picture is not None
            if encode:
                encode_jpeg(picture, QUALITY)
            count += 1
    return count


def least(methods: Methods, repeats: int) -> dict[str, tuple[float, float, int]]:
    """CPU and elapsed seconds of each, and what it counted."""
    best = dict.fromkeys(methods, (np.inf, np.inf, 0))
    for _ in range(repeats):
        for name, method in methods.items():
            cpu, wall = time.process_time(), time.perf_counter()
            count = method()
            taken = time.process_time() - cpu, time.perf_counter() - wall
            best[name] = min(best[name][0], taken[0]), min(best[name][1], taken[1]), count
    return best


def compare(letter: str, what: str, methods: Methods, repeats: int, goal: str = "") -> None:
    """Print the pictures a second of two methods, and the rate of the second over that of the first."""
    best = least(methods, repeats)
    for name, (cpu, wall, count) in best.items():
        print(f"{letter}  {what}, {name:24} {count / cpu:8.0f} pictures/CPU s {count / wall:8.0f} pictures/s")
    theirs, ours = best.values()
    shares = [theirs[i] / ours[i] * ours[2] / theirs[2] for i in range(2)]
    print(f"{letter}  {what}: {shares[0]:.2f} of the rate by CPU, {shares[1]:.2f} by time{goal}")


def bags(folder: Path, options: argparse.Namespace, spec_file: Path) -> None:
    spec, encoded = load_spec(spec_file), jpegs()
    pixels = [decode(data) for data in encoded]
    if "a" in options.only:
        for kind in ("stored", "zstd"):
            messages = sent(cycle(encoded), options.seconds, compressed)
            path = write_bag(folder / kind, messages, is_zstd=kind == "zstd")
            methods = {
                "rosbags": lambda p=path: with_rosbags(p),
                "reader": lambda p=path: with_reader(p, spec),
            }
            compare("a", f"CompressedImage, {kind}", methods, options.repeats, " (goal 0.60)")
    if "b" in options.only:
        path = write_bag(folder / "rgb8", sent(cycle(pixels), options.seconds / 10, rgb))

        def and_encoder() -> int:
            count = with_rosbags(path)
            for _, picture in zip(range(count), cycle(pixels), strict=False):
                encode_jpeg(picture, QUALITY)
            return count

        reading = {"rosbags": partial(with_rosbags, path), "reader": partial(with_reader, path, spec)}
        compare("b", "Image, pixels", reading, options.repeats, " (goal 0.60)")
        encoding = {
            "rosbags and encoder": and_encoder,
            "reader and encoder": lambda: with_reader(path, spec, encode=True),
        }
        compare("b", "Image, JPEG", encoding, options.repeats)
    if "c" in options.only:
        for kind in ("stored", "rgb8"):
            if (folder / kind).exists():
                whole_ingest(folder, kind, spec_file)


def whole_ingest(folder: Path, kind: str, spec_file: Path) -> None:
    source, store = folder / kind, folder / "store"
    cpu, wall = time.process_time(), time.perf_counter()
    run(load_spec(spec_file), source, store=store, name="bench", options=Options(workers=0))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    size = sum(path.stat().st_size for path in source.iterdir()) / 1e6
    print(f"c  ingest of {kind}: {size / cpu:.0f} MB/CPU s, {size / wall:.0f} MB/s")
    shutil.rmtree(store)


def in_child(spec_file: str, source: str, store: str) -> None:
    run(load_spec(spec_file), source, store=store, name="bench", options=Options(workers=0))
    # Not ru_maxrss, which starts from what the parent had.
    status = Path("/proc/self/status").read_text()
    print(int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024)


def memory(folder: Path, spec_file: Path, megabytes: list[int], *, is_zstd: bool) -> None:
    pixels = [decode(data) for data in jpegs()]
    peaks, sizes = [], []
    for size in megabytes:
        seconds = size * 1e6 / (HEIGHT * WIDTH * 3) / CAMERA_HZ
        path = write_bag(folder / "long", sent(cycle(pixels), seconds, rgb), is_zstd=is_zstd)
        sizes.append(path.stat().st_size)
        arguments = [str(spec_file), str(path.parent), str(folder / "store")]
        printed = subprocess.check_output([sys.executable, __file__, "--child", *arguments])
        peaks.append(int(printed.splitlines()[-1]))
        shutil.rmtree(folder / "store")
        shutil.rmtree(folder / "long")
    kind = "zstd" if is_zstd else "stored"
    told = [f"{peak / 1e6:.0f} MB over {size / 1e6:.0f} MB" for peak, size in zip(peaks, sizes, strict=True)]
    print(f"d  {kind}: peak {', '.join(told)}: {peaks[1] / peaks[0]:.2f} times (goal 1.1)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--memory-megabytes", type=int, nargs=2, default=[500, 2000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="abcd")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        in_child(*options.child)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        spec_file = folder / "arm.yaml"
        spec_file.write_text(SPEC)
        if set(options.only) & set("abc"):
            bags(folder, options, spec_file)
        if "d" in options.only:
            for is_zstd in (False, True):
                memory(folder, spec_file, options.memory_megabytes, is_zstd=is_zstd)


if __name__ == "__main__":
    main()
