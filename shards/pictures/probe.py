"""What a picture is, by its header alone: JPEG, PNG or WebP, its upright size, and how it has to be turned.

Sources: ITU-T T.81 (JPEG), the PNG specification, RFC 9649 (WebP). Only as many chunks as MOST_CHUNKS are
walked over, and nothing is decompressed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from robot_foundry.shards.errors import CorruptImage, TooManyScans
from robot_foundry.shards.images import JPEG_MAGIC, MAX_PIXELS, PNG_MAGIC, check_pixels, jpeg_header
from robot_foundry.shards.images import probe as rgb_probe
from robot_foundry.shards.pictures.exif import UPRIGHT, orientation_of, swaps_sides

JPG, PNG, WEBP = ENCODINGS = ("jpg", "png", "webp")
MOST_CHUNKS = 1 << 16
# Pixels times the scans of a JPEG, each of which goes over all of them. Encoders make some ten scans, and a
# file of 100 kB may have hundreds.
MOST_SCANNED = 16 * MAX_PIXELS
# What a file is by its first bytes: pictures, and what is found in their place.
_KINDS = {
    JPEG_MAGIC: "a JPEG", PNG_MAGIC: "a PNG",
    b"GIF8": "a GIF", b"BM": "a BMP", b"II*\0": "a TIFF", b"MM\0*": "a TIFF", b"II+\0": "a TIFF",
    b"MM\0+": "a TIFF", b"%PDF": "a PDF", b"8BPS": "a Photoshop file", b"\xff\x0a": "a JPEG XL",
    b"\0\0\0\x0cJXL ": "a JPEG XL", b"\0\0\0\x0cjP  ": "a JPEG 2000", b"\0\0\x01\0": "an icon",
    b"PK\x03\x04": "a ZIP", b"\x1f\x8b": "gzip",
}  # fmt: skip
_BRANDS = {b"avif": "an AVIF", b"avis": "an AVIF", b"heic": "a HEIC", b"heix": "a HEIC", b"mif1": "a HEIF"}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Markers of JPEG without a length (ITU-T T.81 B.1.1.3), and where the entropy-coded data begins.
_STANDALONE, _START_OF_SCAN, _APP1 = (0x01, *range(0xD0, 0xD8)), 0xDA, 0xE1
_EXIF = b"Exif\0\0"
_WEBP_HAS_EXIF = 0x08


@dataclass(frozen=True)
class Probed:
    """encoding     jpg, png or webp: what the bytes are, whatever their name says
    height, width   of the upright picture in pixels
    orientation     1 … 8 as EXIF has it: how the stored picture becomes the upright one
    colours         of a JPEG its colour space (RGB, GRAY, CMYK, …)
    """

    encoding: str
    height: int
    width: int
    orientation: int = UPRIGHT
    colours: str = field(default="", compare=False)


def probe(data: bytes) -> Probed:
    """What a picture is; CorruptImage where it is none of ENCODINGS, has a damaged header, or > 64 Mi pixels
    (TooManyPixels), or so many scans that decoding it takes minutes (TooManyScans).

    EXIF data that is damaged, or says no orientation, leaves the picture as it is stored.
    """
    colours = ""
    if data.startswith(JPEG_MAGIC):
        height, width, colours = jpeg_header(data)
        encoding, exif = JPG, _exif_of_jpeg(data)
    elif data.startswith(PNG_MAGIC):
        _, height, width = rgb_probe(data)
        encoding, exif = PNG, next((chunk for kind, chunk in _png_chunks(data) if kind == b"eXIf"), b"")
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        height, width, exif = _webp(data)
        encoding = WEBP
    else:
        found = f"{picture_kind(data)} of {len(data)} bytes that starts with {data[:8].hex()!r}"
        raise CorruptImage(f"{found} is no picture here: JPEG, PNG and WebP are")
    check_pixels(height, width)
    if encoding == JPG:
        _check_scans(data, height * width)
    orientation = orientation_of(exif.removeprefix(_EXIF))
    if swaps_sides(orientation):
        height, width = width, height
    return Probed(encoding, height, width, orientation, colours)


def picture_kind(data: bytes) -> str:
    """What the bytes seem to be by how they begin, with an article: 'a JPEG', 'a GIF', 'an empty file'."""
    if not data:
        return "an empty file"
    name = next((name for magic, name in _KINDS.items() if data.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        name = _BRANDS.get(data[8:12], "a video or AVIF")
    if data[:4] == b"RIFF":
        name = "a WebP" if data[8:12] == b"WEBP" else "a sound or video"
    if name is None and data[:512].removeprefix(_BYTE_ORDER_MARK).lstrip().startswith(b"<"):
        name = "an SVG" if b"<svg" in data[:4096] else "a web page or XML"
    return name or "a file of an unknown kind"


def _check_scans(data: bytes, pixels: int) -> None:
    """By their markers, which compressed data cannot hold; other segments may, and seldom do."""
    scans = data.count(bytes((0xFF, _START_OF_SCAN)))
    if scans * pixels > MOST_SCANNED:
        raise TooManyScans(f"a JPEG of {len(data)} bytes has {scans} scans of {pixels} pixels")


def _exif_of_jpeg(data: bytes) -> bytes:
    """What the first APP1 segment with EXIF data holds."""
    position, last = 2, len(data) - 4
    for _ in range(MOST_CHUNKS):
        if position > last or data[position] != 0xFF:
            return b""
        marker = data[position + 1]
        if marker == _START_OF_SCAN:
            return b""
        if marker == 0xFF:  # a byte that fills up
            position += 1
        elif marker in _STANDALONE:
            position += 2
        else:
            end = position + 2 + (data[position + 2] << 8 | data[position + 3])
            if marker == _APP1 and data.startswith(_EXIF, position + 4):
                return data[position + 4 : end]
            position = end
    return b""


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = len(PNG_MAGIC)
    for _ in range(MOST_CHUNKS):
        size = int.from_bytes(data[position : position + 4])
        kind = data[position + 4 : position + 8]
        if len(kind) < 4 or kind == b"IEND":
            return
        # Pixels are most of a picture, and not copied to be looked past.
        yield kind, b"" if kind == b"IDAT" else data[position + 8 : position + 8 + size]
        position += size + 12


def _webp(data: bytes) -> tuple[int, int, bytes]:
    """Height, width and EXIF data of a WebP; CorruptImage where it is cut off, or begins with no picture."""
    if len(data) < 25 or len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise CorruptImage(f"a WebP is cut off: it has {len(data)} bytes")
    kind, body = data[12:16], data[20:30]
    exif = b""
    if kind == b"VP8X":
        width = 1 + int.from_bytes(body[4:7], "little")
        height = 1 + int.from_bytes(body[7:10], "little")
        exif = _exif_of_webp(data) if body[0] & _WEBP_HAS_EXIF else b""
    elif kind == b"VP8L" and body[0] == 0x2F:
        sides = int.from_bytes(body[1:5], "little")
        width, height = 1 + (sides & 0x3FFF), 1 + (sides >> 14 & 0x3FFF)
    elif kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    else:
        raise CorruptImage(f"a WebP has a damaged header: it begins with {kind!r}")
    return height, width, exif


def _exif_of_webp(data: bytes) -> bytes:
    position = 12
    for _ in range(MOST_CHUNKS):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        if data[position : position + 4] in (b"EXIF", b""):
            return data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2  # chunks begin at even bytes
    return b""
