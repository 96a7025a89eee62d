"""Frames of videos as the planes that a JPEG holds, without a detour through RGB.

An exact one takes as long as decoding and encoding together, and interpolates colours that the JPEG then
halves again. A video of 4:2:0 in BT.601 has the planes of a JPEG but for the range: its black is 16 and its
white 235, its colours go from 16 to 240. A table a plane widens that, so the numbers are the same everywhere.
JPEG has its colours in the middle of four pixels, as FFmpeg's fast conversion shows videos; most codecs mean
them to lie half a pixel further left, which nobody sees.

Legend: H W pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.robot.source_episode import Planar
from robot_foundry.shards.images import FULL_CHROMA_BELOW

# As FFmpeg numbers them: BT.601 by its two names, and what is not said, which it takes for that.
_BT_601 = frozenset((2, 5, 6))
_FULL = 2
_LIMITED_420, _FULL_420 = "yuv420p", "yuvj420p"


def _table(black: int, span: int, zero: int) -> bytes:
    """Numbers of the limited range, of which `black` stays at `zero`, in the full one, rounded half up."""
    levels = np.floor((np.arange(256) - black) * 255 / span + zero + 0.5)
    return np.clip(levels, 0, 255).astype(np.uint8).tobytes()


_LUMA, _CHROMA = _table(16, 219, 0), _table(128, 224, 128)


def planes_of(frame: Any) -> Planar | None:
    """The planes of a decoded frame; None where a JPEG would not have the same."""
    height, width = frame.height, frame.width
    if frame.format.name not in (_LIMITED_420, _FULL_420) or int(frame.colorspace) not in _BT_601:
        return None
    if height % 2 or width % 2 or min(height, width) < FULL_CHROMA_BELOW:
        return None
    is_full = frame.format.name == _FULL_420 or int(frame.color_range) == _FULL
    tables = (None, None, None) if is_full else (_LUMA, _CHROMA, _CHROMA)
    luma, blue, red = (_plane(plane, table) for plane, table in zip(frame.planes, tables, strict=True))
    return Planar((luma, blue, red))


def _plane(plane: Any, table: bytes | None) -> NDArray[np.uint8]:
    """The numbers of a plane, each as the table has it."""
    rows_HL = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    data = rows_HL[:, : plane.width].tobytes()
    return np.frombuffer(data if table is None else data.translate(table), np.uint8).reshape(
        plane.height, plane.width
    )
