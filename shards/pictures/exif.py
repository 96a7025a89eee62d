"""The orientation of a picture: where its EXIF data says it, and what it does to the pixels.

Shapes: H height, W width, C = 3 channels. Source: CIPA DC-008 (Exif 2.32), 4.6.4 and 4.6.5.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

UPRIGHT = 1
_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}
_TAG, _ENTRY_BYTES = 0x0112, 12
_WIDTHS = {3: 2, 4: 4}  # SHORT as the standard has it, LONG as some write it


def orientation_of(exif: bytes) -> int:
    """1 … 8, as a TIFF header and its first directory say; 1 where they do not, or are damaged."""
    order = _ORDERS.get(exif[:4])
    if order is None:
        return UPRIGHT

    def number(at: int, size: int) -> int:
        return int.from_bytes(exif[at : at + size], order)

    directory = number(4, 4)
    for entry in range(number(directory, 2)):
        at = directory + 2 + entry * _ENTRY_BYTES
        if at + _ENTRY_BYTES > len(exif):
            break
        if number(at, 2) == _TAG:
            value = number(at + 8, _WIDTHS.get(number(at + 2, 2), 0))
            return value if 1 <= value <= 8 else UPRIGHT
    return UPRIGHT


def swaps_sides(orientation: int) -> bool:
    """Whether the upright picture is as wide as the stored one is high."""
    return orientation >= 5


def upright(stored_HWC: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """A view of the pixels that has the picture upright.

    The orientation names the sides at which the stored row 0 and column 0 lie in the upright picture: top
    left, top right, bottom right, bottom left, and from 5 on the same with row and column swapped.
    """
    turned = stored_HWC.transpose(1, 0, 2) if swaps_sides(orientation) else stored_HWC
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return turned[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
