"""Rows of episodes, kept while a rollout goes on, so that one that was killed goes on where it was.

`episodes.jsonl`: a header that names all that decides the rows, then a row an episode, appended and made
durable group by group. Killed at any instant, the file holds whole rows and perhaps a part of one, which is
cut off by the next that opens it. A header of something else means that the rows are of no use: they go.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from robot_foundry.evaluation.rollouts.episode import RolloutEpisode
from robot_foundry.runtime.canonical import canonical_json, digest_of
from robot_foundry.runtime.durable import sync
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.killpoint import kill_point

ROWS = "episodes.jsonl"
FORMAT = 1


class KeptRows:
    """The rows in a folder of what `about` says; a context manager. One process at a time may write."""

    def __init__(self, folder: Path, about: Mapping[str, Any], *, again: bool = False) -> None:
        """With `again` rows that are there are forgotten.

        FoundryError where another process writes there.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / ROWS
        self._header = _header(about)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise FoundryError(
                f"another rollout writes to {self.path}", hint="wait for it, or give another --out"
            ) from error
        self.rows: dict[int, RolloutEpisode] = {}
        kept = 0 if again else self._read()
        os.ftruncate(self._file, kept)
        os.lseek(self._file, kept, os.SEEK_SET)
        if kept == 0:
            self._append([self._header])
            sync(folder)

    def __enter__(self) -> KeptRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def add(self, episodes: Sequence[RolloutEpisode]) -> None:
        """Keep them. When this returns they outlive a crash of the machine."""
        kill_point("rollout-rows")
        self._append([episode.to_row() for episode in episodes])
        kill_point("rollout-rows-kept")

    def _append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        data = b"".join(canonical_json(dict(row)) + b"\n" for row in rows)
        middle = len(data) // 2
        os.write(self._file, data[:middle])
        kill_point("rollout-rows-torn")
        os.write(self._file, data[middle:])
        os.fsync(self._file)

    def _read(self) -> int:
        """Take the whole rows from the file; how many bytes of it are of use."""
        self.rows, kept = _whole_rows(self.path.read_bytes(), self._header)
        return kept


def kept_rows(folder: Path, about: Mapping[str, Any]) -> dict[int, RolloutEpisode]:
    """The rows that a folder has of what `about` says, by their scenes; none where there is nothing."""
    try:
        data = (folder / ROWS).read_bytes()
    except FileNotFoundError:
        return {}
    return _whole_rows(data, _header(about))[0]


def _header(about: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, "key": digest_of(about), **about}


def _whole_rows(data: bytes, header: Mapping[str, Any]) -> tuple[dict[int, RolloutEpisode], int]:
    """The whole rows behind a header, and how many bytes they and it are."""
    rows: dict[int, RolloutEpisode] = {}
    lines = data.splitlines(keepends=True)
    if not lines or lines[0] != canonical_json(header) + b"\n":
        return rows, 0
    kept = len(lines[0])
    for line in lines[1:]:
        try:
            episode = RolloutEpisode.from_row(json.loads(line))
        except (ValueError, KeyError, TypeError):
            break
        if not line.endswith(b"\n"):
            break
        rows[episode.index] = episode
        kept += len(line)
    return rows, kept
