"""Frames of a video file through PyAV (FFmpeg), which the extra `video` installs.

H.264 decodes to the same numbers everywhere. The step to RGB is asked to be exact too, because FFmpeg's fast
one depends on the processor. Versions of the libraries enter the shard key (`codec_versions`).

Legend: H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.runtime.errors import UsageError
from robot_foundry.shards.images import MAX_PIXELS

DECIDING = ("libavcodec", "libavformat", "libswscale")


@dataclass(frozen=True)
class Video:
    """A video file, called `name` in messages, as its headers tell it."""

    path: Path
    name: str
    height: int
    width: int
    num_frames: int

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """uint8 RGB [H, W, 3] of each frame as they are shown. Refused where one is damaged."""
        av = av_package()
        count = 0
        try:
            with av.open(str(self.path)) as container:
                stream = container.streams.video[0]
                stream.thread_count = 1  # ingest runs a process a core
                rgb_of = rgb_converter()
                for frame in container.decode(stream):
                    yield rgb_of(frame)
                    count += 1
        except (av.FFmpegError, OSError, ValueError) as error:
            raise damaged(self.name, error, f" near frame {count}") from error


def codec_versions() -> dict[str, str]:
    """Versions of all that decides decoded pixels."""
    versions = av_package().library_versions
    return {name: ".".join(map(str, versions[name])) for name in DECIDING}


@contextmanager
def video_stream(path: Path, name: str) -> Iterator[tuple[Any, Any, int, int]]:
    """The open file, its first video, and height and width of that. Refused if it is no video, or if what is
    read of it meanwhile is damaged."""
    av = av_package()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise Refused(f"'{name}' holds no video")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise Refused(f"nothing decodes the video '{name}'")
            height, width = stream.codec_context.height, stream.codec_context.width
            if not 0 < height * width <= MAX_PIXELS:
                raise Refused(f"the images of its video '{name}' have {height} x {width} pixels")
            yield container, stream, height, width
    except (av.FFmpegError, OSError, ValueError) as error:
        raise damaged(name, error) from error


def open_video(path: Path, name: str) -> Video:
    """What the headers say; frames are counted without decoding them. Refused if it is no video."""
    with video_stream(path, name) as (container, stream, height, width):
        num_frames = stream.frames or sum(packet.size > 0 for packet in container.demux(stream))
    return Video(path, name, height, width, num_frames)


def rgb_converter() -> Callable[[Any], NDArray[np.uint8]]:
    """What makes uint8 RGB [H, W, 3] of the decoded frames of one video, to the same numbers everywhere.

    It keeps what it computes for a size, so that one is made for all frames.
    """
    from av.video.reformatter import Interpolation, VideoReformatter

    exact = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    flags, reformatter = exact | Interpolation.FULL_CHR_H_INT, VideoReformatter()

    def convert(frame: Any) -> NDArray[np.uint8]:
        rgb: Any = reformatter.reformat(frame, format="rgb24", interpolation=flags, threads=1)
        pixels_HW3: NDArray[np.uint8] = rgb.to_ndarray()
        return pixels_HW3

    return convert


def damaged(name: str, error: Exception, where: str = "") -> Refused:
    """What is said of a video that cannot be read, by what the decoder says, but for where this copy lies."""
    reason = str(getattr(error, "strerror", None) or error)
    return Refused(f"its video '{name}' cannot be read{where}: {' '.join(reason.split())}")


def av_package() -> ModuleType:
    """PyAV. UsageError if it is not installed."""
    try:
        import av
    except ImportError:
        raise UsageError(
            "this source has videos, and the package that decodes them is not installed",
            hint="pip install 'robot-foundry[video]'",
        ) from None
    return av
