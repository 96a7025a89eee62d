"""Maps of 16-bit depth in RVL (Wilson 2017): runs of zeros and of differences, in half bytes.

Legend: H W pixels, V numbers, B half bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.ros.bags.definitions import Undecodable

SIZE_BYTES = 8
# Of 4K. All half bytes are taken apart at once, which takes twenty times their memory.
MOST_PIXELS = 1 << 23
LARGEST_PIXEL_BYTES = 3
MORE, BITS = 8, 3
# No number of a map needs more half bytes than 32 bits do.
MOST_HALVES = 11


def size_of_rvl(data: bytes) -> tuple[int, int]:
    """Height and width. Undecodable if there are none, or more pixels than are read."""
    if len(data) < SIZE_BYTES:
        raise Undecodable("its RVL data is cut off")
    width, height = (int(value) for value in np.frombuffer(data, "<u4", 2))
    if not 0 < height * width <= MOST_PIXELS:
        raise Undecodable(f"its RVL data has {height} x {width} pixels")
    if len(data) > SIZE_BYTES + LARGEST_PIXEL_BYTES * height * width + 4:
        raise Undecodable(f"its RVL data has {len(data)} bytes for {height} x {width} pixels")
    return height, width


def rvl_decoded(data: bytes) -> NDArray[np.uint16]:
    """uint16 [H, W] of the bytes that begin with width and height. Undecodable if they are no such map."""
    height, width = size_of_rvl(data)
    numbers_V = _numbers(data[SIZE_BYTES:])
    depth = np.zeros(height * width, np.uint16)
    pixel, at, last = 0, 0, 0
    while pixel < len(depth):
        if at + 2 > len(numbers_V):
            raise Undecodable("its RVL data is cut off")
        zeros, others = int(numbers_V[at]), int(numbers_V[at + 1])
        pixel, at = pixel + zeros, at + 2
        if pixel + others > len(depth) or at + others > len(numbers_V) or not zeros + others:
            raise Undecodable("its RVL data has runs that are longer than the map")
        # Zigzag: 0, 1, 2, 3 are 0, -1, 1, -2.
        coded = numbers_V[at : at + others]
        run = last + np.cumsum((coded >> 1) ^ -(coded & 1))
        depth[pixel : pixel + others] = run.astype(np.uint16)
        last = int(run[-1]) & 0xFFFF if others else last
        pixel, at = pixel + others, at + others
    return depth.reshape(height, width)


def _numbers(data: bytes) -> NDArray[np.int64]:
    """[V] of three bits in each half byte, the lowest first; the fourth bit says that more follow.

    Half bytes lie from the top in 32-bit words of little-endian order.
    """
    words = np.frombuffer(data[: len(data) // 4 * 4], "<u4").astype(">u4").view(np.uint8)
    halves_B = np.stack([words >> 4, words & 15], axis=1).reshape(-1)
    last_B = np.flatnonzero(halves_B < MORE)
    if not len(last_B):
        return np.zeros(0, np.int64)
    first_V = np.concatenate([[0], last_B[:-1] + 1])
    if (last_B - first_V).max() >= MOST_HALVES:
        raise Undecodable("its RVL data has numbers beyond 32 bits")
    used = int(last_B[-1]) + 1
    place_B = np.arange(used, dtype=np.int32) - np.repeat(first_V.astype(np.int32), last_B - first_V + 1)
    bits_B = (halves_B[:used] & (MORE - 1)).astype(np.int64) << (BITS * place_B)
    numbers_V: NDArray[np.int64] = np.add.reduceat(bits_B, first_V)
    return numbers_V
