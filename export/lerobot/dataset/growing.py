"""Files that take one episode after the other under a hidden name, and get their own when they are whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from robot_foundry.export.lerobot.dataset.layout import Layout
from robot_foundry.runtime.durable import sync


class Closing(Protocol):
    def close(self) -> None: ...


File = TypeVar("File", bound=Closing)


class Growing(Generic[File]):
    """The file that is open: of v3.0 it takes episodes until it is large, of v2.1 a single one.

    `path_of` gives the path of the file with a number, `opener` opens one for writing.
    """

    def __init__(
        self,
        folder: Path,
        layout: Layout,
        limit: int,
        path_of: Callable[[int], str],
        opener: Callable[[Path], File],
    ) -> None:
        self._folder, self._layout, self._limit = folder, layout, limit
        self._path_of, self._opener = path_of, opener
        self._file: File | None = None
        self.number = -1

    def next_file(self) -> File:
        """The file that the next episode goes into."""
        if self._file is not None and self._is_full():
            self.finish()
        if self._file is None:
            self.number += 1
            self._place.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._opener(hidden_name(self._place))
        return self._file

    def finish(self) -> None:
        """Close what is open, and give it its name."""
        if self._file is not None:
            self._file.close()
            self._file = None
            show(hidden_name(self._place), self._place)

    def drop(self) -> None:
        """Take away what is open."""
        if self._file is not None:
            self._file = None
            hidden_name(self._place).unlink(missing_ok=True)

    @property
    def _place(self) -> Path:
        return self._folder / self._path_of(self.number)

    def _is_full(self) -> bool:
        hidden = hidden_name(self._place)  # a video is not there before its encoder has given the first frame
        return not self._layout.is_v3 or (hidden.exists() and hidden.stat().st_size >= self._limit)


def hidden_name(place: Path) -> Path:
    """Where a file is written until it is whole."""
    return place.with_name(f".{place.name}.partial")


def show(hidden: Path, place: Path) -> None:
    """Give a whole file its name, durably."""
    sync(hidden)
    os.replace(hidden, place)
    sync(place.parent)
