"""Demonstrations as a LeRobot dataset, v3.0: parquet, and videos or images of the cameras.

    observation.state           all numbers that are observed, one array after the other: eef_pos.x …, gripper
    observation.images.<camera>
    action                      named by the columns of a command
    next.reward, next.done, next.success     of the last frame 1 and true, if it succeeds
    task                        the instruction
    robot_type, fps             embodiment and rate; `seed` is a column of the table of episodes

Numbers are float32, as LeRobot has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.evaluation.recorders.recorder import JPEG_QUALITY, Common, Demonstration, Parts
from robot_foundry.export.lerobot.dataset.features import ACTION, IMAGE, STATE, VIDEO, Features
from robot_foundry.export.lerobot.dataset.video import av_package
from robot_foundry.export.lerobot.dataset.writer import LeRobotWriter
from robot_foundry.shards.images import encode_jpeg

REWARD, DONE, SUCCESS = "next.reward", "next.done", "next.success"
# Of arrays of so many numbers.
COMPONENTS = {3: "xyz", 4: "xyzw"}


class LeRobotRecorder:
    """See `Recorder`. With `images` pictures are JPEG in the parquet, without they are videos."""

    def __init__(self, place: Path, common: Common, *, images: bool = False) -> None:
        if not images:
            av_package()  # before the first demonstration is made
        self._place, self._common, self._images = place, common, images
        self._writer: LeRobotWriter | None = None

    def __enter__(self) -> LeRobotRecorder:
        return self

    def add(self, demonstration: Demonstration) -> None:
        recording, parts = demonstration.recording, Parts.of(demonstration.recording)
        if self._writer is None:
            self._writer = self._opened(parts)
        is_last_N = np.arange(demonstration.num_frames) == demonstration.num_frames - 1
        succeeds_N = is_last_N & recording.success
        pictures: Mapping[str, Any] = parts.pictures
        if self._images:
            pictures = {
                camera: [encode_jpeg(picture, JPEG_QUALITY) for picture in taken]
                for camera, taken in parts.pictures.items()
            }
        self._writer.add_episode(
            {
                STATE: np.concatenate(list(parts.numbers.values()), axis=1).astype(np.float32),
                ACTION: parts.action_NC.astype(np.float32),
                REWARD: succeeds_N.astype(np.float32),
                DONE: is_last_N,
                SUCCESS: succeeds_N,
            },
            pictures,
            task=recording.instruction,
            attributes={"seed": demonstration.seed},
        )

    def __exit__(self, *failed: Any) -> None:
        if self._writer is not None:
            self._writer.__exit__(*failed)

    def _opened(self, parts: Parts) -> LeRobotWriter:
        features = Features.of(
            [name for key, numbers in parts.numbers.items() for name in _names(key, numbers)],
            {ACTION: self._common.columns},
            {camera: pictures.shape[1:3] for camera, pictures in parts.pictures.items()},
            {REWARD: "float32", DONE: "bool", SUCCESS: "bool"},
            images=IMAGE if self._images else VIDEO,
        )
        return LeRobotWriter(
            self._place,
            fps=self._common.control_hz,
            features=features,
            robot_type=self._common.embodiment,
        )


def _names(key: str, numbers_NK: NDArray[np.float64]) -> list[str]:
    """('eef_pos', [N, 3]) → eef_pos.x, eef_pos.y, eef_pos.z; one number has the name itself."""
    width = numbers_NK.shape[1]
    if width == 1:
        return [key]
    return [f"{key}.{component}" for component in COMPONENTS.get(width, map(str, range(width)))]
