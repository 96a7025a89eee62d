"""What layouts of robot data offer: episodes, each opened for one pass from its first frame to its last.

Legend: N frames, H W pixels.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import Data, Layout, Unit
from robot_foundry.ingest.sources.robot.robot_layout import RobotLayout

# A text, or {"base64": …} for bytes that are not UTF-8, whose encoding only a spec can tell.
Text = str | dict[str, str]


def text_of(data: Data) -> Text:
    """The text in UTF-8, else its bytes."""
    try:
        return bytes(data).decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


@dataclass(frozen=True)
class SourceCamera:
    """`array` is where the frames lie in the source; `pixels` how, where they are not uint8 RGB [H, W, 3]."""

    name: str
    array: str
    height: int
    width: int
    pixels: str | None = None


@dataclass(frozen=True)
class Encoded:
    """An image as the source holds it; `format` is jpeg or png. It goes into the tar untouched.

    `size` is (height, width) if the layout has looked at the header, and found it to be of this format.
    """

    data: Data
    format: str
    size: tuple[int, int] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Planar:
    """Pixels as a JPEG of 4:2:0 holds them, see `shards.images.encode_jpeg_planes`."""

    planes: tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.planes[0].shape
        return height, width


# Pixels uint8 RGB [H, W, 3], or those of a JPEG to be, where the spec changes none; or what the source holds;
# or None where the camera has no image at that frame.
Picture = NDArray[np.uint8] | Planar | Encoded | None


@dataclass(frozen=True)
class SourceEpisode:
    """One open episode. `arrays` are the low-dimensional arrays as they are; images come from `frames`.

    `attributes` belong to the episode, `environment` to its file; both hold JSON values. `left_out` says for
    each array that is not taken why, `remarks` what the user should know of one. `start_ns` is the time of
    the first frame since the epoch, if known. `steps_text` is language of spans of frames: (start, end
    (exclusive), kind, text).
    """

    num_frames: int
    fps: float
    fps_source: str
    start_ns: int | None
    cameras: Sequence[SourceCamera]
    arrays: Mapping[str, NDArray[Any]]
    attributes: Mapping[str, Any]
    environment: Mapping[str, Any]
    left_out: Mapping[str, str]
    frames: Iterable[Sequence[Picture]]  # of each frame, the image of each camera
    steps_text: Sequence[tuple[int, int, str, Text]] = ()
    remarks: Mapping[str, str] = field(default_factory=dict)


class EpisodeLayout(Layout, Protocol):
    """A layout of episodes."""

    declared: ClassVar[RobotLayout]

    def codecs(self, content: Content) -> dict[str, str]:
        """Versions of what decides the pixels that are read, where the source does not hold them itself."""
        return {}

    def open(self, unit: Unit, content: Content) -> AbstractContextManager[SourceEpisode]:
        """Open an episode for one pass. Raises Refused, here or while frames are read."""
        ...
