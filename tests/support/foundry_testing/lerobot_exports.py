"""Exported LeRobot datasets, read back with json, pyarrow and PyAV, and compared with their versions."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

import robot_foundry
from robot_foundry.export.outputs import LOCK
from robot_foundry.loader.robot.dataset import Dataset


class Exported:
    """A folder that an export wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info: dict[str, Any] = json.loads((folder / "meta/info.json").read_text())
        self.is_v3 = self.info["codebase_version"] == "v3.0"
        files = sorted(folder.glob("data/*/*.parquet"))
        self.data = pa.concat_tables(parquet.read_table(path) for path in files)
        self.episodes = self._episodes()

    def _episodes(self) -> list[dict[str, Any]]:
        if not self.is_v3:
            return self.lines("episodes")
        files = sorted(self.folder.glob("meta/episodes/*/*.parquet"))
        return [row for path in files for row in parquet.read_table(path).to_pylist()]

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / f"meta/{name}.jsonl").read_text().splitlines()]

    def column(self, name: str, episode: int) -> NDArray[Any]:
        rows = self.data.filter(pc.equal(self.data["episode_index"], episode))
        return np.array(rows[name].to_pylist())

    def tasks(self) -> list[str]:
        if not self.is_v3:
            return [row["task"] for row in self.lines("tasks")]
        table = parquet.read_table(self.folder / "meta/tasks.parquet").to_pydict()
        return [text for _, text in sorted(zip(table["task_index"], table["task"], strict=True))]

    def frames(self, episode: int, key: str) -> list[NDArray[np.uint8]]:
        """The frames of an episode in the video of a camera, by the times that LeRobot asks for."""
        row, fps = self.episodes[episode], self.info["fps"]
        numbers = {"episode_chunk": 0, "episode_index": episode}
        start = 0.0
        if self.is_v3:
            told = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
            numbers, start = told, row[f"videos/{key}/from_timestamp"]
            assert row[f"videos/{key}/to_timestamp"] - start == pytest.approx(row["length"] / fps, abs=1e-9)
        path = self.folder / self.info["video_path"].format(video_key=key, **numbers)
        with av.open(str(path)) as container:
            frames: Any = container.decode(video=0)
            shown = [(float(f.time or 0), f.to_ndarray(format="rgb24")) for f in frames]
        times_N = start + np.arange(row["length"]) / fps
        nearest = [min(shown, key=partial(_distance, t)) for t in times_N.tolist()]
        assert all(_distance(t, entry) < 1e-4 for entry, t in zip(nearest, times_N.tolist(), strict=True))
        return [entry[1] for entry in nearest]


def _distance(time_s: float, shown: tuple[float, NDArray[np.uint8]]) -> float:
    return abs(shown[0] - time_s)


def content(folder: Path) -> dict[str, bytes]:
    """All bytes of an export but the lock."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def came_back(store: Path, before: str, after: str) -> int:
    """Assert that `after`, ingested from an export of `before`, has its dims, rows, flags and texts; how many
    frames there are. Streams that `before` lacks are not looked at."""
    one: Dataset = robot_foundry.open(before, str(store))
    two: Dataset = robot_foundry.open(after, str(store))
    ids = {row["attributes"]["source_id"]: row["key"] for row in two.episodes().to_pylist()}
    assert sorted(ids) == sorted(one.episodes()["id"].to_pylist()) and len(one) == len(two)
    assert one.schema.embodiment == two.schema.embodiment and one.schema.fps == two.schema.fps
    for stream in ("state", *one.schema.streams):
        assert one.space(stream) == two.space(stream), stream
    for row in one.episodes().to_pylist():
        ours, theirs = one.episode(row["key"]), two.episode(ids[row["id"]])
        for name in ("state", *(f"action.{stream}" for stream in one.schema.streams), "flags"):
            assert ours.rows[name].dtype == theirs.rows[name].dtype
            assert np.array_equal(ours.rows[name], theirs.rows[name]), (row["id"], name)
        assert ours.success == theirs.success
        assert _texts(ours) == _texts(theirs)
    return len(two)


def _texts(episode: Any) -> list[tuple[str, int, int, str]]:
    return sorted((note["kind"], note["start"], note["end"], note["text"]) for note in episode.annotations)
