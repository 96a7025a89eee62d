"""LeRobot datasets that tests write with pyarrow and PyAV, in the layouts 2.0, 2.1 and 3.0.

Each frame is of one shade, which tells its episode and number. Legend: N frames, d numbers of a row.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

from robot_foundry.export.lerobot.dataset.scheduling import unchanged_scheduling

FPS, HEIGHT, WIDTH = 10, 64, 96
CAMERA = "observation.images.top"
TASKS = ("push the block", "lift the block")
CODECS = {"h264": "libx264", "av1": "libsvtav1"}


def shade(episode: int, frame: int) -> int:
    """What the frame shows, further apart than codecs blur."""
    return 20 + (episode * 70 + frame * 10) % 220


@dataclass
class Recording:
    """`columns` are [N, d] by feature, `texts` extra columns of text, `numbers` extra ones of one number."""

    columns: dict[str, NDArray[Any]]
    task: int = 0
    extra: dict[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def length(self) -> int:
        return len(next(iter(self.columns.values())))


def recordings(lengths: Sequence[int] = (5, 8, 4), width: int = 3) -> list[Recording]:
    rng = np.random.default_rng(4)
    return [
        Recording(
            {
                "observation.state": rng.normal(size=(length, width)).astype(np.float32),
                "action": rng.normal(size=(length, width)).astype(np.float32),
            },
            task=number % 2,
        )
        for number, length in enumerate(lengths)
    ]


def write_video(path: Path, shades: Sequence[int], codec: str = "h264", fps: int = FPS) -> None:
    """One shade a frame; the first frame alone is a key frame of H.264."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with unchanged_scheduling(), av.open(str(path), "w") as container:
        stream: Any = container.add_stream(CODECS[codec], rate=Fraction(fps))
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.options = (
            {"crf": "10"} if codec == "h264" else {"crf": "20", "preset": "12", "svtav1-params": "lp=1"}
        )
        for level in shades:
            frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), level, np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def png(level: int) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), level, np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def write_dataset(
    folder: Path,
    made: Sequence[Recording] | None = None,
    *,
    version: str = "v3.0",
    images: str = "video",
    codec: str = "h264",
    names: Any = None,
    **info: Any,
) -> list[Recording]:
    """The dataset of these episodes; `images` are a video, an embedded image or none. Gives the episodes."""
    episodes = list(made or recordings())
    is_v3 = version.startswith("v3")
    starts = np.cumsum([0, *(episode.length for episode in episodes)]).tolist()
    tables = [_table(episode, number, starts[number], images) for number, episode in enumerate(episodes)]
    shades = [[shade(n, frame) for frame in range(episode.length)] for n, episode in enumerate(episodes)]
    if is_v3:
        place = folder / "data/chunk-000/file-000.parquet"
        place.parent.mkdir(parents=True)
        with parquet.ParquetWriter(place, tables[0].schema) as writer:
            for table in tables:
                writer.write_table(table)
    for number, table in () if is_v3 else enumerate(tables):
        place = folder / f"data/chunk-000/episode_{number:06d}.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, place)
    if images == "video" and is_v3:
        write_video(folder / f"videos/{CAMERA}/chunk-000/file-000.mp4", sum(shades, []), codec)
    for number, levels in enumerate(shades) if images == "video" and not is_v3 else ():
        write_video(folder / f"videos/chunk-000/{CAMERA}/episode_{number:06d}.mp4", levels, codec)
    features = {
        name: {"dtype": str(values.dtype), "shape": list(values.shape[1:]) or [1], "names": names}
        for name, values in episodes[0].columns.items()
    }
    if images != "none":
        features[CAMERA] = {
            "dtype": images,
            "shape": [HEIGHT, WIDTH, 3],
            "names": ["height", "width", "channels"],
        }
    meta = {
        "codebase_version": version,
        "robot_type": "so101",
        "fps": FPS,
        "features": features,
        "total_episodes": len(episodes),
        "total_frames": starts[-1],
        "splits": {"train": f"0:{len(episodes)}"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        **info,
    }
    (folder / "meta").mkdir(parents=True)
    write_json(folder / "meta/info.json", meta)
    (_tables_v3 if is_v3 else _tables_v2)(folder / "meta", episodes, starts, has_video=images == "video")
    return episodes


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values))


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _table(episode: Recording, number: int, start: int, images: str) -> pa.Table:
    length = episode.length
    columns: dict[str, Any] = {}
    for name, values in episode.columns.items():
        rows = pa.array(values.reshape(-1))
        columns[name] = pa.FixedSizeListArray.from_arrays(rows, values.shape[1]) if values.ndim == 2 else rows
    if images == "image":
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns[CAMERA] = pa.array(
            [{"bytes": png(shade(number, n)), "path": None} for n in range(length)], kind
        )
    return pa.table(
        {
            **columns,
            "timestamp": pa.array(np.arange(length, dtype=np.float32) / FPS),
            "frame_index": pa.array(range(length), pa.int64()),
            "episode_index": pa.array([number] * length, pa.int64()),
            "index": pa.array(range(start, start + length), pa.int64()),
            "task_index": pa.array([episode.task] * length, pa.int64()),
            **{name: pa.array(list(values)) for name, values in episode.extra.items()},
        }
    )


def _tables_v2(meta: Path, episodes: Sequence[Recording], starts: Sequence[int], *, has_video: bool) -> None:
    write_lines(
        meta / "episodes.jsonl",
        [{"episode_index": n, "tasks": [TASKS[e.task]], "length": e.length} for n, e in enumerate(episodes)],
    )
    write_lines(meta / "tasks.jsonl", [{"task_index": n, "task": task} for n, task in enumerate(TASKS)])


def _tables_v3(meta: Path, episodes: Sequence[Recording], starts: Sequence[int], *, has_video: bool) -> None:
    rows = []
    for number, episode in enumerate(episodes):
        start, end = starts[number], starts[number + 1]
        row = {
            "episode_index": number, "tasks": [TASKS[episode.task]], "length": episode.length,
            "data/chunk_index": 0, "data/file_index": 0, "dataset_from_index": start, "dataset_to_index": end,
        }  # fmt: skip
        if has_video:
            told = {
                "chunk_index": 0,
                "file_index": 0,
                "from_timestamp": start / FPS,
                "to_timestamp": end / FPS,
            }
            row |= {f"videos/{CAMERA}/{name}": value for name, value in told.items()}
        rows.append(row)
    (meta / "episodes/chunk-000").mkdir(parents=True)
    parquet.write_table(pa.Table.from_pylist(rows), meta / "episodes/chunk-000/file-000.parquet")
    # As pandas writes a table whose index is the text.
    table = {"task_index": list(range(len(TASKS))), "__index_level_0__": list(TASKS)}
    parquet.write_table(pa.table(table), meta / "tasks.parquet")
