"""Pictures of a camera on their way into a dataset: encoded as they are, or as pixels for a video.

Legend: N frames, h × w pixels.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from robot_foundry.export.lerobot.dataset.statistics import ImageTotals, sampled_frames
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.images import decode, probe

# A JPEG or PNG, uint8 RGB [h, w, 3], or None for a frame without one.
Picture = bytes | NDArray[np.uint8] | None


class Sampled:
    """The pictures of an episode as they pass by, each as pixels or bytes, and statistics of a sample."""

    def __init__(
        self, pictures: Iterable[Picture], num_frames: int, size: tuple[int, int], where: str
    ) -> None:
        self._pictures, self._size, self._where = pictures, size, where
        self._num_frames, self._sample = num_frames, set(sampled_frames(num_frames))
        self.totals = ImageTotals()

    def pixels(self) -> Iterator[NDArray[np.uint8]]:
        """Each as uint8 RGB, black for one that is missing. FoundryError for another number or size."""
        for number, picture in enumerate(self._counted()):
            rgb_hw3 = self._rgb(picture)
            if number in self._sample:
                self.totals.add(rgb_hw3)
            yield rgb_hw3

    def encoded(self) -> Iterator[bytes]:
        """Each as bytes, pixels as PNG, and a black PNG for one that is missing; as `pixels` else."""
        for number, picture in enumerate(self._counted()):
            if number in self._sample:
                self.totals.add(self._rgb(picture))
            elif isinstance(picture, bytes):
                self._check(probe(picture)[1:])
            yield picture if isinstance(picture, bytes) else png(self._rgb(picture))

    def _counted(self) -> Iterator[Picture]:
        count = 0
        for picture in self._pictures:
            count += 1
            if count > self._num_frames:
                break
            yield picture
        if count != self._num_frames:
            more = "more than " if count > self._num_frames else f"{count} of "
            raise FoundryError(f"{self._where} has {more}{self._num_frames} images")

    def _rgb(self, picture: Picture) -> NDArray[np.uint8]:
        if picture is None:
            return black(self._size)
        rgb_hw3 = decode(picture) if isinstance(picture, bytes) else picture
        self._check(rgb_hw3.shape[:2])
        return rgb_hw3

    def _check(self, size: tuple[int, ...]) -> None:
        if size != self._size:
            raise FoundryError(
                f"{self._where} has an image of {size[0]} x {size[1]} pixels, and a "
                f"camera has one size in a LeRobot dataset, here {self._size[0]} x {self._size[1]}",
                hint="--exclude FILE with its name leaves the episode out",
            )


@lru_cache(maxsize=16)
def black(size: tuple[int, int]) -> NDArray[np.uint8]:
    """What stands for an image that is not there."""
    rgb_hw3 = np.zeros((*size, 3), np.uint8)
    rgb_hw3.flags.writeable = False
    return rgb_hw3


def png(rgb_hw3: NDArray[np.uint8]) -> bytes:
    """As LeRobot stores images: PNG of a low compression."""
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(rgb_hw3).save(sink, "PNG", compress_level=1)
    return sink.getvalue()
