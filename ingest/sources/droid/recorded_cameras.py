"""The cameras of a DROID recording: their names, their videos, and which image belongs to which row.

The times of a video's frames, where `<serial>_timestamps.json` tells them, are matched with those that the
trajectory notes for the camera. Else image and row of one number belong together.

Legend: N rows of the trajectory, M frames of a video.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.robot.lengths import MOST_OFF, check_length
from robot_foundry.ingest.sources.robot.shared import camera_of
from robot_foundry.ingest.sources.robot.source_episode import Picture, SourceCamera
from robot_foundry.ingest.sources.robot.video import Video

VIDEO, STEREO, TIMES = ".mp4", "-stereo", "_timestamps.json"
# Two views of 16:9 side by side are wider than this many times their height.
WIDEST_MONO = 2.5
ROLES = {"wrist_cam_serial": "wrist", "ext1_cam_serial": "exterior_1", "ext2_cam_serial": "exterior_2"}
HAND_CAMERA = 0
LARGEST_JSON = 1 << 24


@dataclass(frozen=True)
class View:
    """A camera's video. `times` are those of its frames [M] and of the rows [N], None to go by number."""

    camera: SourceCamera
    video: Video
    is_stereo: bool
    times: tuple[NDArray[Any], NDArray[Any]] | None

    @property
    def matched_by(self) -> str:
        return "number" if self.times is None else "time"

    def pictures(self) -> Iterator[Picture]:
        """The image of each row; None where the video lost it."""
        frames = (frame[:, : self.camera.width] if self.is_stereo else frame for frame in self.video.frames())
        if self.times is None:
            yield from frames
            return
        shown = zip(self.times[0], frames, strict=False)
        at, frame = next(shown, (None, None))
        for received_at in self.times[1]:
            while at is not None and at < received_at:
                at, frame = next(shown, (None, None))
            yield frame if at == received_at else None


def serial_of(path: str) -> str:
    """The camera's number in the name of its video."""
    return path.rpartition("/")[2].removesuffix(VIDEO).removesuffix(STEREO)


def camera_names(
    serials: Sequence[str], metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> dict[str, str]:
    """Names by serial number: what the metadata call it, else by the type that the trajectory notes.

    Every robot has cameras of its own, so numbers would be no names: `wrist`, `exterior_1`, `exterior_2`.
    """
    stated = {str(metadata[key]): name for key, name in ROLES.items() if metadata.get(key)}
    names = {serial: stated[serial] for serial in serials if serial in stated}
    free = [name for name in ROLES.values() if name not in names.values()]
    for serial in sorted(set(serials) - set(names)):
        kind = arrays.get(f"observation/camera_type/{serial}")
        is_hand = kind is not None and kind.size > 0 and kind.flat[0] == HAND_CAMERA
        fitting = [name for name in free if (name == "wrist") == is_hand]
        names[serial] = fitting[0] if fitting else camera_of(f"camera_{serial}")
        free = [name for name in free if name != names[serial]]
    return names


def view_of(
    name: str, video: Video, serial: str, times_M: Any, arrays: Mapping[str, NDArray[Any]], num_frames: int
) -> tuple[View, str | None]:
    """The view, and what of it is left out. Refused if the video and the trajectory are far apart."""
    is_stereo = video.width > WIDEST_MONO * video.height
    width = video.width // 2 if is_stereo else video.width
    camera = SourceCamera(name, video.name, video.height, width)
    times = _matching(times_M, video, arrays.get(f"observation/timestamp/cameras/{serial}_frame_received"))
    if times is not None:
        unused = len(times[0]) - int(np.isin(times[0], times[1]).sum())
        left_out = f"{unused} of its {len(times[0])} images are of no row" if unused else None
        return View(camera, video, is_stereo, times), left_out
    return View(camera, video, is_stereo, None), check_length(video.name, video.num_frames, num_frames)


def _matching(
    times_M: Any, video: Video, times_N: NDArray[Any] | None
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Both times if they are of the same clock: all rows but a few have an image of their own."""
    if times_N is None or not isinstance(times_M, list) or len(times_M) != video.num_frames:
        return None
    try:
        of_frames_M = np.array(times_M, np.int64)
    except (TypeError, ValueError, OverflowError):
        return None
    of_rows_N = times_N.reshape(-1)
    in_order = (np.diff(of_frames_M) > 0).all() and (np.diff(of_rows_N) >= 0).all()
    if not in_order or (~np.isin(of_rows_N, of_frames_M)).sum() > MOST_OFF:
        return None
    return of_frames_M, of_rows_N


def read_json(path: Path, name: str) -> Any:
    """The JSON in a file. Refused if it is none."""
    if path.stat().st_size > LARGEST_JSON:
        raise Refused(f"its file '{name}' has {path.stat().st_size} bytes")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Refused(f"its file '{name}' is not JSON: {error}") from error
