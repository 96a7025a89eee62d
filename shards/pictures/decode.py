"""Pixels of pictures: uint8 RGB, upright, in the size that is asked for.

JPEG through libjpeg-turbo (simplejpeg), PNG and WebP through Pillow. How pixels that are not 8-bit RGB become
so: gray has three equal channels; CMYK is (255 - C)(255 - K) / 255, its numbers stored inverted as Adobe
does; of 16 bits the high byte counts; alpha is laid over white; of an animation the first frame is taken.
Colour profiles and gamma are not applied.

Shapes: h × w pixels of the picture, H × W of what is asked for, C = 3 channels (4 of CMYK).
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.errors import CorruptImage
from robot_foundry.shards.pictures.exif import UPRIGHT, swaps_sides, upright
from robot_foundry.shards.pictures.fit import PAD, Fitted, fitted, place
from robot_foundry.shards.pictures.png import pixels_of_png
from robot_foundry.shards.pictures.probe import JPG, PNG, Probed, probe

if TYPE_CHECKING:
    from PIL.Image import Image

# A JPEG is decoded at n/8 of its size where that is still so many times the size that is asked for, and the
# rest is left to a filter that does it well.
OVERSAMPLED = 2
WHITE = 255
_CMYK = ("CMYK", "YCCK")
# Faults of a header that change no pixel. They hide what libjpeg finds later, and Pillow notices a cut file.
_HARMLESS = ("Invalid SOS parameters for sequential JPEG", "Unknown Adobe color transform code")


def verify(data: bytes) -> Probed:
    """`probe`, and CorruptImage where it cannot be decoded to its end, of an animation where its first frame
    cannot."""
    probed = probe(data)
    _decoded(data, probed, (0, 0), None)
    return probed


def decode(
    data: bytes,
    size: tuple[int, int] | None = None,
    *,
    fit: str = PAD,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) of a JPEG, PNG or WebP; `size` is (H, W), None that of the upright picture.

    `fit` says how it gets the size (`fit.fitted`). Written into `out`, if given, C-contiguous and of just
    that shape. The interpreter lock is released while decoding and resizing. CorruptImage for what is
    damaged, truncated, no picture, or above 64 Mi pixels; `out` then holds anything.
    """
    probed = probe(data)
    shape = (*(size or (probed.height, probed.width)), 3)
    if out is None:
        out = np.empty(shape, np.uint8)
    elif out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise FoundryError(
            f"a picture of {shape[0]} x {shape[1]} does not fit the {out.dtype} buffer of shape {out.shape}, "
            "which must be C-contiguous uint8 of the same height and width"
        )
    if shape[:2] == (probed.height, probed.width):
        pixels_hwC = _decoded(data, probed, (0, 0), out)
        if pixels_hwC is not out:
            out[...] = pixels_hwC
        return out
    where = fitted((probed.height, probed.width), (shape[0], shape[1]), fit)
    pixels_hwC = _decoded(data, probed, _needed(probed, where), None)
    # libjpeg rounds the sides of n/8 of a picture up.
    eighths = 8 * max(pixels_hwC.shape[:2]) // max(probed.height, probed.width)
    place(pixels_hwC, where.scaled(eighths / 8), out)
    return out


def _needed(probed: Probed, where: Fitted) -> tuple[int, int]:
    """The size (height, width) of the upright picture that has OVERSAMPLED times the pixels which are asked
    for of it."""
    left, upper, right, lower = where.box
    height = math.ceil(OVERSAMPLED * where.size[0] * probed.height / (lower - upper))
    width = math.ceil(OVERSAMPLED * where.size[1] * probed.width / (right - left))
    return height, width


def _decoded(
    data: bytes, probed: Probed, least: tuple[int, int], out: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    """Upright pixels, written to `out` where that can be; a JPEG may be smaller than the picture, but not
    than `least` (height, width), of which 0 asks for all."""
    if probed.encoding != JPG:
        return upright(_by_pillow(data, probed), probed.orientation)
    if probed.orientation == UPRIGHT:
        return _jpeg(data, probed, least, out)
    if swaps_sides(probed.orientation):
        least = least[1], least[0]
    return upright(_jpeg(data, probed, least, None), probed.orientation)


def _jpeg(
    data: bytes, probed: Probed, least: tuple[int, int], out: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    is_cmyk = probed.colours in _CMYK
    try:
        # Exact DCT and upsampling: the fast ones differ by up to 30 levels and between machines.
        pixels = simplejpeg.decode_jpeg(
            data,
            "CMYK" if is_cmyk else "RGB",
            fastdct=False,
            fastupsample=False,
            min_height=least[0],
            min_width=least[1],
            min_factor=2 if min(least) else 1,
            buffer=None if is_cmyk else out,
            strict=True,
        )
    except ValueError as error:
        if str(error).startswith(_HARMLESS):
            return _by_pillow(data, probed)
        raise CorruptImage(f"a JPEG of {len(data)} bytes is damaged: {error}") from error
    if is_cmyk:
        return _rgb_of_cmyk(pixels)
    return pixels if out is None else out


def _rgb_of_cmyk(inverted_hw4: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As Pillow converts it, to the bit: 255 - K less C (255 - K) / 255, rounded."""
    white_hw1 = inverted_hw4[..., 3:].astype(np.uint32)
    product_hwC = (255 - inverted_hw4[..., :3].astype(np.uint32)) * white_hw1 + 128
    ink_hwC = ((product_hwC >> 8) + product_hwC) >> 8
    return np.maximum(white_hw1.astype(np.int32) - ink_hwC.astype(np.int32), 0).astype(np.uint8)


def _by_pillow(data: bytes, probed: Probed) -> NDArray[np.uint8]:
    """The stored pixels."""
    from PIL import Image

    if probed.encoding == PNG:
        data = pixels_of_png(data)
    name = "JPEG" if probed.encoding == JPG else probed.encoding.upper()
    try:
        with Image.open(io.BytesIO(data), formats=(name,)) as image:
            if image.size not in ((probed.width, probed.height), (probed.height, probed.width)):
                raise CorruptImage(f"a {name} of {len(data)} bytes has another size than its header says")
            image.load()
            pixels_hwC = _rgb(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, EOFError) as error:
        raise CorruptImage(f"a {name} of {len(data)} bytes is damaged: {error}") from error
    size = (probed.width, probed.height) if swaps_sides(probed.orientation) else (probed.height, probed.width)
    if pixels_hwC.shape[:2] != size:
        raise CorruptImage(f"a {name} of {len(data)} bytes has another size than its header says")
    return pixels_hwC


def _rgb(image: Image) -> NDArray[np.uint8]:
    from PIL import Image as pillow

    if image.mode.startswith("I"):  # 16-bit gray
        gray_hw1 = np.asarray(image)[..., None]
        clear = image.info.get("transparency")
        high_hw1 = (gray_hw1 >> 8).astype(np.uint8)
        if clear is not None:
            high_hw1 = np.where(gray_hw1 == clear, np.uint8(WHITE), high_hw1)
        return np.repeat(high_hw1, 3, axis=2)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = pillow.new("RGB", image.size, (WHITE, WHITE, WHITE))
        white.paste(layer, mask=layer.getchannel("A"))
        return np.array(white)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))
