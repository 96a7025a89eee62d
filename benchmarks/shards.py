"""Reading members of a tar: our index and reader beside tarfile and webdataset, on the same tar in one run.

    python benchmarks/shards.py [--frames 2000] [--repeats 7]

The tar has frames of two cameras, JPEG of noise at 256 x 256 (27 kB each), in the page cache. Each method
reads every image, in tar order except where it says random; checksums are verified where the method can.
Time is CPU time of this process for one member, the least of the repeats, which take turns. Read the ratios:
absolute times depend on the machine and its load.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import webdataset

from robot_foundry.runtime.storage.storage import open_storage
from robot_foundry.shards.images import decode, encode_jpeg
from robot_foundry.shards.index import index_of_tar, read_index, write_index
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.robot.names import episode_json_name, image_name
from robot_foundry.shards.robot.shard import RobotShard
from robot_foundry.shards.tar import TarWriter

TAR, INDEX, EPISODE = "k.tar", "k.index.arrow", "demo_0-0123456789ab"


def write(folder: Path, num_frames: int) -> ShardReader:
    rng = np.random.default_rng(0)
    pictures = [encode_jpeg(rng.integers(60, 160, (256, 256, 3), dtype=np.uint8), 80) for _ in range(8)]
    storage = open_storage(folder)
    with storage.writer(TAR) as file:
        tar = TarWriter(file)
        for frame in range(num_frames):
            for number, camera in enumerate(("front", "wrist")):
                tar.add(image_name(EPISODE, frame, camera), pictures[(frame + number) % len(pictures)])
        tar.add(episode_json_name(EPISODE), b'{"num_frames":%d}' % num_frames)
        storage.write(INDEX, write_index(tar.close().members))
    return ShardReader(storage, TAR, read_index(storage, INDEX))


def methods(reader: ShardReader, path: Path) -> dict[str, Callable[[], int]]:
    """Each returns the number of bytes it read."""
    shard = RobotShard(reader)
    rows = np.sort(np.concatenate([shard.image_rows(camera) for camera in shard.cameras])).tolist()
    shuffled = np.random.default_rng(1).permutation(rows).tolist()

    def with_tarfile() -> int:
        with tarfile.open(path) as archive:
            files = (archive.extractfile(member) for member in archive if member.name.endswith(".jpg"))
            return sum(len(file.read()) for file in files if file)

    def with_webdataset() -> int:
        samples = webdataset.WebDataset(str(path), shardshuffle=False)
        return sum(
            len(sample[key]) for sample in samples for key in ("front.jpg", "wrist.jpg") if key in sample
        )

    def with_index(order: list[int]) -> Callable[[], int]:
        return lambda: sum(len(reader.read(row)) for row in order)

    return {
        "tarfile": with_tarfile,
        "webdataset": with_webdataset,
        "robot_foundry, tar order": with_index(rows),
        "robot_foundry, random": with_index(shuffled),
    }


def cpu_seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / TAR
        reader = write(Path(folder), options.frames)
        readers = methods(reader, path)
        members = 2 * options.frames
        if len({function() for function in readers.values()}) != 1:
            raise SystemExit("the methods did not read the same number of bytes")
        best = dict.fromkeys(readers, float("inf"))
        for _ in range(options.repeats):
            for name, function in readers.items():
                best[name] = min(best[name], cpu_seconds(function))
        ours = best["robot_foundry, tar order"]
        size = path.stat().st_size
        print(f"{members} images in a tar of {size / 1e6:.0f} MB")
        print(f"{'method':28}{'us a member':>12}{'ratio':>8}")
        for name, seconds in best.items():
            print(f"{name:28}{seconds / members * 1e6:12.1f}{seconds / ours:8.1f}")
        once = {
            "make the index from the tar": lambda: index_of_tar(io.BytesIO(path.read_bytes())),
            "open the index": lambda: read_index(reader.storage, INDEX),
            "resolve image rows": lambda: RobotShard(reader).image_rows("front"),
        }
        for name, function in once.items():
            seconds = min(cpu_seconds(function) for _ in range(options.repeats))
            print(f"{name:28}{seconds / members * 1e6:12.2f}")
        data, out = reader.read(0), np.empty((256, 256, 3), np.uint8)
        seconds = min(cpu_seconds(lambda: [decode(data, out) for _ in range(200)]) for _ in range(5)) / 200
        print(f"{'decode one image, for scale':28}{seconds * 1e6:12.1f}")


if __name__ == "__main__":
    main()
