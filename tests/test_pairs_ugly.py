"""Pictures and texts as sources have them at their worst: what is kept stays as it is, the rest is told.

What docs/pairs.md promises of each. What is kept can be decoded, and agrees with what is said of it.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from foundry_testing.pair_ingests import DATASET, Sample, Stored, ingest, picture, stored, write_tar
from PIL import Image

from robot_foundry.catalog.validation.validate import validate
from robot_foundry.ingest.report import Report
from robot_foundry.shards.pictures.decode import decode


def saved(mode: str, name: str, size: tuple[int, int] = (20, 30), **options: object) -> bytes:
    """A picture (height, width) of that mode of Pillow."""
    with Image.open(io.BytesIO(picture(1, size, "PNG"))) as image:
        if mode == "I;16":
            made = Image.fromarray(np.arange(size[0] * size[1], dtype=np.uint16).reshape(size) * 90)
        elif mode in ("RGBA", "LA"):
            made = image.convert(mode)
            made.putalpha(image.convert("L"))
        else:
            made = image.convert(mode)
    sink = io.BytesIO()
    made.save(sink, name, **options)
    return sink.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved("RGB", "JPEG", exif=exif)


def animated(name: str) -> bytes:
    frames = [Image.open(io.BytesIO(picture(seed, (20, 30), "PNG"))) for seed in range(3)]
    sink = io.BytesIO()
    frames[0].save(sink, name, save_all=True, append_images=frames[1:])
    return sink.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header tells of so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


JPEG, PNG, WEBP = (saved("RGB", name, (200, 200)) for name in ("JPEG", "PNG", "WEBP"))
# By name: ending, bytes, and how it is stored: encoding and upright height and width.
KEPT = {
    "cmyk": ("jpg", saved("CMYK", "JPEG"), ("jpg", 20, 30)),
    "gray": ("jpg", saved("L", "JPEG"), ("jpg", 20, 30)),
    "progressive": ("jpg", saved("RGB", "JPEG", progressive=True), ("jpg", 20, 30)),
    "turned": ("jpg", turned(6), ("jpg", 30, 20)),
    "mirrored": ("jpg", turned(2), ("jpg", 20, 30)),
    "deep": ("png", saved("I;16", "PNG"), ("png", 20, 30)),
    "palette": ("png", saved("P", "PNG"), ("png", 20, 30)),
    "bits": ("png", saved("1", "PNG"), ("png", 20, 30)),
    "alpha": ("png", saved("RGBA", "PNG"), ("png", 20, 30)),
    "grayalpha": ("png", saved("LA", "PNG"), ("png", 20, 30)),
    "apng": ("png", animated("PNG"), ("png", 20, 30)),
    "lossless": ("webp", saved("RGB", "WEBP", lossless=True), ("webp", 20, 30)),
    "webpalpha": ("webp", saved("RGBA", "WEBP"), ("webp", 20, 30)),
    "moving": ("webp", animated("WEBP"), ("webp", 20, 30)),
    "dot": ("png", saved("RGB", "PNG", (1, 1)), ("png", 1, 1)),
    "line": ("jpg", saved("RGB", "JPEG", (1, 500)), ("jpg", 1, 500)),
    "misnamed": ("png", saved("RGB", "JPEG"), ("jpg", 20, 30)),
    "upper": ("JPEG", saved("RGB", "JPEG"), ("jpg", 20, 30)),
}
DAMAGED = "its picture is {} that is damaged or cut off"
HEADER = "its picture is {} whose header is damaged or cut off"
OTHER = "its picture is {}, and JPEG, PNG and WebP are taken"
LARGE = "its picture has more than 64 Mi pixels"
# By name: ending, bytes, and why it is refused.
REFUSED = {
    "cutjpg": ("jpg", JPEG[:-300], DAMAGED.format("a JPEG")),
    "cutpng": ("png", PNG[:-300], DAMAGED.format("a PNG")),
    "cutwebp": ("webp", WEBP[:-30], HEADER.format("a WebP")),
    "startjpg": ("jpg", JPEG[:20], HEADER.format("a JPEG")),
    "flippng": ("png", flipped(PNG, 2000), DAMAGED.format("a PNG")),
    "hundred": ("png", png_that_claims(10_000, 10_000), LARGE),
    "bomb": ("png", png_that_claims(60_000, 60_000), LARGE),
    "hollow": ("png", png_that_claims(500, 500), DAMAGED.format("a PNG")),
    "nothing": ("png", png_that_claims(0, 5), HEADER.format("a PNG")),
    "gif": ("jpg", saved("P", "GIF"), OTHER.format("a GIF")),
    "bmp": ("jpg", saved("RGB", "BMP"), OTHER.format("a BMP")),
    "tiff": ("png", saved("RGB", "TIFF"), OTHER.format("a TIFF")),
    "svg": ("png", b'<?xml version="1.0"?>\n<svg xmlns="x"/>', OTHER.format("an SVG")),
    "page": ("jpg", b"<!DOCTYPE html>\n<title>404</title>", OTHER.format("a web page or XML")),
    "avif": ("jpg", b"\0\0\0\x20ftypavif" + bytes(100), OTHER.format("an AVIF")),
    "empty": ("jpg", b"", OTHER.format("an empty file")),
    "text": ("jpg", b"not found", OTHER.format("a file of an unknown kind")),
    "namedgif": ("gif", saved("P", "GIF"), "its picture is .gif, and .jpg, .png and .webp are taken"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report, dict[str, Stored]]:
    """A store of all of them, and what was kept by name."""
    folder = tmp_path_factory.mktemp("ugly")
    samples = [Sample(name, {row[0]: row[1]}, f"it is {name}") for name, row in {**KEPT, **REFUSED}.items()]
    write_tar(folder / "source" / "a.tar", samples)
    report = ingest(folder / "source", folder / "store")
    return folder / "store", report, {pair.id: pair for pair in stored(folder / "store", report)}


def test_nothing_is_kept_or_refused_but_that(made):
    _, report, found = made
    assert set(found) == set(KEPT)
    assert report.num_refused == len(REFUSED) and report.discovered == len(KEPT) + len(REFUSED)


@pytest.mark.parametrize("name", KEPT)
def test_what_can_be_decoded_stays_as_it_is(made, name):
    _, data, (encoding, height, width) = KEPT[name]
    pair = made[2][name]
    assert pair.pictures == (data,)
    (entry,) = pair.said["pictures"]
    assert (entry["encoding"], entry["height"], entry["width"]) == (encoding, height, width)
    assert entry["member"].endswith(f".{encoding}")
    assert decode(data).shape == (height, width, 3)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_told_with_its_place(made, name):
    reason = REFUSED[name][2]
    places = next(entry.unit for entry in made[1].refused if entry.reason == reason)
    alike = [other for other, row in REFUSED.items() if row[2] == reason]
    named = places.removeprefix("a.tar#").removesuffix(", …").split(", ")
    assert set(named) <= set(alike) and (name in named or len(named) == 5)


def test_what_is_kept_is_found_whole(made):
    (found,) = validate(DATASET, store=made[0], deep=True)
    assert found.damage == ()


def test_pictures_that_become_smaller_are_any_of_those(tmp_path):
    samples = [Sample(name, {row[0]: row[1]}, f"it is {name}") for name, row in {**KEPT, **REFUSED}.items()]
    write_tar(tmp_path / "source" / "a.tar", samples)
    report = ingest(tmp_path / "source", tmp_path / "store", "content.resize=10")
    found = {pair.id: pair for pair in stored(tmp_path / "store", report)}
    assert set(found) == set(KEPT)
    for name, (_, data, (_, height, width)) in KEPT.items():
        (entry,) = found[name].said["pictures"]
        scale = min(1, 10 / max(height, width))
        expected = tuple(max(1, round(side * scale)) for side in (height, width))
        assert (entry["height"], entry["width"]) == expected
        assert (found[name].pictures == (data,)) == (name == "dot")


def test_texts_of_any_kind(tmp_path):
    one = {"png": picture(1, name="PNG")}
    kept = {
        "nul": "a\0b",
        "lines": "two\r\nlines",
        "wide": "\u9053 \U0001f600 e\u0301",
        "spaced": "  about  ",
        "turned": "\u202eabc",
    }
    samples = [Sample(name, one, told={"caption": text}) for name, text in kept.items()]
    broken = {
        "half": '{"caption": "\\ud800"}',
        "halfmeta": '{"caption": "fine", "x": {"y": "\\ud800"}}',
        "blank": '{"caption": " "}',
        "number": '{"caption": 7}',
        "place": '{"caption": "an <image> of it"}',
        "twice": '{"caption": "a", "caption": "b"}',
    }
    samples += [Sample(name, one, told=text) for name, text in broken.items()]
    write_tar(tmp_path / "source" / "a.tar", samples)
    report = ingest(tmp_path / "source", tmp_path / "store")
    assert {p.id: p.said["captions"]["caption"] for p in stored(tmp_path / "store", report)} == kept
    assert {entry.unit.removeprefix("a.tar#") for entry in report.refused} == set(broken)
