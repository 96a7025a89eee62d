"""The files beside the data: info.json, the episodes, their texts and statistics, in both layouts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from robot_foundry.export.lerobot.dataset.features import Features
from robot_foundry.export.lerobot.dataset.layout import CHUNK, EPISODES_IN_FILE, Layout
from robot_foundry.export.lerobot.dataset.statistics import QUANTILES, Stats
from robot_foundry.export.lerobot.options import DATA_MB, VIDEO_MB

# What the table of episodes has of its own; so have all names with a "/".
RESERVED = ("episode_index", "tasks", "length", "dataset_from_index", "dataset_to_index")
_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
_PANDAS_TEXT = {"pandas_type": "unicode", "numpy_type": "object", "metadata": None}
_PANDAS_INT = {"pandas_type": "int64", "numpy_type": "int64", "metadata": None}


@dataclass(frozen=True)
class VideoSpan:
    """In which video of a camera an episode is, and which frame of it is its first."""

    file: int
    start: int


@dataclass(frozen=True)
class EpisodeEntry:
    """What the table of episodes says of one: `data` is the number of its file of data, `start` that of its
    first row of all rows; `attributes` are further columns, all JSON values."""

    index: int
    start: int
    length: int
    tasks: Sequence[str]
    data: int
    videos: Mapping[str, VideoSpan]
    stats: Mapping[str, Stats]
    attributes: Mapping[str, Any] = field(default_factory=dict)


def info_json(
    layout: Layout,
    features: Features,
    *,
    fps: float,
    robot_type: str | None,
    episodes: int,
    frames: int,
    tasks: int,
    splits: Mapping[str, tuple[int, int]],
    megabytes: tuple[float, float] = (DATA_MB, VIDEO_MB),
) -> dict[str, Any]:
    """meta/info.json; `splits` are first episode and end by name, `megabytes` the sizes of files of v3.0."""
    files: dict[str, Any] = (
        {"data_files_size_in_mb": megabytes[0], "video_files_size_in_mb": megabytes[1]}
        if layout.is_v3
        else {"total_videos": episodes * len(features.videos), "total_chunks": -(-episodes // CHUNK)}
    )
    return {
        "codebase_version": layout.version,
        "robot_type": robot_type,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": CHUNK,
        **files,
        "fps": int(fps) if fps == int(fps) else fps,
        "splits": {name: f"{start}:{end}" for name, (start, end) in splits.items()},
        "data_path": layout.data_template,
        "video_path": layout.video_template if features.videos else None,
        "features": features.to_json(),
    }


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """As LeRobot writes it."""
    path.write_text(json.dumps(values, indent=4, ensure_ascii=False), "utf-8")


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_texts(path: Path, texts: Sequence[str], name: str) -> None:
    """The texts of `task` or `subtask` as pandas writes a table whose index they are, which LeRobot needs."""
    number = f"{name}_index"
    about = {
        "index_columns": [name],
        "column_indexes": [
            {"name": None, "field_name": None, **_PANDAS_TEXT, "metadata": {"encoding": "UTF-8"}}
        ],
        "columns": [
            {"name": number, "field_name": number, **_PANDAS_INT},
            {"name": name, "field_name": name, **_PANDAS_TEXT},
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.3",
    }
    schema = pa.schema([(number, pa.int64()), (name, pa.string())], metadata={"pandas": json.dumps(about)})
    table = pa.table(
        [pa.array(range(len(texts)), pa.int64()), pa.array(list(texts), pa.string())], schema=schema
    )
    parquet.write_table(table, path)


def texts_lines(texts: Sequence[str], name: str) -> list[dict[str, Any]]:
    """The same as lines of v2.1."""
    return [{f"{name}_index": number, name: text} for number, text in enumerate(texts)]


def write_episodes(
    path: Path, entries: Sequence[EpisodeEntry], number: int, fps: float, attributes: pa.Schema
) -> None:
    """A file of the table of episodes of v3.0, with this number and the `attributes` of all episodes."""
    table = pa.Table.from_pylist([_row(entry, number, fps) for entry in entries])
    for field_ in attributes:
        values = [attribute_value(entry.attributes.get(field_.name), field_.type) for entry in entries]
        table = table.append_column(field_, pa.array(values, field_.type))
    parquet.write_table(table, path, compression="snappy", use_dictionary=True)


def is_reserved(name: str) -> bool:
    """Whether no attribute can be called so, because LeRobot's table of episodes has the name."""
    return name in RESERVED or "/" in name


def attributes_schema(entries: Sequence[EpisodeEntry]) -> pa.Schema:
    """The columns of what the episodes have as attributes, alike in all files; what is mixed is text."""
    fields = []
    for name in dict.fromkeys(key for entry in entries for key in entry.attributes):
        kinds = {type(entry.attributes.get(name)) for entry in entries} - {type(None)}
        if kinds:
            fields.append(
                pa.field(name, _TYPES.get(kinds.pop(), pa.string()) if len(kinds) == 1 else pa.string())
            )
    return pa.schema(fields)


def attribute_value(value: Any, type_: pa.DataType) -> Any:
    """The value as it fits the column: of a column of text, what is none as JSON."""
    is_foreign = pa.types.is_string(type_) and value is not None and not isinstance(value, str)
    return json.dumps(value, ensure_ascii=False) if is_foreign else value


def episodes_files(num_episodes: int) -> list[range]:
    """The episodes in each file of the table."""
    return [
        range(first, min(first + EPISODES_IN_FILE, num_episodes))
        for first in range(0, num_episodes, EPISODES_IN_FILE)
    ]


def episode_lines(entries: Iterable[EpisodeEntry]) -> Iterable[dict[str, Any]]:
    """The episodes as lines of v2.1."""
    for entry in entries:
        yield {
            "episode_index": entry.index, "tasks": list(entry.tasks), "length": entry.length,
            **entry.attributes,
        }  # fmt: skip


def stats_lines(entries: Iterable[EpisodeEntry]) -> Iterable[dict[str, Any]]:
    """Their statistics as lines of v2.1."""
    for entry in entries:
        yield {"episode_index": entry.index, "stats": {key: _sorted(of) for key, of in entry.stats.items()}}


def _row(entry: EpisodeEntry, number: int, fps: float) -> dict[str, Any]:
    row: dict[str, Any] = {
        "episode_index": entry.index,
        "tasks": list(entry.tasks),
        "length": entry.length,
        "data/chunk_index": entry.data // CHUNK,
        "data/file_index": entry.data % CHUNK,
        "dataset_from_index": entry.start,
        "dataset_to_index": entry.start + entry.length,
    }
    for key, span in entry.videos.items():
        row |= {
            f"videos/{key}/chunk_index": span.file // CHUNK,
            f"videos/{key}/file_index": span.file % CHUNK,
            f"videos/{key}/from_timestamp": span.start / fps,
            f"videos/{key}/to_timestamp": (span.start + entry.length) / fps,
        }
    for key, stats in entry.stats.items():
        row |= {f"stats/{key}/{name}": value for name, value in _sorted(stats).items()}
    return {**row, "meta/episodes/chunk_index": number // CHUNK, "meta/episodes/file_index": number % CHUNK}


def _sorted(stats: Stats) -> Stats:
    """In the order in which LeRobot has them."""
    return {name: stats[name] for name in ("min", "max", "mean", "std", "count", *QUANTILES)}
