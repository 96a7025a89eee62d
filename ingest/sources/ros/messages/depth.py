"""Depth maps of sensor_msgs: 16-bit PNG files of millimetres, kept as the bag has them or encoded once.

`compressedDepth` is a PNG or RVL map behind two parameters A and B: of `16UC1` its numbers are millimetres,
of `32FC1` they are A / metres + B, and 0 where nothing is known.

Legend: H W pixels.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.ros.bags.definitions import Undecodable
from robot_foundry.ingest.sources.ros.messages.images import COMPRESSED, IMAGE
from robot_foundry.ingest.sources.ros.messages.rvl import rvl_decoded
from robot_foundry.ingest.sources.unusable import shown
from robot_foundry.shards.errors import CorruptImage
from robot_foundry.shards.images import MAX_PIXELS, PNG_MAGIC, check_pixels, check_png_chunks

# Before the map of `compressedDepth`: an enumeration, A and B.
HEADER = struct.Struct("<iff")
GRAY_16 = b"\x10\x00"
MILLIMETRES = 1000.0
MOST = 65535
MILLIMETRE_MAPS, METRE_MAPS = ("16UC1", "mono16"), ("32FC1",)


@dataclass(frozen=True)
class Depth:
    """A map that is proven to be one: a PNG of millimetres as it is, or a `message` to be read."""

    png: bytes | None
    message: Any


def depth_of(message: Any) -> Depth:
    """Undecodable if the message holds no depth map that can be kept in millimetres."""
    kind = str(getattr(message, "__msgtype__", ""))
    if kind == COMPRESSED:
        return _of_compressed(message)
    if kind != IMAGE or message.encoding not in (*MILLIMETRE_MAPS, *METRE_MAPS):
        what = getattr(message, "encoding", kind)
        raise Undecodable(f"its {shown(str(what), 40)} is no depth map of 16UC1 or 32FC1")
    size = 4 if message.encoding in METRE_MAPS else 2
    height, width, step = message.height, message.width, message.step
    if not 0 < height * width <= MAX_PIXELS or step < width * size or len(message.data) < step * height:
        raise Undecodable(f"its {len(message.data)} bytes are too few for {height} x {width}")
    return Depth(None, message)


def png_of(depth: Depth) -> bytes:
    """The map as a 16-bit PNG of millimetres; what is no number, or beyond 65 m, is 0: not known.

    Undecodable if a compressed map turns out to be broken inside.
    """
    if depth.png is not None:
        return depth.png
    message = depth.message
    if message.__msgtype__ == COMPRESSED:
        return _png(_millimetres(message))
    order, is_float = (">" if message.is_bigendian else "<"), message.encoding in METRE_MAPS
    rows = np.asarray(message.data, np.uint8)[: message.height * message.step].reshape(message.height, -1)
    numbers = np.ascontiguousarray(rows[:, : message.width * (4 if is_float else 2)])
    if is_float:
        return _png(_rounded(numbers.view(f"{order}f4").astype(np.float64)))
    return _png(numbers.view(f"{order}u2").astype(np.uint16))


def _of_compressed(message: Any) -> Depth:
    content = _content(message)
    if content[:8] != PNG_MAGIC:
        if "rvl" not in message.format.lower():
            raise Undecodable(f"it holds no 16-bit PNG ({shown(message.format, 40)})")
        _millimetres(message)  # nothing but reading it all proves a map of RVL
        return Depth(None, message)
    if content[24:26] != GRAY_16:
        raise Undecodable(f"it holds no 16-bit PNG ({shown(message.format, 40)})")
    try:
        check_pixels(int.from_bytes(content[20:24]), int.from_bytes(content[16:20]))
        check_png_chunks(content)
    except CorruptImage as error:
        raise Undecodable("its PNG is damaged") from error
    if not _is_inverse(message):
        return Depth(content, None)
    _parameters(message)
    return Depth(None, message)


def _content(message: Any) -> bytes:
    """The map without what comes before it. Some publishers send the bare PNG."""
    data = bytes(np.asarray(message.data, np.uint8))
    return data if data[:8] == PNG_MAGIC else data[HEADER.size :]


def _is_inverse(message: Any) -> bool:
    encoding: str = message.format.partition(";")[0].strip()
    return encoding in METRE_MAPS


def _parameters(message: Any) -> tuple[float, float]:
    """A and B. Undecodable if they are none, without which inverse depth says nothing."""
    data = bytes(np.asarray(message.data, np.uint8)[: HEADER.size])
    if len(data) == HEADER.size and data[:8] != PNG_MAGIC:
        _, first, second = HEADER.unpack(data)
        if np.isfinite([first, second]).all() and first > 0:
            return first, second
    raise Undecodable("its inverse depth has no parameters by which it is metres")


def _millimetres(message: Any) -> NDArray[np.uint16]:
    """uint16 [H, W] of a compressed map."""
    content = _content(message)
    numbers_HW = _of_png(content) if content[:8] == PNG_MAGIC else rvl_decoded(content)
    if not _is_inverse(message):
        return numbers_HW
    first, second = _parameters(message)
    with np.errstate(divide="ignore", invalid="ignore"):
        metres_HW = np.float32(first) / (numbers_HW.astype(np.float32) - np.float32(second))
    return _rounded(np.where(numbers_HW == 0, np.nan, metres_HW).astype(np.float64))


def _of_png(content: bytes) -> NDArray[np.uint16]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            numbers_HW = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Undecodable("its PNG is damaged") from error
    return numbers_HW.astype(np.uint16)


def _rounded(metres_HW: NDArray[np.float64]) -> NDArray[np.uint16]:
    with np.errstate(invalid="ignore", over="ignore"):
        millimetres_HW = np.rint(metres_HW * MILLIMETRES)
        is_known_HW = (millimetres_HW >= 0) & (millimetres_HW <= MOST)
    return np.where(is_known_HW, millimetres_HW, 0).astype(np.uint16)


def _png(depth_HW: NDArray[np.uint16]) -> bytes:
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(depth_HW).save(sink, "PNG")
    return sink.getvalue()
