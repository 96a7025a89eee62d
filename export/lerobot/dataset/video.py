"""Videos through PyAV (the extra `video`), as LeRobot makes them: every second frame is a key frame.

One thread and fixed settings, and a conversion of colours that does not depend on the processor, so that
equal frames give equal bytes with equal versions of the encoders.

Legend: H W pixels.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.export.lerobot.dataset.scheduling import unchanged_scheduling
from robot_foundry.export.lerobot.options import CODECS
from robot_foundry.runtime.errors import FoundryError, UsageError

KEY_FRAME_EVERY, CRF, SVT_PRESET, PIXELS = 2, 30, 12, "yuv420p"
# So that hours of a video stay within LeRobot's 0.1 ms of the frames' times; 29.97 is still 2997/100.
LARGEST_DENOMINATOR = 10**6


class VideoFile:
    """A video that is being written to `path`, of whatever ending, as mp4; a context manager.

    Left by an error it is not finished, and the file is no video.
    """

    def __init__(self, path: Path | io.BytesIO, codec: str, fps: float, size: tuple[int, int]) -> None:
        """FoundryError where the codec cannot take frames of `size` (H, W) pixels."""
        self._av, self._size = av_package(), size
        os.environ.setdefault("SVT_LOG", "1")  # errors alone: it tells its settings on stderr else
        self.num_frames = 0
        target = path if isinstance(path, io.BytesIO) else str(path)
        self._container: Any = self._av.open(target, "w", format="mp4")
        stream: Any = self._container.add_stream(CODECS[codec], rate=rate_of(fps), options=_options(codec))
        stream.height, stream.width, stream.pix_fmt = (*size, PIXELS)
        stream.thread_count = 1
        self._stream, self._yuv_of = stream, _yuv_converter()

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._container.close()

    def add(self, rgb_HW3: NDArray[np.uint8]) -> None:
        """The next frame, uint8 RGB. FoundryError for one of another size."""
        if rgb_HW3.shape != (*self._size, 3) or rgb_HW3.dtype != np.uint8:
            raise FoundryError(
                f"a frame is {rgb_HW3.dtype} of {rgb_HW3.shape}, its video {self._size[0]} x {self._size[1]}"
            )
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb_HW3), "rgb24")
        frame = self._yuv_of(frame)
        frame.pts, frame.time_base = self.num_frames, 1 / self._stream.average_rate
        with nullcontext() if self.num_frames else unchanged_scheduling():  # the first opens the encoder
            packets = self._stream.encode(frame)
        self._container.mux(packets)
        self.num_frames += 1

    def close(self) -> None:
        """Write what the encoder still holds, and the index."""
        self._container.mux(self._stream.encode())
        self._container.close()


def check_codec(codec: str, fps: float, size: tuple[int, int], camera: str) -> None:
    """UsageError where frames of (H, W) pixels cannot be encoded, found by encoding two of them."""
    try:
        with VideoFile(io.BytesIO(), codec, fps, size) as video:
            for _ in range(2):
                video.add(np.zeros((*size, 3), np.uint8))
    except (OSError, ValueError, av_package().FFmpegError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{codec} takes no frames of {size[0]} x {size[1]} pixels, which '{camera}' has: {reason}",
            hint="--images keeps them as images, and another --codec may take them",
        ) from error


def rate_of(fps: float) -> Fraction:
    """The rate as a fraction that a video can count by."""
    return Fraction(fps).limit_denominator(LARGEST_DENOMINATOR)


def video_info(codec: str, fps: float, size: tuple[int, int]) -> dict[str, Any]:
    """What LeRobot tells of a video in info.json."""
    return {
        "video.height": size[0],
        "video.width": size[1],
        "video.codec": codec,
        "video.pix_fmt": PIXELS,
        "video.is_depth_map": False,
        "video.fps": int(fps) if fps == int(fps) else fps,
        "video.channels": 3,
        "has_audio": False,
    }


def encoder_versions(codec: str) -> dict[str, str]:
    """Versions of all that decides the bytes of a video; PyAV's stands for the encoder that it carries."""
    av = av_package()
    libraries = ("libavcodec", "libavformat", "libswscale")
    versions = {name: ".".join(map(str, av.library_versions[name])) for name in libraries}
    return {"codec": CODECS[codec], "pyav": av.__version__, **versions}


def av_package() -> ModuleType:
    """PyAV. UsageError if it is not installed."""
    try:
        import av
    except ImportError:
        raise UsageError(
            "the package that encodes videos is not installed",
            hint="pip install 'robot-foundry[video]', or --images for a dataset without videos",
        ) from None
    return av


def _options(codec: str) -> Mapping[str, str]:
    common = {"g": str(KEY_FRAME_EVERY), "crf": str(CRF)}
    if codec == "av1":
        return {**common, "preset": str(SVT_PRESET), "svtav1-params": "lp=1"}
    if codec == "hevc":
        return {**common, "x265-params": "pools=none:frame-threads=1:log-level=none"}
    return {**common, "threads": "1"}


def _yuv_converter() -> Any:
    """What makes frames of the encoder's pixels, to the same numbers on every processor."""
    from av.video.reformatter import Interpolation, VideoReformatter

    exact = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    flags, reformatter = exact | Interpolation.FULL_CHR_H_INP, VideoReformatter()

    def convert(frame: Any) -> Any:
        return reformatter.reformat(frame, format=PIXELS, interpolation=flags, threads=1)

    return convert
