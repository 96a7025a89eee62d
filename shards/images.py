"""Image codecs: JPEG through libjpeg-turbo (simplejpeg), PNG through Pillow. Pixels are uint8 RGB.

Shapes: H height, W width, C = 3 channels. EXIF orientation is not applied; alpha is dropped.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.errors import CorruptImage, TooManyPixels

__all__ = ["CorruptImage", "codec_versions", "decode", "encode_jpeg", "probe", "starts_as_image"]

# How images are encoded, by the end of their names in a tar.
FORMATS = {"jpg": "jpeg", "png": "png"}
MAX_PIXELS = 64 * 2**20
# Below this, chroma at half resolution costs detail that a policy needs (a gripper is a few pixels wide).
FULL_CHROMA_BELOW = 128
# Encoders that optimise tables give each image a header of its own, which is not worth remembering.
MOST_HEADERS = 4
# Markers of JPEG that a length follows (ITU-T T.81 B.1), but for the standalone ones between them.
_FIRST_SEGMENT, _LAST_SEGMENT, _START_OF_SCAN = 0xC0, 0xFE, 0xDA
JPEG_MAGIC, PNG_MAGIC = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


def encode_jpeg(rgb_HWC: NDArray[np.uint8], quality: int = 95) -> bytes:
    """Baseline JPEG of uint8 RGB; chroma 4:4:4 if a side is under 128 pixels, else 4:2:0.

    The bytes depend on the pixels, `quality` (1…100) and `codec_versions()` alone.
    """
    if rgb_HWC.dtype != np.uint8 or rgb_HWC.ndim != 3 or rgb_HWC.shape[2] != 3 or 0 in rgb_HWC.shape:
        raise FoundryError(
            f"cannot encode {rgb_HWC.dtype} of shape {rgb_HWC.shape}: an image is uint8 (H, W, 3)"
        )
    if not 1 <= quality <= 100:
        raise FoundryError(f"JPEG quality {quality} is outside 1 to 100")
    chroma = "444" if min(rgb_HWC.shape[:2]) < FULL_CHROMA_BELOW else "420"
    pixels_HWC = np.ascontiguousarray(rgb_HWC)
    return simplejpeg.encode_jpeg(pixels_HWC, quality, "RGB", colorsubsampling=chroma, fastdct=False)


def encode_jpeg_planes(planes: Sequence[NDArray[np.uint8]], quality: int = 95) -> bytes:
    """Baseline JPEG, 4:2:0, of what such a one holds: luma [H, W] and two of chroma [H / 2, W / 2] in BT.601,
    all from 0 to 255; H and W are even. The bytes depend on these, `quality` and `codec_versions()` alone.
    """
    return simplejpeg.encode_jpeg_yuv_planes(*planes, quality, fastdct=False)


def decode(data: bytes, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) of a JPEG or PNG; into `out`, if given, which must have just that shape.

    The interpreter lock is released while decoding. CorruptImage for what is damaged, truncated, no image, or
    above 64 Mi pixels; `out` then holds anything.
    """
    encoding, height, width = probe(data)
    if out is not None and (
        out.shape != (height, width, 3) or out.dtype != np.uint8 or not out.flags.c_contiguous
    ):
        raise FoundryError(
            f"an image of {height} x {width} does not fit the {out.dtype} buffer of shape {out.shape}, "
            "which must be C-contiguous uint8 of the same height and width"
        )
    if encoding == "png":
        return _decode_png(data, out)
    try:
        # Exact DCT and upsampling: the fast ones differ by up to 30 levels and between machines.
        pixels_HWC = simplejpeg.decode_jpeg(
            data, "RGB", fastdct=False, fastupsample=False, buffer=out, strict=True
        )
    except ValueError as error:
        raise CorruptImage(f"a JPEG of {len(data)} bytes is damaged: {error}") from error
    return pixels_HWC if out is None else out


def probe(data: bytes | memoryview) -> tuple[str, int, int]:
    """('jpg' or 'png', height, width) from the header alone; CorruptImage as in `decode`."""
    if data[:8] == PNG_MAGIC:
        if len(data) < 33 or data[12:16] != b"IHDR":
            raise CorruptImage("a PNG is cut off inside its header")
        encoding, width, height = "png", int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    elif data[:3] == JPEG_MAGIC:
        encoding = "jpg"
        height, width, _ = jpeg_header(data)
    else:
        raise CorruptImage(f"{len(data)} bytes that start with {data[:8].hex()!r} are neither JPEG nor PNG")
    check_pixels(height, width)
    return encoding, height, width


def jpeg_header(data: bytes | memoryview) -> tuple[int, int, str]:
    """Height, width and colour space (RGB, GRAY, CMYK, YCCK, …) of a JPEG; CorruptImage for a bad header."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise CorruptImage(f"a JPEG of {len(data)} bytes has a damaged header: {error}") from error
    return height, width, colours


def check_pixels(height: int, width: int) -> None:
    """CorruptImage for an image without pixels, TooManyPixels for one with too many to be decoded."""
    if not 0 < height * width <= MAX_PIXELS:
        error = TooManyPixels if height * width else CorruptImage
        raise error(f"an image of {height} x {width} pixels is outside 1 to {MAX_PIXELS} pixels")


def starts_as_image(head: bytes) -> bool:
    """Whether the first bytes are those of a JPEG or PNG file."""
    return head.startswith((JPEG_MAGIC, PNG_MAGIC))


class Headers:
    """`probe` of images of which many have the same header, as those of one camera do: it is parsed once."""

    def __init__(self) -> None:
        self._by_header: dict[bytes, tuple[str, int, int]] = {}

    def probe(self, data: bytes | memoryview) -> tuple[str, int, int]:
        """As the function."""
        header = self.shared(data)
        if header is not None:
            return self._by_header[header]
        probed = probe(data)
        end = _jpeg_header_end(data) if probed[0] == "jpg" and len(self._by_header) < MOST_HEADERS else None
        if end is not None:
            self._by_header[bytes(data[:end])] = probed
        return probed

    def shared(self, data: bytes | memoryview) -> bytes | None:
        """The first bytes, up to the entropy-coded data, that this image has with one looked at before."""
        for header in self._by_header:
            if data[: len(header)] == header:
                return header
        return None


def _jpeg_header_end(data: bytes | memoryview) -> int | None:
    """Where the entropy-coded data begins, behind all that `probe` reads; None if that is not plain."""
    position, marker = 2, 0
    while marker != _START_OF_SCAN:
        if data[position : position + 1] != b"\xff" or position + 4 > len(data):
            return None
        marker = data[position + 1]
        if not _FIRST_SEGMENT <= marker <= _LAST_SEGMENT:
            return None
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
    return position if position <= len(data) else None


@cache
def codec_versions() -> dict[str, str]:
    """Versions of all that decides the bytes of `encode_jpeg`; they enter a shard's key when it encodes."""
    versions = {"simplejpeg": simplejpeg.__version__}
    # The wheel links libjpeg-turbo statically and tells its version nowhere but in the library itself.
    for library in Path(simplejpeg.__file__).parent.glob("_jpeg*"):
        match = re.search(rb"libjpeg-turbo version ([0-9.]+)", library.read_bytes())
        if match:
            versions["libjpeg_turbo"] = match[1].decode()
    return versions


def _decode_png(data: bytes, out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    from PIL import Image

    check_png_chunks(data)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.mode.startswith("I"):
                raise CorruptImage("a PNG has 16-bit gray pixels, which is not an RGB image")
            image.load()
            rgb = image if image.mode == "RGB" else image.convert("RGB")
            pixels_HWC = np.array(rgb)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, EOFError) as error:
        if isinstance(error, FoundryError):
            raise
        raise CorruptImage(f"a PNG of {len(data)} bytes is damaged: {error}") from error
    if out is None:
        return pixels_HWC
    out[...] = pixels_HWC
    return out


def check_png_chunks(data: bytes) -> None:
    """Every chunk up to IEND is whole and has its checksum: Pillow does not look once it has the pixels."""
    position, kind = len(PNG_MAGIC), b""
    while kind != b"IEND":
        end = position + 12 + int.from_bytes(data[position : position + 4])
        kind = data[position + 4 : position + 8]
        if end > len(data) or zlib.crc32(data[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise CorruptImage(f"a PNG of {len(data)} bytes is damaged or cut off at byte {position}")
        position = end
