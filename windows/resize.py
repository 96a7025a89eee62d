"""The size that a policy sees images in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def resized(pixels_hw3: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """An image stretched to (height, width), bilinear; as it is where it has that size."""
    if pixels_hw3.shape[:2] == size:
        return pixels_hw3
    from PIL import Image

    height, width = size
    return np.asarray(Image.fromarray(pixels_hw3).resize((width, height), Image.Resampling.BILINEAR))
