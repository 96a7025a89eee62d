"""What there is to say of the rows of all clips, before any of them is written.

Legend: C clips, N frames of a clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.robot.schema import Camera
from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.export.lerobot.clips import Clip, Source
from robot_foundry.runtime.progress import Progress

# LeRobot's own tolerance of times that it looks for in videos.
OFF_GRID_S = 1e-4


@dataclass(frozen=True)
class Survey:
    """`flags` are all that any frame has, `flagged` how many frames have each; `off_grid_s` is how far a time
    lies from that of its number. By role of the camera, `image_bytes` [C], and `missing`, frames without an
    image."""

    flags: Flag
    flagged: dict[Flag, int]
    off_grid_s: float
    image_bytes: dict[str, NDArray[np.int64]]
    missing: dict[str, int]

    @property
    def is_off_grid(self) -> bool:
        return self.off_grid_s > OFF_GRID_S


def survey(source: Source, clips: Sequence[Clip], cameras: Sequence[Camera], fps: float) -> Survey:
    """Reads the tables and the indexes of tars, and no image."""
    flags, flagged, off_grid_s = Flag(0), dict.fromkeys(Flag, 0), 0.0
    image_bytes = {camera.role: np.zeros(len(clips), np.int64) for camera in cameras}
    missing = dict.fromkeys(image_bytes, 0)
    with Progress(len(clips), "episodes", "looking through") as progress:
        for number, clip in enumerate(clips):
            rows = source.rows(clip)
            flags |= Flag(int(np.bitwise_or.reduce(rows["flags"])))
            for flag in Flag:
                flagged[flag] += int(((rows["flags"] & int(flag)) != 0).sum())
            off_grid_s = max(off_grid_s, off_grid(rows, fps))
            for camera in cameras:
                image_bytes[camera.role][number] = source.image_bytes(clip, camera.name)
                missing[camera.role] += int((source.member_rows(clip, camera.name) < 0).sum())
            progress.advance()
    return Survey(flags, flagged, off_grid_s, image_bytes, missing)


def off_grid(rows: dict[str, NDArray[Any]], fps: float) -> float:
    """The furthest that a time lies from its frame's number at the rate, in s, from the first frame on."""
    times_N = rows["timestamp"] - rows["timestamp"][0]
    return float(np.abs(times_N - np.arange(len(times_N)) / fps).max())
