"""Ingest of LeRobot videos beside only decoding and encoding the same frames, in one run.

    python benchmarks/streams_video.py [--frames 600] [--repeats 3] [--source FOLDER] [--memory-frames 2000]

a  frames a second of `ingest lerobot` over those of a bare loop of PyAV (`to_ndarray`, FFmpeg's fast
   conversion) and simplejpeg at the same quality, on one core; the goal is 0.70. A video of 480 x 640 at
   30 Hz, smooth noise that moves, shows episodes of 150 frames in turn, as AV1 and as H.264; --source takes
   a dataset in its place. The least elapsed and CPU seconds of the repeats, which take turns.
b  peak resident memory of a process that ingests such a video, and one four times as long.

Read the ratios: absolute figures depend on the machine and its load.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import simplejpeg
from pyarrow import parquet

from robot_foundry.ingest.engine import run

FPS, HEIGHT, WIDTH, EPISODE, KEY = 30, 480, 640, 150, "observation.images.top"
CODECS = {
    "av1": ("libsvtav1", {"crf": "30", "preset": "12", "g": "2", "svtav1-params": "lp=2"}),
    "h264": ("libx264", {"crf": "23", "preset": "ultrafast", "g": "30"}),
}
MEASURED = "import sys, resource; from robot_foundry.ingest.engine import run; \
run('lerobot', sys.argv[1], store=sys.argv[2], name='made'); \
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def pictures(count: int) -> Callable[[int], Any]:
    """Frames that move over smooth noise, whose power falls with frequency as in photographs."""
    side = 1024
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]) + 1 / side
    spectrum = rng.normal(size=(3, *frequency.shape)) / frequency**1.5
    noise = np.moveaxis(np.fft.irfft2(spectrum, (side, side)), 0, -1)
    canvas = (128 + 50 * noise / noise.std()).clip(0, 255).astype(np.uint8)

    def picture(frame: int) -> Any:
        down, across = frame * 3 % (side - HEIGHT), frame * 5 % (side - WIDTH)
        return np.ascontiguousarray(canvas[down : down + HEIGHT, across : across + WIDTH])

    return picture


def write(folder: Path, num_frames: int, codec: str) -> None:
    """A dataset of version 3.0: one video, one file of data."""
    video = folder / f"videos/{KEY}/chunk-000/file-000.mp4"
    for path in (video, folder / "data/chunk-000/x", folder / "meta/episodes/chunk-000/x"):
        path.parent.mkdir(parents=True)
    picture, (encoder, options) = pictures(num_frames), CODECS[codec]
    with av.open(str(video), "w") as container:
        stream: Any = container.add_stream(encoder, rate=Fraction(FPS))
        stream.height, stream.width, stream.pix_fmt, stream.options = HEIGHT, WIDTH, "yuv420p", options
        for number in range(num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), "rgb24")))
        container.mux(stream.encode())
    frames = np.arange(num_frames)
    numbers = pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(frames, 6).astype(np.float32)), 6)
    columns = {"observation.state": numbers, "action": numbers, "frame_index": pa.array(frames % EPISODE)}
    columns |= {"timestamp": pa.array((frames % EPISODE / FPS).astype(np.float32))}
    columns |= {"episode_index": pa.array(frames // EPISODE), "task_index": pa.array(frames * 0)}
    parquet.write_table(pa.table(columns), folder / "data/chunk-000/file-000.parquet")
    starts = range(0, num_frames, EPISODE)
    rows = [
        {
            "episode_index": n, "length": min(EPISODE, num_frames - start),
            f"videos/{KEY}/chunk_index": 0, f"videos/{KEY}/file_index": 0,
            f"videos/{KEY}/from_timestamp": start / FPS,
            f"videos/{KEY}/to_timestamp": min(start + EPISODE, num_frames) / FPS,
        }
        for n, start in enumerate(starts)
    ]  # fmt: skip
    parquet.write_table(pa.Table.from_pylist(rows), folder / "meta/episodes/chunk-000/file-000.parquet")
    lists = {"dtype": "float32", "shape": [6]}
    features = {
        "observation.state": lists,
        "action": lists,
        KEY: {"dtype": "video", "shape": [HEIGHT, WIDTH, 3]},
    }
    info = {"codebase_version": "v3.0", "fps": FPS, "features": features}
    (folder / "meta/info.json").write_text(json.dumps(info))


def bare(folder: Path) -> int:
    """Decode and encode every frame of every video. How many there were."""
    count = 0
    for path in sorted(folder.rglob("*.mp4")):
        with av.open(str(path)) as container:
            container.streams.video[0].thread_count = 1
            for frame in container.decode(video=0):
                pixels = frame.to_ndarray(format="rgb24")
                simplejpeg.encode_jpeg(pixels, 95, "RGB", colorsubsampling="420", fastdct=False)
                count += 1
    return count


def ingest(folder: Path) -> int:
    with tempfile.TemporaryDirectory() as store:
        return int(run("lerobot", folder, store=store, name="made").counts["frames"])


def rates(folder: Path, repeats: int, what: str) -> None:
    best: dict[str, list[float]] = {}
    frames = {}
    for _ in range(repeats):
        for act in (bare, ingest):
            elapsed, cpu = time.perf_counter(), time.process_time()
            frames[act.__name__] = act(folder)
            spent = [time.perf_counter() - elapsed, time.process_time() - cpu]
            best[act.__name__] = [
                min(pair) for pair in zip(best.get(act.__name__, spent), spent, strict=True)
            ]
    if frames["bare"] != frames["ingest"]:
        taken = f"{frames['ingest']} of {frames['bare']} frames were taken"
        print(f"a  {what}: {taken}, so the rates are not comparable")
    ratios = [a / b for a, b in zip(best["bare"], best["ingest"], strict=True)]
    each = [1000 * best[name][0] / frames[name] for name in ("bare", "ingest")]
    print(
        f"a  {what}: {frames['ingest']} frames, bare {each[0]:.2f} ms, ingest {each[1]:.2f} ms a frame; "
        f"ratio of the rates {ratios[0]:.2f} elapsed, {ratios[1]:.2f} of CPU"
    )


def memory(folder: Path, num_frames: int) -> None:
    peaks = []
    for factor in (1, 4):
        source = folder / f"memory_{factor}"
        write(source, num_frames * factor, "h264")
        size = sum(path.stat().st_size for path in source.rglob("*.mp4"))
        arguments = [sys.executable, "-c", MEASURED, str(source), str(folder / f"store_{factor}")]
        done = subprocess.run(arguments, check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout.split()[-1]) / 1024)
        video = f"video of {size / 1e6:.0f} MB, {num_frames * factor} frames"
        print(f"b  {video}: {peaks[-1]:.0f} MiB resident at most")
    print(f"b  ratio {peaks[1] / peaks[0]:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--memory-frames", type=int, default=2000, help="0: without b")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for codec in () if given.source else CODECS:
            write(folder / codec, given.frames, codec)
        sources = [given.source] if given.source else [folder / codec for codec in CODECS]
        for source in sources:
            rates(source, given.repeats, source.name)
        if given.memory_frames:
            memory(folder, given.memory_frames)


if __name__ == "__main__":
    main()
