"""Pictures: what they are by their header, and their pixels, which Pillow says as well.

Shapes: h × w pixels of a picture, H × W of what is asked for, C = 3 channels.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.runtime.keyed import generator
from robot_foundry.shards.errors import CorruptImage, TooManyPixels
from robot_foundry.shards.pictures.decode import decode, verify
from robot_foundry.shards.pictures.fit import BORDER, FITS, fitted
from robot_foundry.shards.pictures.probe import Probed, picture_kind, probe


def smooth(height: int, width: int, bands: str = "RGB") -> Image.Image:
    """A picture with large and small structure, the same each time."""
    rough = generator("picture", height, width).integers(
        0, 256, (height // 8 + 2, width // 8 + 2, 4), np.uint8
    )
    layers = Image.fromarray(rough, "RGBA").resize((width, height), Image.Resampling.BICUBIC)
    if bands == "RGBA":
        return layers
    return layers.convert("RGBA").convert("RGB").convert(bands)


def saved(image: Image.Image, encoding: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, encoding, **options)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def png_of(
    height: int, width: int, depth: int, colours: int, rows: bytes, *chunks: tuple[bytes, bytes]
) -> bytes:
    """A PNG written by hand."""
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


JPEGS: dict[str, Callable[[], bytes]] = {
    "baseline": lambda: saved(smooth(37, 61), "JPEG"),
    "progressive": lambda: saved(smooth(37, 61), "JPEG", progressive=True),
    "4:4:4": lambda: saved(smooth(64, 48), "JPEG", subsampling=0),
    "gray": lambda: saved(smooth(33, 40, "L"), "JPEG"),
    "CMYK": lambda: saved(smooth(40, 33, "CMYK"), "JPEG"),
    "RGB": lambda: saved(smooth(40, 33), "JPEG", keep_rgb=True),
    "one pixel": lambda: saved(smooth(1, 1), "JPEG"),
    "bytes behind": lambda: saved(smooth(30, 30), "JPEG") + b"more",
}
OTHERS: dict[str, Callable[[], bytes]] = {
    "png": lambda: saved(smooth(37, 61), "PNG"),
    "gray png": lambda: saved(smooth(37, 61, "L"), "PNG"),
    "palette": lambda: saved(smooth(37, 61, "P"), "PNG"),
    "black and white": lambda: saved(smooth(37, 61, "1"), "PNG"),
    "lossless webp": lambda: saved(smooth(37, 61), "WEBP", lossless=True),
    "lossy webp": lambda: saved(smooth(37, 61), "WEBP"),
    "one pixel webp": lambda: saved(smooth(1, 1), "WEBP", lossless=True),
}
WHOLE = JPEGS | OTHERS


@pytest.mark.parametrize("name", WHOLE)
def test_pixels_are_those_of_pillow(name: str) -> None:
    data = WHOLE[name]()
    pixels_hwC = decode(data)
    assert np.array_equal(pixels_hwC, np.asarray(opened(data).convert("RGB")))
    assert verify(data) == probe(data)
    out_hwC = np.empty_like(pixels_hwC)
    assert decode(data, out=out_hwC) is out_hwC
    assert np.array_equal(out_hwC, pixels_hwC)


@pytest.mark.parametrize("name", WHOLE)
def test_the_header_alone_says_encoding_and_size(name: str) -> None:
    data, image = WHOLE[name](), opened(WHOLE[name]())
    encoding = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}[str(image.format)]
    assert probe(data) == Probed(encoding, image.height, image.width, 1)


@pytest.mark.parametrize("encoding", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright_as_exif_says(encoding: str, orientation: int) -> None:
    data = saved(smooth(20, 35), encoding, exif=turned(orientation))
    expected = ImageOps.exif_transpose(opened(data)).convert("RGB")
    assert np.array_equal(decode(data), np.asarray(expected))
    assert probe(data) == Probed(
        {"JPEG": "jpg"}.get(encoding, encoding.lower()), expected.height, expected.width, orientation
    )
    resized = ImageOps.fit(expected, (12, 16), Image.Resampling.BICUBIC)
    assert np.array_equal(decode(data, (16, 12), fit="crop"), np.asarray(resized))


@pytest.mark.parametrize(
    "exif", [turned(9), turned(0), b"Exif\0\0II*\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"x"]
)
def test_exif_data_that_says_no_orientation_turns_nothing(exif: bytes) -> None:
    assert probe(saved(smooth(20, 35), "JPEG", exif=exif)).orientation == 1


def test_orientation_is_read_in_both_byte_orders_and_widths() -> None:
    for order in "<>":
        magic = b"II*\0" if order == "<" else b"MM\0*"
        short = struct.pack(order + "IHHHIHH", 8, 1, 0x0112, 3, 1, 6, 0)
        long = struct.pack(order + "IHHHII", 8, 1, 0x0112, 4, 1, 6)
        for directory in (short, long):
            data = saved(smooth(20, 35), "JPEG", exif=b"Exif\0\0" + magic + directory)
            assert probe(data) == Probed("jpg", 35, 20, 6)


def test_16_bits_become_8_by_their_high_byte() -> None:
    high_hw3 = generator("high").integers(0, 256, (5, 7, 3), np.uint8)
    low_hw3 = generator("low").integers(0, 256, (5, 7, 3), np.uint8)
    wide = np.stack([high_hw3, low_hw3], axis=-1)
    rgb = b"".join(b"\0" + row.tobytes() for row in wide)
    assert np.array_equal(decode(png_of(5, 7, 16, 2, rgb)), high_hw3)
    gray = b"".join(b"\0" + row.tobytes() for row in wide[:, :, 0])
    assert np.array_equal(decode(png_of(5, 7, 16, 0, gray)), np.repeat(high_hw3[..., :1], 3, axis=2))


def test_transparency_is_over_white() -> None:
    image = smooth(37, 61, "RGBA")
    for encoding in ("PNG", "WEBP"):
        data = saved(image, encoding, **({"lossless": True, "exact": True} if encoding == "WEBP" else {}))
        rgba = np.asarray(opened(data).convert("RGBA")).astype(np.float64)
        share = rgba[..., 3:] / 255
        expected = np.floor(rgba[..., :3] * share + 255 * (1 - share) + 0.5)
        assert np.array_equal(decode(data), expected.astype(np.uint8))


def test_a_transparent_colour_is_white() -> None:
    palette = Image.new("P", (4, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1, 0, 1])
    row = [[255, 255, 255], [40, 50, 60]] * 2
    assert decode(saved(palette, "PNG", transparency=0)).tolist() == [row]
    wide = png_of(1, 2, 16, 0, b"\0\x12\x34\x12\x35", (b"tRNS", b"\x12\x34"))
    assert decode(wide).tolist() == [[[255] * 3, [0x12] * 3]]


@pytest.mark.parametrize("encoding", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(encoding: str) -> None:
    first, second = Image.new("RGB", (9, 6), (200, 10, 10)), Image.new("RGB", (9, 6), (10, 10, 200))
    data = saved(first, encoding, save_all=True, append_images=[second], lossless=True)
    assert opened(data).n_frames == 2
    assert decode(data).tolist() == np.asarray(first).tolist()


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("size", [(16, 24), (50, 20), (37, 61), (1, 1)])
def test_a_size_is_reached_as_pillow_does(name: str, size: tuple[int, int]) -> None:
    data, (height, width) = WHOLE[name](), size
    whole, bicubic = opened(data).convert("RGB"), Image.Resampling.BICUBIC
    stretched = np.asarray(whole.resize((width, height), bicubic))
    cropped = np.asarray(ImageOps.fit(whole, (width, height), bicubic))
    if data[:2] != b"\xff\xd8" or max(size) > 20:  # else the JPEG is decoded at a part of its size
        assert np.array_equal(decode(data, size, fit="stretch"), stretched)
        assert np.array_equal(decode(data, size, fit="crop"), cropped)
    out_HWC = np.empty((height, width, 3), np.uint8)
    for fit in FITS:
        assert np.array_equal(decode(data, size, fit=fit, out=out_HWC), decode(data, size, fit=fit))


def test_padding_is_gray_and_around_the_whole_picture() -> None:
    data = saved(smooth(30, 60), "PNG")
    padded_HWC = decode(data, (64, 64))
    assert np.array_equal(padded_HWC[16:48], decode(data, (32, 64), fit="stretch"))
    assert (padded_HWC[:16] == BORDER).all() and (padded_HWC[48:] == BORDER).all()
    tall = decode(saved(smooth(1000, 1), "PNG"), (8, 9))
    assert (np.delete(tall, 4, axis=1) == BORDER).all() and (tall[:, 4] != BORDER).any()


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 600), st.integers(1, 600))
def test_a_picture_fits_into_any_size(h: int, w: int, height: int, width: int) -> None:
    padded = fitted((h, w), (height, width), "pad")
    (row, column), (rows, columns) = padded.at, padded.size
    assert row >= 0 and row + rows <= height and column >= 0 and column + columns <= width
    assert (rows == height or columns == width) and min(rows, columns) >= 1
    assert abs(rows * w - columns * h) <= max(h, w)  # less than a pixel from its proportions
    left, upper, right, lower = fitted((h, w), (height, width), "crop").box
    assert 0 <= left < right <= w and 0 <= upper < lower <= h
    assert (right - left) * height == pytest.approx((lower - upper) * width)


def test_a_large_jpeg_is_as_if_it_was_decoded_whole_and_made_small() -> None:
    image = smooth(301, 401).resize((1601, 1203), Image.Resampling.BICUBIC)
    data = saved(image, "JPEG", quality=95)
    for fit, size in (("pad", (96, 96)), ("crop", (100, 60)), ("stretch", (64, 200))):
        made = decode(data, size, fit=fit).astype(int)
        exact = decode(saved(opened(data), "PNG"), size, fit=fit).astype(int)
        assert np.abs(made - exact).max() <= 16 and np.abs(made - exact).mean() < 1


def test_threads_change_no_pixel() -> None:
    data = [saved(smooth(300 + i, 400), "JPEG") for i in range(8)]

    def made(item: bytes) -> bytes:
        return decode(item, (64, 64)).tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(made, data)) == list(map(made, data))


@pytest.mark.parametrize("encoding", ["JPEG", "PNG", "WEBP"])
def test_a_cut_off_picture_is_corrupt(encoding: str) -> None:
    data = saved(smooth(80, 90), encoding)
    for size in (len(data) - 2, len(data) // 2, 40, 13, 9, 3):
        with pytest.raises(CorruptImage):
            verify(data[:size])


@pytest.mark.parametrize("encoding", ["JPEG", "PNG"])
def test_damage_is_found(encoding: str) -> None:
    data = saved(smooth(200, 300), encoding)
    middle = len(data) // 2
    with pytest.raises(CorruptImage, match="damaged"):
        verify(data[:middle] + bytes(100) + data[middle + 100 :])


def test_a_faulty_header_that_changes_no_pixel_is_let_pass_but_not_a_cut() -> None:
    data = saved(smooth(80, 90), "JPEG")
    scan = data.index(b"\xff\xda")
    end = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4])
    faulty = data[: end - 2] + b"\x00" + data[end - 1 :]  # spectral selection ends at 0, not 63
    assert np.array_equal(decode(faulty), decode(data))
    with pytest.raises(CorruptImage):
        verify(faulty[:-300])


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"", "an empty file"),
        (b"GIF89a" + bytes(20), "a GIF"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"\xef\xbb\xbf<?xml?><svg>", "an SVG"),
        (b"BM" + bytes(60), "a BMP"),
        (bytes(4) + b"ftypavif" + bytes(20), "an AVIF"),
        (b"no picture", "a file of an unknown kind"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, name: str) -> None:
    with pytest.raises(CorruptImage, match=f"^{name}"):
        probe(data)
    assert picture_kind(data).startswith(name)


def test_pictures_of_too_many_pixels_are_refused_by_their_header() -> None:
    bomb = png_of(50_000, 50_000, 1, 0, b"")
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\xff\x00" * 2
    webp = b"RIFF" + struct.pack("<I", 4 + len(extended)) + b"WEBP" + extended
    jpeg = bytearray(saved(smooth(16, 16), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65500, 65500)
    for data in (bomb, webp, bytes(jpeg)):
        with pytest.raises(TooManyPixels, match="pixels is outside"):
            decode(data, (8, 8))


def test_what_cannot_be_asked_is_said() -> None:
    data = saved(smooth(16, 16), "PNG")
    with pytest.raises(UsageError, match="no fit 'croop', did you mean 'crop'"):
        decode(data, (8, 8), fit="croop")
    out: NDArray[Any] = np.empty((8, 9, 3), np.uint8)
    with pytest.raises(FoundryError, match="does not fit"):
        decode(data, (8, 8), out=out)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n", b"RIFF"]))
def test_random_bytes_are_no_picture(data: bytes, head: bytes) -> None:
    with pytest.raises(CorruptImage):
        verify(head + data)
