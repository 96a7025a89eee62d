"""Rows of episodes, kept while a rollout goes on, so that one that was killed goes on where it was.

`episodes.jsonl`: a header that names all that decides the rows, then a row an episode, appended and made
durable group by group. Each row holds a digest of itself, but those of older versions. Killed at any instant,
the file holds whole rows and perhaps a part of one; from the first that is not what was written, rows are cut
off by the next that opens it. A header of something else means that the rows are of no use: they go, and a
FoundryWarning says so.
"""

from __future__ import annotations

import fcntl
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from robot_foundry.evaluation.rollouts.episode import RolloutEpisode
from robot_foundry.runtime.canonical import canonical_json, digest_of
from robot_foundry.runtime.durable import sync
from robot_foundry.runtime.errors import FoundryError, FoundryWarning
from robot_foundry.runtime.killpoint import kill_point

ROWS = "episodes.jsonl"
FORMAT = 1
DIGEST = "digest"
LONGEST = 40  # characters of a setting that is told


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
        rows = [episode.to_row() for episode in episodes]
        self._append([row | {DIGEST: digest_of(row)} for row in rows])
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
        data = self.path.read_bytes()
        self.rows, kept = _whole_rows(data, self._header)
        if kept == 0 and (lost := max(len(data.splitlines()) - 1, 0)):
            rows = "1 row" if lost == 1 else f"{lost} rows"
            told = f"{rows} in {self.path} of other settings give way: {_unlike(data, self._header)}"
            warnings.warn(told, FoundryWarning, stacklevel=4)
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
            episode = _episode(json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError):
            break
        if not line.endswith(b"\n"):
            break
        rows[episode.index] = episode
        kept += len(line)
    return rows, kept


def _episode(row: dict[str, Any]) -> RolloutEpisode:
    digest = row.pop(DIGEST, None)
    if digest is not None and digest != digest_of(row):
        raise ValueError("the row is not what was written")
    return RolloutEpisode.from_row(row)


def _unlike(data: bytes, header: Mapping[str, Any]) -> str:
    """Which settings in the header of rows are not those of `header`: "spec.seed was 3 and is 4"."""
    try:
        there = dict(leaves(json.loads(data.splitlines()[0])))
    except (ValueError, RecursionError):
        return "their header is torn"
    wanted = dict(leaves(json.loads(canonical_json(dict(header)))))
    names = [name for name in {**there, **wanted} if there.get(name) != wanted.get(name) and name != "key"]
    return ", ".join(
        change(name, there.get(name, "not said"), wanted.get(name, "not said")) for name in names
    )


def change(name: str, was: Any, now: Any) -> str:
    """A setting that is not the same, for people."""
    short = len(f"{was}{now}") <= 2 * LONGEST
    return f"{name} was {was} and is {now}" if short else f"{name} is another"


def leaves(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested objects by their paths with dots."""
    if not isinstance(values, dict):
        yield path, values
        return
    for name, value in values.items():
        yield from leaves(value, f"{path}.{name}" if path else name)
