"""Depth maps of sensor_msgs: 16-bit PNG files of millimetres, kept as the bag has them or encoded once.

Legend: H W pixels.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_foundry.ingest.sources.ros.bags.definitions import Undecodable
from robot_foundry.ingest.sources.ros.messages.images import COMPRESSED, IMAGE
from robot_foundry.ingest.sources.unusable import shown
from robot_foundry.shards.images import MAX_PIXELS, PNG_MAGIC

# Before the PNG of `compressedDepth`: an enumeration, and two parameters of floats that are quantised.
CONFIG_HEADER = 12
GRAY_16 = b"\x10\x00"
MILLIMETRES = 1000.0
MOST = 65535


@dataclass(frozen=True)
class Depth:
    """A map as a PNG in `data`, or as pixels of `message` that are still to be encoded."""

    data: bytes | None
    message: Any


def depth_of(message: Any) -> Depth:
    """Undecodable if the message holds no depth map that can be kept in millimetres."""
    kind = str(getattr(message, "__msgtype__", ""))
    if kind == COMPRESSED:
        data = bytes(np.asarray(message.data, np.uint8))
        if "32FC1" in message.format:
            raise Undecodable("its compressed 32FC1 is rounded to inverse depth, which is not read")
        png = data[CONFIG_HEADER:] if data[CONFIG_HEADER : CONFIG_HEADER + 8] == PNG_MAGIC else data
        if png[:8] != PNG_MAGIC or png[24:26] != GRAY_16:
            raise Undecodable(f"it holds no 16-bit PNG ({shown(message.format, 40)})")
        return Depth(png, None)
    if kind != IMAGE or message.encoding not in ("16UC1", "mono16", "32FC1"):
        what = getattr(message, "encoding", kind)
        raise Undecodable(f"its {shown(str(what), 40)} is no depth map of 16UC1 or 32FC1")
    size = 4 if message.encoding == "32FC1" else 2
    height, width, step = message.height, message.width, message.step
    if not 0 < height * width <= MAX_PIXELS or step < width * size or len(message.data) < step * height:
        raise Undecodable(f"its {len(message.data)} bytes are too few for {height} x {width}")
    return Depth(None, message)


def png_of(depth: Depth) -> bytes:
    """The map as a 16-bit PNG of millimetres; what is no number, or beyond 65 m, is 0: not known."""
    if depth.data is not None:
        return depth.data
    from PIL import Image

    message = depth.message
    order, is_float = (">" if message.is_bigendian else "<"), message.encoding == "32FC1"
    rows = np.asarray(message.data, np.uint8)[: message.height * message.step].reshape(message.height, -1)
    numbers = np.ascontiguousarray(rows[:, : message.width * (4 if is_float else 2)])
    if is_float:
        metres_HW = numbers.view(f"{order}f4").astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            millimetres_HW = np.rint(metres_HW * MILLIMETRES)
            is_known_HW = (millimetres_HW >= 0) & (millimetres_HW <= MOST)
        depth_HW = np.where(is_known_HW, millimetres_HW, 0).astype(np.uint16)
    else:
        depth_HW = numbers.view(f"{order}u2").astype(np.uint16)
    sink = io.BytesIO()
    Image.fromarray(depth_HW).save(sink, "PNG")
    return sink.getvalue()
