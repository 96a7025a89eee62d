"""What every source layout offers to the engine.

Legend: N frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.spec import Content
from robot_foundry.runtime.errors import FoundryError


class Refused(FoundryError):
    """A unit of the source cannot be read; the message is the reason, in one sentence. The rest goes on."""


@dataclass(frozen=True)
class SourceFile:
    """A file of the source: `path` is relative to `root` and '/'-separated, `sha256` is of its content.

    `size` and `modified_ns` are what it had when it was hashed.
    """

    root: str
    path: str
    size: int
    modified_ns: int
    sha256: str

    @property
    def location(self) -> Path:
        return Path(self.root) / self.path

    def check_unchanged(self) -> None:
        """FoundryError if the file is no longer the one that was hashed."""
        status = self.location.stat()
        if (status.st_size, status.st_mtime_ns) != (self.size, self.modified_ns):
            raise FoundryError(
                f"{self.path} changed while it was ingested", hint="run the same command when it is complete"
            )


@dataclass(frozen=True)
class Unit:
    """One episode of a source.

    `key` names it in the tar, `num_bytes` is what it will take there, by estimate. `alone` is False for an
    episode in a file that holds several.
    """

    file: SourceFile
    episode: str
    key: str
    num_bytes: int
    alone: bool

    @property
    def name(self) -> str:
        return f"{self.file.path}#{self.episode}"


@dataclass(frozen=True)
class Camera:
    """`array` is where the frames lie in the source."""

    name: str
    array: str
    height: int
    width: int


@dataclass(frozen=True)
class Episode:
    """One open episode. `arrays` are the low-dimensional arrays as they are; images come from `frames`.

    `attributes` belong to the episode, `environment` to its file; both hold JSON values. `left_out` says for
    each array that is not taken why. `start_ns` is the time of the first frame since the epoch, if known.
    """

    num_frames: int
    fps: float
    fps_source: str
    start_ns: int | None
    cameras: Sequence[Camera]
    arrays: Mapping[str, NDArray[Any]]
    attributes: Mapping[str, Any]
    environment: Mapping[str, Any]
    left_out: Mapping[str, str]
    frames: Iterator[Sequence[NDArray[np.uint8]]]  # of each frame, the image of each camera, uint8 [H, W, 3]


class Layout(Protocol):
    """`version` is raised whenever the reader takes other bytes from the same source."""

    name: str
    version: int
    has_images: bool

    def claims(self, path: Path) -> bool:
        """Whether a file of a folder is one of this layout's; others are passed over."""
        ...

    def list_units(self, file: SourceFile, content: Content) -> tuple[list[Unit], list[tuple[str, str]]]:
        """The episodes in the file in the source's own order, and (unit name, reason) of each refused one.

        Raises Refused if the file as a whole cannot be read.
        """
        ...

    def open(self, unit: Unit, content: Content) -> AbstractContextManager[Episode]:
        """Open an episode for one pass. Raises Refused, here or while frames are read."""
        ...
