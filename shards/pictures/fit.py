"""How a picture gets another size.

Shapes: h × w pixels of the picture, H × W of what it becomes, C = 3 channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robot_foundry.runtime.errors import UsageError, nearest

PAD, CROP, STRETCH = FITS = ("pad", "crop", "stretch")
BORDER = 128  # the grey of pad
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Fitted:
    """Where a picture lands: the part `box` (left, upper, right, lower; in its own pixels) becomes `size`
    (height, width), whose corner lies at `at` (row, column)."""

    box: Box
    size: tuple[int, int]
    at: tuple[int, int]

    def scaled(self, factor: float) -> Fitted:
        """Of the same picture with `factor` times its rows and columns."""
        left, upper, right, lower = self.box
        return replace(self, box=(factor * left, factor * upper, factor * right, factor * lower))


def fitted(picture: tuple[int, int], size: tuple[int, int], fit: str) -> Fitted:
    """Of a picture of (h, w) that becomes (H, W).

    `pad`: the whole picture as large as fits, in the middle of grey borders. `crop`: the largest part of its
    middle that has the proportions. `stretch`: the whole picture, whatever its proportions.
    """
    (h, w), (H, W) = picture, size
    box = (0.0, 0.0, float(w), float(h))
    if fit == STRETCH:
        return Fitted(box, size, (0, 0))
    if fit == PAD:
        # Integers alone decide, so that no rounding of a quotient does; half a pixel goes up.
        height = H if h * W >= w * H else max(1, (2 * h * W + w) // (2 * w))
        width = W if h * W <= w * H else max(1, (2 * w * H + h) // (2 * h))
        return Fitted(box, (height, width), ((H - height) // 2, (W - width) // 2))
    if fit == CROP:
        part_h = float(h) if h * W <= w * H else w * H / W
        part_w = float(w) if h * W >= w * H else h * W / H
        left, upper = (w - part_w) / 2, (h - part_h) / 2
        return Fitted((left, upper, left + part_w, upper + part_h), size, (0, 0))
    raise UsageError(f"there is no fit '{fit}'{nearest(fit, FITS)} (fits: {', '.join(FITS)})")


def resized(
    pixels_hwC: NDArray[np.uint8], size: tuple[int, int], box: Box | None = None
) -> NDArray[np.uint8]:
    """The part `box` of a picture, or all of it, as (height, width): bicubic, antialiased where it shrinks.

    It is Pillow's filter, the same with any number of threads; another version may round another way.
    """
    h, w = pixels_hwC.shape[:2]
    whole = (0.0, 0.0, float(w), float(h))
    if size == (h, w) and box in (None, whole):
        return pixels_hwC
    from PIL import Image

    height, width = size
    image = Image.fromarray(np.ascontiguousarray(pixels_hwC))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box or whole))


def place(pixels_hwC: NDArray[np.uint8], where: Fitted, out_HWC: NDArray[np.uint8]) -> None:
    """Write a picture into `out_HWC`; `where.box` is in pixels of `pixels_hwC`."""
    if where.size != out_HWC.shape[:2]:
        out_HWC[...] = BORDER
    (row, column), (rows, columns) = where.at, where.size
    out_HWC[row : row + rows, column : column + columns] = resized(pixels_hwC, where.size, where.box)
