"""Pictures of sensor_msgs: CompressedImage goes through as it is, Image becomes RGB from its encoding.

Legend: H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.robot.source_episode import Encoded
from robot_foundry.ingest.sources.ros.bags.definitions import Undecodable
from robot_foundry.ingest.sources.ros.messages.packets import TYPES
from robot_foundry.ingest.sources.unusable import shown
from robot_foundry.runtime.errors import nearest
from robot_foundry.shards import images
from robot_foundry.shards.errors import CorruptImage

Pixels = NDArray[np.uint8]
Probe = Callable[[Any], tuple[str, int, int]]

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
RGB, RGBA, BGR, BGRA, GRAY = (0, 1, 2), (0, 1, 2), (2, 1, 0), (2, 1, 0), (0, 0, 0)
# Encoding: bytes of a number, channels, and those of red, green and blue. OpenCV's 8UC3 is BGR.
CHANNELS = {
    "rgb8": (1, 3, RGB),
    "bgr8": (1, 3, BGR),
    "rgba8": (1, 4, RGBA),
    "bgra8": (1, 4, BGRA),
    "mono8": (1, 1, GRAY),
    "8UC1": (1, 1, GRAY),
    "8UC3": (1, 3, BGR),
    "8UC4": (1, 4, BGRA),
    "rgb16": (2, 3, RGB),
    "bgr16": (2, 3, BGR),
    "rgba16": (2, 4, RGBA),
    "bgra16": (2, 4, BGRA),
    "mono16": (2, 1, GRAY),
}
# Colours of the pixels of two rows.
BAYER = {
    f"bayer_{pattern}{bits}": pattern for pattern in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)
}
# Where the two lumas, and the chromas blue and red, lie in the four bytes of two pixels.
YUV422 = {"yuv422": (1, 3, 0, 2), "uyvy": (1, 3, 0, 2), "yuv422_yuy2": (0, 2, 1, 3), "yuyv": (0, 2, 1, 3)}
# Whether blue comes before red in the chromas of half the height that follow the luma.
YUV420 = {"nv12": True, "nv21": False}
DEPTH = ("16UC1", "32FC1", "16SC1", "64FC1")
ENCODINGS = (*CHANNELS, *BAYER, *YUV422, *YUV420)
FOUR_CORNERS = ((1, 2, 1), (2, 4, 2), (1, 2, 1))
FOUR_SIDES = ((0, 1, 0), (1, 4, 1), (0, 1, 0))


@dataclass(frozen=True)
class Size:
    """Height and width in pixels, and whether it is compressed already."""

    height: int
    width: int
    is_encoded: bool


def size_of(message: Any, probe: Probe = images.probe) -> Size:
    """By what the message says of itself. Undecodable if it holds no picture of colours."""
    kind = str(getattr(message, "__msgtype__", ""))
    if kind == COMPRESSED:
        try:
            _, height, width = probe(np.asarray(message.data, np.uint8).data)
        except CorruptImage as error:
            if "compressedDepth" in message.format:
                raise Undecodable("it is a depth map: name its topic under content.ros.depth") from error
            raise Undecodable(f"it holds no JPEG or PNG file ({shown(message.format, 40)})") from error
        return Size(height, width, True)
    if kind in TYPES:
        raise Undecodable(
            f"its type {kind} is of packets of a video: say `video: true` of its camera in content.ros"
        )
    if kind != IMAGE:
        raise Undecodable(f"its type {kind} is neither Image nor CompressedImage")
    if message.encoding in DEPTH:
        raise Undecodable(
            f"its encoding {message.encoding} is that of depth: name it under content.ros.depth"
        )
    if message.encoding not in ENCODINGS:
        near = nearest(message.encoding, ENCODINGS)
        raise Undecodable(f"its encoding {shown(message.encoding, 40)!r} is not known{near}")
    _check_size(message)
    return Size(message.height, message.width, False)


def picture_of(message: Any, probe: Probe = images.probe) -> Pixels | Encoded:
    """uint8 RGB [H, W, 3], or the JPEG or PNG as it is. The message is one that `size_of` knows."""
    if message.__msgtype__ == COMPRESSED:
        data = _bytes(message)
        encoding, height, width = probe(data)
        return Encoded(data, images.FORMATS[encoding], (height, width))
    encoding, height, width = message.encoding, message.height, message.width
    if encoding in CHANNELS:
        size, channels, order = CHANNELS[encoding]
        numbers_HWC = _rows(message, width * channels, size).reshape(height, width, channels)
        return _colours(_high_byte(numbers_HWC), order)
    if encoding in BAYER:
        numbers_HW = _high_byte(_rows(message, width, 1 if encoding.endswith("8") else 2))
        return demosaiced(numbers_HW, BAYER[encoding])
    if encoding in YUV422:
        return _of_yuv422(_rows(message, 2 * width, 1), YUV422[encoding])
    return _of_yuv420(_rows(message, width, 1, height * 3 // 2), height, YUV420[encoding])


def _bytes(message: Any) -> bytes:
    return bytes(np.asarray(message.data, np.uint8))


def _check_size(message: Any) -> None:
    height, width = message.height, message.width
    if not 0 < height * width <= images.MAX_PIXELS:
        raise Undecodable(f"it has {height} x {width} pixels")
    encoding = message.encoding
    if encoding in CHANNELS:
        size, channels, _ = CHANNELS[encoding]
        wanted, num_rows = width * channels * size, height
    elif encoding in BAYER:
        wanted, num_rows = width * (1 if encoding.endswith("8") else 2), height
    else:
        wanted, num_rows = (2 * width, height) if encoding in YUV422 else (width, height * 3 // 2)
    if encoding not in CHANNELS and (width % 2 or (encoding not in YUV422 and height % 2)):
        raise Undecodable(f"its {height} x {width} pixels are odd for {encoding}")
    if message.step < wanted or len(message.data) < message.step * (num_rows - 1) + wanted:
        raise Undecodable(f"its {len(message.data)} bytes are too few for {height} x {width} of {encoding}")


def _rows(message: Any, count: int, size: int, num_rows: int | None = None) -> NDArray[Any]:
    """[rows, count] numbers of `size` bytes, without what fills up each row."""
    num_rows, step = message.height if num_rows is None else num_rows, message.step
    data = np.asarray(message.data, np.uint8)
    if len(data) < num_rows * step:  # the last row may lack what fills it up
        data = np.concatenate([data, np.zeros(num_rows * step - len(data), np.uint8)])
    rows = np.ascontiguousarray(data[: num_rows * step].reshape(num_rows, step)[:, : count * size])
    return rows if size == 1 else rows.view(">u2" if message.is_bigendian else "<u2")


def _colours(numbers_HWC: Pixels, order: tuple[int, int, int]) -> Pixels:
    """Red, green and blue [H, W, 3], out of the memory of the message."""
    if numbers_HWC.shape[2] == len(order) and order == RGB:
        return numbers_HWC.copy()
    pixels_HW3 = np.empty((*numbers_HWC.shape[:2], 3), np.uint8)
    for colour, channel in enumerate(order):  # which is six times as fast as an index of three
        pixels_HW3[..., colour] = numbers_HWC[..., channel]
    return pixels_HW3


def _high_byte(numbers: NDArray[Any]) -> Pixels:
    return numbers if numbers.dtype == np.uint8 else (numbers >> 8).astype(np.uint8)


def demosaiced(numbers_HW: Pixels, pattern: str) -> Pixels:
    """uint8 RGB [H, W, 3] of one colour a pixel: what is missing is the rounded mean of the nearest ones."""
    height, width = numbers_HW.shape
    planes = []
    for colour in "rgb":
        mask_HW = np.zeros((height, width), np.int32)
        for place, letter in enumerate(pattern):
            if letter == colour:
                mask_HW[place // 2 :: 2, place % 2 :: 2] = 1
        kernel = FOUR_SIDES if colour == "g" else FOUR_CORNERS
        total_HW = _weighted(numbers_HW * mask_HW, kernel)
        weight_HW = _weighted(mask_HW, kernel)
        planes.append((total_HW + weight_HW // 2) // weight_HW)
    return np.stack(planes, axis=-1).astype(np.uint8)


def _weighted(values_HW: NDArray[np.int32], kernel: tuple[tuple[int, ...], ...]) -> NDArray[np.int32]:
    """Weighted sums of each pixel and its neighbours, which are mirrored at the edge, and so keep colours."""
    height, width = values_HW.shape
    padded = np.pad(values_HW, 1, mode="reflect")
    total_HW = np.zeros((height, width), np.int32)
    for y, line in enumerate(kernel):
        for x, weight in enumerate(line):
            if weight:
                total_HW += weight * padded[y : y + height, x : x + width]
    return total_HW


def _of_yuv422(rows: Pixels, places: tuple[int, int, int, int]) -> Pixels:
    pairs = rows.reshape(len(rows), -1, 4)
    first, second, blue, red = places
    luma_HW = pairs[:, :, [first, second]].reshape(len(rows), -1)
    return _rgb(luma_HW, np.repeat(pairs[:, :, blue], 2, axis=1), np.repeat(pairs[:, :, red], 2, axis=1))


def _of_yuv420(rows: Pixels, height: int, blue_first: bool) -> Pixels:
    chroma = rows[height:].reshape(height // 2, -1, 2).repeat(2, axis=0).repeat(2, axis=1)
    blue, red = (0, 1) if blue_first else (1, 0)
    return _rgb(rows[:height], chroma[..., blue], chroma[..., red])


def _rgb(luma_HW: Pixels, blue_HW: Pixels, red_HW: Pixels) -> Pixels:
    """ITU-R BT.601 of limited range, in whole numbers."""
    y = 298 * (luma_HW.astype(np.int32) - 16) + 128
    u, v = blue_HW.astype(np.int32) - 128, red_HW.astype(np.int32) - 128
    planes = (y + 409 * v, y - 100 * u - 208 * v, y + 516 * u)
    return np.stack([np.clip(plane >> 8, 0, 255) for plane in planes], axis=-1).astype(np.uint8)
