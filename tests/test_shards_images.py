"""Image codecs: exact against Pillow, decoding into a buffer, and refusal of what is damaged or hostile."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.errors import CorruptImage
from robot_foundry.shards.images import Headers, codec_versions, decode, encode_jpeg, probe


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 90, width))[..., None]
    return np.clip(smooth + rng.normal(40, 12, (height, width, 3)), 0, 255).astype(np.uint8)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, form, **options)
    return sink.getvalue()


def pillow(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


JPEG, PNG = encode_jpeg(picture(48, 64)), saved(Image.fromarray(picture(48, 64)), "PNG")


@settings(max_examples=25)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 100))
def test_jpeg_decodes_to_the_same_pixels_as_pillow(height: int, width: int, quality: int) -> None:
    data = encode_jpeg(picture(height, width), quality)
    assert probe(data) == ("jpg", height, width)
    assert np.array_equal(decode(data), pillow(data))


def test_chroma_is_kept_whole_in_small_images() -> None:
    for height, width, chroma in [(84, 84, "444"), (127, 640, "444"), (128, 128, "420"), (480, 640, "420")]:
        assert simplejpeg.decode_jpeg_header(encode_jpeg(picture(height, width)))[3] == chroma


def test_encoding_is_a_function_of_the_pixels_and_close_to_them() -> None:
    image = picture(84, 84)
    assert encode_jpeg(image) == encode_jpeg(np.asfortranarray(image)) == encode_jpeg(image[::-1][::-1])
    assert (
        np.abs(decode(encode_jpeg(image)).astype(int) - image).mean() < 4
    )  # of noise with a deviation of 12


@pytest.mark.parametrize("data", [JPEG, PNG])
def test_decoding_into_a_slot_of_a_batch_touches_only_that_slot(data: bytes) -> None:
    batch = np.full((3, 48, 64, 3), 7, dtype=np.uint8)
    slot = batch[1]
    assert decode(data, slot) is slot
    assert np.array_equal(batch[1], pillow(data))
    assert (batch[[0, 2]] == 7).all()
    for wrong in (np.empty((48, 65, 3), np.uint8), np.empty((48, 64, 3), np.int8), batch[:, :, :, ::2][0]):
        with pytest.raises(FoundryError, match="48 x 64 does not fit"):
            decode(data, wrong)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_png_mode_becomes_rgb(mode: str) -> None:
    data = saved(Image.fromarray(picture(20, 30)).convert(mode), "PNG")
    assert probe(data) == ("png", 20, 30)
    assert np.array_equal(decode(data), pillow(data))


def test_gray_progressive_and_cmyk_jpegs_become_rgb() -> None:
    image = Image.fromarray(picture(40, 40))
    gray, progressive = saved(image.convert("L"), "JPEG"), saved(image, "JPEG", progressive=True)
    assert np.array_equal(decode(gray), pillow(gray))
    assert np.array_equal(decode(progressive), pillow(progressive))
    assert decode(saved(image.convert("CMYK"), "JPEG")).shape == (40, 40, 3)


@pytest.mark.parametrize("data", [JPEG, PNG])
def test_every_truncation_is_refused(data: bytes) -> None:
    for size in [*range(0, len(data), 29), *range(len(data) - 24, len(data))]:
        with pytest.raises(CorruptImage):
            decode(data[:size])
    with pytest.raises(CorruptImage):
        decode(data[: len(data) // 2], np.empty((48, 64, 3), np.uint8))


@given(st.data())
def test_damage_is_an_error_or_an_image_of_that_size(data: st.DataObject) -> None:
    original = data.draw(st.sampled_from([JPEG, PNG]))
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    try:
        _, height, width = probe(bytes(changed))
        if height * width > 10**6:
            return
        assert decode(bytes(changed)).shape == (height, width, 3)
    except CorruptImage:
        pass


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def test_what_is_not_a_small_rgb_image_is_refused() -> None:
    sixteen = saved(Image.fromarray(np.zeros((4, 4), np.uint16)), "PNG")
    height_at = JPEG.index(b"\xff\xc0") + 5
    huge = JPEG[:height_at] + struct.pack(">HH", 60000, 60000) + JPEG[height_at + 4 :]
    gif = saved(Image.fromarray(picture(4, 4)), "GIF")
    cases = {
        "neither JPEG nor PNG": gif,
        "16-bit": sixteen,
        "60000 x 60000": huge,
        "100000 x 100000": png_header(100000, 100000) + bytes(100),
        "0 x 5": png_header(5, 0),
        "cut off inside its header": PNG[:20],
    }
    for reason, data in cases.items():
        with pytest.raises(CorruptImage, match=reason):
            decode(data)


def test_only_images_are_encoded() -> None:
    for wrong in (np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(FoundryError, match="uint8"):
            encode_jpeg(wrong)
    with pytest.raises(FoundryError, match="quality 0"):
        encode_jpeg(picture(8, 8), 0)


def test_codec_versions_name_the_library_that_decides_the_bytes() -> None:
    assert codec_versions()["simplejpeg"] == simplejpeg.__version__
    assert set(codec_versions()) <= {"simplejpeg", "libjpeg_turbo"}


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_headers_that_were_seen_tell_what_probe_tells(form: str) -> None:
    sizes, seen = ((40, 60), (40, 64), (16, 16)), Headers()
    pictures = [
        saved(Image.fromarray(picture(*size, seed)), form, optimize=optimize)
        for optimize in (False, True)
        for seed in range(3)
        for size in sizes
    ]
    for data in (*pictures, *map(memoryview, pictures)):
        assert seen.probe(data) == probe(bytes(data))


def test_a_header_cut_off_or_damaged_is_judged_as_if_no_other_had_been_seen() -> None:
    seen = Headers()
    assert seen.probe(JPEG) == seen.probe(JPEG) == ("jpg", 48, 64)
    start = JPEG.index(b"\xff\xda")
    damaged = [JPEG[:end] for end in range(0, start, 11)]
    damaged += [JPEG[:at] + bytes([JPEG[at] ^ 0x41]) + JPEG[at + 1 :] for at in range(start)]
    for data in damaged:
        try:
            expected = probe(data)
        except CorruptImage:
            with pytest.raises(CorruptImage):
                seen.probe(data)
        else:
            assert seen.probe(data) == expected
