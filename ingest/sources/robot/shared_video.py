"""A video file that stays open while spans of its frames are asked for one after the other.

One file may show several episodes in turn: it is decoded once, from its first frame to its last, whatever
episodes it is cut into. Frames are known by their times, so that a span starts where it is said to.

Legend: H W pixels, M frames of the file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.base import GIT_LFS, Refused
from robot_foundry.ingest.sources.robot.planes import planes_of
from robot_foundry.ingest.sources.robot.source_episode import Planar
from robot_foundry.ingest.sources.robot.video import av_package, damaged, rgb_converter, video_stream

# Files that stay open, of which one recording shows a few cameras at once.
MOST_OPEN = 8
_BOX = 8
# Where a video that is written as it is recorded holds its index, and one that was cut off does not.
_INDEX, _FRAGMENT = b"moov", b"moof"


@dataclass(frozen=True)
class Times:
    """What a file says of its frames without decoding them: seconds since the first one, as they are shown.

    `pts_M` are the same in the file's own unit, `keys_M` says from which frames decoding may begin.
    """

    height: int
    width: int
    seconds_M: NDArray[np.float64]
    pts_M: NDArray[np.int64]
    keys_M: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.pts_M)

    def at(self, second: float, tolerance_s: float) -> int:
        """The number of the first frame that is not before this time, but for the tolerance."""
        return bisect_left(self.seconds_M, second - tolerance_s)


class SharedVideo:
    """An open file, called `name` in messages. Refused if it is none that can be decoded."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self.times = _times(path, name)
        self._rgb_of = rgb_converter()
        self._container: Any = None
        self._decoded: Iterator[Any] = iter(())
        self._next = len(self.times)  # the number of the frame that the decoder gives next

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def frames(self, first: int, count: int, *, planar: bool = False) -> Iterator[NDArray[np.uint8] | Planar]:
        """Frames from number `first` on as uint8 RGB [H, W, 3]; if `planar`, as planes where JPEG has such.

        Refused where one is damaged or missing.
        """
        av = av_package()
        done = 0
        try:
            self._go_to(av, first)
            while done < count:
                frame = next(self._decoded, None)
                if frame is None:
                    raise Refused(f"its video '{self._name}' ends after {done} of {count} frames")
                number = self._number(frame)
                self._next = number + 1
                if number < first + done:
                    continue
                if number > first + done:
                    raise Refused(f"its video '{self._name}' lacks the frame {first + done}")
                yield (planes_of(frame) if planar else None) or self._rgb_of(frame)
                done += 1
        except (av.FFmpegError, OSError, ValueError) as error:
            self._next = len(self.times)
            raise damaged(self._name, error, f" near frame {first + done}") from error

    def _number(self, frame: Any) -> int:
        return self._next if frame.pts is None else bisect_left(self.times.pts_M, frame.pts)

    def _go_to(self, av: Any, first: int) -> None:
        """Have the decoder give the frame, or one before it: it goes on, or jumps to a nearer key frame."""
        if self._container is None:
            self._container = av.open(str(self._path))
            self._container.streams.video[0].thread_count = 1  # ingest runs a process a core
        stream = self._container.streams.video[0]
        (keys,) = np.nonzero(self.times.keys_M[: first + 1])
        key = int(keys[-1]) if keys.size else 0
        if key <= self._next <= first:
            return
        self._container.seek(int(self.times.pts_M[key]), stream=stream, backward=True)
        self._decoded, self._next = self._container.decode(stream), key


_open: OrderedDict[tuple[str, int, str], SharedVideo] = OrderedDict()


def shared_video(path: Path, size: int, stamp: str, name: str) -> SharedVideo:
    """The file, open already if one of the last ones asked for in this process. Refused as `SharedVideo`."""
    key = str(path), size, stamp
    video = _open.pop(key, None) or SharedVideo(path, name)
    _open[key] = video
    while len(_open) > MOST_OPEN:
        _open.popitem(last=False)[1].close()
    return video


def _times(path: Path, name: str) -> Times:
    _check_whole(path, name)
    with video_stream(path, name) as (container, stream, height, width):
        packets = [
            (packet.pts, bool(packet.is_keyframe))
            for packet in container.demux(stream)
            if packet.size > 0 and packet.pts is not None and not packet.is_discard
        ]
        unit_s = float(stream.time_base)
    packets.sort()
    pts_M = np.array([pts for pts, _ in packets], np.int64)
    seconds_M = np.asarray((pts_M - pts_M[:1]) * unit_s, np.float64)
    return Times(height, width, seconds_M, pts_M, np.array([is_key for _, is_key in packets], bool))


def _check_whole(path: Path, name: str) -> None:
    """Refused for a pointer in place of the file, and for an mp4 without the index that is written last."""
    with path.open("rb") as file:
        head = file.read(len(GIT_LFS))
        if head == GIT_LFS:
            raise Refused(
                f"its video '{name}' is a Git LFS pointer and not the video, which `git lfs pull` would fetch"
            )
        file.seek(0)
        boxes: set[bytes] = set()
        with suppress(OverflowError):
            while len(box := file.read(_BOX)) == _BOX:
                size, kind = int.from_bytes(box[:4]), box[4:]
                if not boxes and kind != b"ftyp":
                    return  # of another container, which the decoder judges
                boxes.add(kind)
                skip = size - _BOX
                if size == 1:
                    skip = int.from_bytes(file.read(8)) - 2 * _BOX
                if size == 0 or skip < 0 or not kind.isalnum():
                    break
                file.seek(skip, 1)
    if boxes and not {_INDEX, _FRAGMENT} & boxes:
        raise Refused(f"its video '{name}' has no index (moov), as one whose recording was cut off")
