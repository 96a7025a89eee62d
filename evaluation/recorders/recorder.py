"""What a format is to a collection: it is told what all demonstrations share, then given one after the other.

Shape suffixes: N frames, C numbers of a command, K numbers of a row; HW3 picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robot_foundry.evaluation.world import Recording

ACTIONS = "actions"
# What is observed lies beneath it; names of cameras end so.
OBSERVED, PICTURES = "obs/", "_image"
# A pose in two arrays, whose names may begin with that of an arm.
POSITION, ROTATION = "eef_pos", "eef_quat"
JPEG_QUALITY = 95  # as specs encode pixels, so that both ways give the same picture


@dataclass(frozen=True)
class Demonstration:
    """One recorded episode, the `index`th of the collection."""

    index: int
    seed: int
    recording: Recording

    @property
    def num_frames(self) -> int:
        return len(self.recording.arrays[ACTIONS])


@dataclass(frozen=True)
class Common:
    """What all demonstrations of a collection share.

    `name` is that of the world and its task. `columns` name the numbers of a command, `cameras` are roles by
    the names in recordings. `environment` is JSON: the world, its version and all that was asked of it.
    """

    name: str
    embodiment: str
    control_hz: float
    columns: tuple[str, ...]
    cameras: Mapping[str, str]
    environment: Mapping[str, Any]


@dataclass(frozen=True)
class Parts:
    """A recording sorted out: `numbers` (N, K) by name, `pictures` uint8 (N, H, W, 3) by camera."""

    action_NC: NDArray[np.float64]
    numbers: Mapping[str, NDArray[np.float64]]
    pictures: Mapping[str, NDArray[np.uint8]]

    @classmethod
    def of(cls, recording: Recording) -> Parts:
        observed = {
            name.removeprefix(OBSERVED): array
            for name, array in recording.arrays.items()
            if name.startswith(OBSERVED)
        }
        return cls(
            recording.arrays[ACTIONS],
            {name: array for name, array in observed.items() if array.ndim == 2},
            {name.removesuffix(PICTURES): array for name, array in observed.items() if array.ndim == 4},
        )


class Recorder(AbstractContextManager["Recorder"], Protocol):
    """Writes demonstrations in their order. What it wrote is whole once its context has ended well.

    It is made with the place to write to, which is not there yet (a file) or empty (a folder), and `Common`.
    Equal demonstrations make equal bytes.
    """

    def add(self, demonstration: Demonstration) -> None: ...
