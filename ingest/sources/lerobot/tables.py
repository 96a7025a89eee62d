"""The tables beside info.json: which episodes there are, and the texts of tasks.

2.x has them as JSON lines, 3.0 as parquet; what is there decides, not the version that info.json states.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from robot_foundry.ingest.sources.base import GIT_LFS, Refused
from robot_foundry.ingest.sources.formats.parquet_file import DAMAGE
from robot_foundry.ingest.sources.lerobot.json_meta import POINTER, json_lines, whole

EPISODES, EPISODES_FOLDER = "meta/episodes.jsonl", "meta/episodes/"
# Columns of the table of episodes that say where things lie, or repeat statistics of the data.
_OF_PLACES = ("stats/", "data/", "videos/", "meta/", "data_", "dataset_from_index", "dataset_to_index")
_OF_VIDEOS = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")


@dataclass(frozen=True)
class Span:
    """Where a video of several episodes shows one: numbers of the file, seconds of first frame and end."""

    chunk: int
    file: int
    start_s: float | None
    end_s: float | None


@dataclass(frozen=True)
class Listed:
    """An episode as the tables tell it; `length` is None where they do not, `attributes` are JSON values."""

    length: int | None
    attributes: Mapping[str, Any]
    spans: Mapping[str, Span] = field(default_factory=dict)  # by video feature


@dataclass(frozen=True)
class Episodes:
    """By number. `table` names the place in messages, `damage` is (place, reason) of what cannot be read."""

    table: str
    listed: Mapping[int, Listed]
    damage: tuple[tuple[str, str], ...] = ()


def read_episodes(files: Mapping[str, bytes]) -> Episodes | None:
    """From the metadata by path; None if there is no table. Refused if it is damaged as a whole."""
    tables = sorted(name for name in files if name.startswith(EPISODES_FOLDER))
    if tables:
        rows = (
            (f"{name} row {n}", _unflattened(row))
            for name in tables
            for n, row in enumerate(_rows(files[name], name, is_wanted=_is_of_episodes))
        )
        return _episodes(EPISODES_FOLDER.rstrip("/"), rows)
    if EPISODES not in files:
        return None
    lines = ((f"line {n} of {EPISODES}", row) for n, row in json_lines(files[EPISODES], EPISODES))
    return _episodes(EPISODES, lines)


def read_texts(files: Mapping[str, bytes], name: str) -> dict[int, str]:
    """The texts of tasks or subtasks by number; none if there is no table of that name."""
    index, table = f"{name.removesuffix('s')}_index", f"meta/{name}.parquet"
    if table in files:
        rows: Iterable[dict[str, Any] | None] = _rows(files[table], table, is_wanted=lambda column: True)
    elif f"meta/{name}.jsonl" in files:
        rows = (row for _, row in json_lines(files[f"meta/{name}.jsonl"], f"meta/{name}.jsonl"))
    else:
        return {}
    texts: dict[int, str] = {}
    for row in rows:
        number = None if row is None else whole(row.get(index))
        if row is None or number is None:
            continue
        # The text is a column or the index of a pandas table, under whatever name.
        text = row.get(name.removesuffix("s"), next((v for v in row.values() if isinstance(v, str)), None))
        if isinstance(text, str):
            texts.setdefault(number, text)
    return texts


def _episodes(table: str, rows: Iterable[tuple[str, dict[str, Any] | None]]) -> Episodes:
    listed: dict[int, Listed] = {}
    damage: list[tuple[str, str]] = []
    for place, row in rows:
        number = None if row is None else whole(row.get("episode_index"))
        if row is None or number is None:
            damage.append((place, "it is no object with an episode_index"))
        elif number in listed:
            damage.append((place, f"it lists episode {number} once more"))
        else:
            listed[number] = _listed(row)
    return Episodes(table, listed, tuple(damage))


def _listed(row: Mapping[str, Any]) -> Listed:
    attributes = {
        str(name): value
        for name, value in row.items()
        if name not in ("episode_index", "length") and not str(name).startswith(_OF_PLACES)
    }
    return Listed(whole(row.get("length")), attributes, row.get("videos/", {}))


def _is_of_episodes(column: str) -> bool:
    return not column.startswith(("stats/", "meta/"))


def _unflattened(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its columns `videos/<key>/<what>` as spans by key."""
    by_key: dict[str, dict[str, Any]] = {}
    for column, value in row.items():
        key, _, what = column.removeprefix("videos/").rpartition("/")
        if column.startswith("videos/") and what in _OF_VIDEOS:
            by_key.setdefault(key, {})[what] = value
    spans = {}
    for key, told in by_key.items():
        chunk, file = whole(told.get("chunk_index")), whole(told.get("file_index"))
        if chunk is not None and file is not None:
            spans[key] = Span(
                chunk, file, _seconds(told.get("from_timestamp")), _seconds(told.get("to_timestamp"))
            )
    return {**row, "videos/": spans}


def _seconds(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 1e9 else None


def _rows(content: bytes, name: str, *, is_wanted: Any) -> Iterator[dict[str, Any]]:
    from pyarrow import parquet

    if content.startswith(GIT_LFS):
        raise Refused(f"{name}: {POINTER}")
    try:
        with parquet.ParquetFile(io.BytesIO(content)) as file:
            columns = [column for column in file.schema_arrow.names if is_wanted(column)]
            table: pa.Table = file.read(columns=columns, use_threads=False)
            yield from table.to_pylist()
    except DAMAGE as error:
        raise Refused(f"{name} is no whole parquet file: {' '.join(str(error).split())[:200]}") from error
