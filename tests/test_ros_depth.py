"""Depth maps of every form: bytes that are kept, and numbers by hand and by the formula of the publisher.

Legend: H W pixels.
"""

from __future__ import annotations

import io
import struct

import numpy as np
from foundry_testing.ingested import Ingested
from foundry_testing.ros_bags import arm, compressed, image, spec_file, write_bag
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from robot_foundry.ingest.sources.ros.bags.definitions import Undecodable
from robot_foundry.ingest.sources.ros.messages.rvl import rvl_decoded

# What compressed_depth_image_transport writes of its defaults, 10 m at most and a quantisation of 100:
# A = 100 · 101, B = 1 - A / 10, both float32.
PARAMETERS = struct.pack("<iff", 0, 10100.0, -1009.0)
# By hand: A / (4041 - B) = 10100 / 5050 = 2 m; 10100 / 10100 = 1 m; 10100 / 1010 = 10 m; and not known.
INVERSE_HW = np.array([[4041, 9091], [1, 0]], np.uint16)
OF_INVERSE_HW = np.array([[2000, 1000], [10000, 0]], np.uint16)
# By hand: 2 zeros, 3 others of +5, 0, +2, whose zigzag is 10, 0, 4; 10 is 2 and more, then 1.
RVL = struct.pack("<II", 5, 1) + bytes.fromhex("0004a123")


def png(pixels_HW):
    sink = io.BytesIO()
    Image.fromarray(pixels_HW).save(sink, "PNG")
    return sink.getvalue()


def rvl(depth_HW):
    """As Wilson's paper has it, one number after the other."""
    halves = []

    def put(number):
        while True:
            number, low = number >> 3, number & 7
            halves.append(low | (8 if number else 0))
            if not number:
                return

    flat, at, last = [int(value) for value in depth_HW.reshape(-1)], 0, 0
    while at < len(flat):
        run = next((n for n, value in enumerate(flat[at:]) if value), len(flat) - at)
        put(run)
        at += run
        others = next((n for n, value in enumerate(flat[at:]) if not value), len(flat) - at)
        put(others)
        for value in flat[at : at + others]:
            put(2 * (value - last) if value >= last else 2 * (last - value) - 1)
            last = value
        at += others
    halves += [0] * (-len(halves) % 8)
    words = [
        sum(half << (28 - 4 * n) for n, half in enumerate(halves[i : i + 8]))
        for i in range(0, len(halves), 8)
    ]
    height, width = depth_HW.shape
    return struct.pack(f"<II{len(words)}I", width, height, *words)


def depth_of(tmp_path, *messages):
    """What comes of the first message of each topic `/0`, `/1`, …, as arrays; and the ingest."""
    sent = [*arm(), *(message for n in range(20) for message in (one(n / 10) for one in messages))]
    depth = {f"d{n}": {"topic": f"/{n}"} for n in range(len(messages))}
    made = Ingested(
        spec_file(tmp_path, {"depth": depth}), write_bag(tmp_path / "take", sent), tmp_path / "store"
    )
    source, maps = made.source("take"), []
    for name in depth:
        lengths = source[f"{name}/lengths"]
        assert len(lengths) == 39 and lengths.sum() == len(source[f"{name}/values"])
        maps.append(np.asarray(Image.open(io.BytesIO(bytes(source[f"{name}/values"][: lengths[0]])))))
    return maps, made


def test_depth_is_kept_as_16_bit_png_of_millimetres(tmp_path):
    millimetres_HW = np.arange(24, dtype=np.uint16).reshape(4, 6) * 100
    sink = io.BytesIO()
    Image.fromarray(millimetres_HW).save(sink, "PNG")
    metres_HW = (millimetres_HW / 1000).astype("<f4")
    metres_HW[0, 0] = np.nan
    sent = arm()
    for n in range(20):
        at = n / 10
        sent.append(compressed("/png", at, b"\0" * 12 + sink.getvalue(), "16UC1; compressedDepth png"))
        sent.append(image("/mm", at, millimetres_HW, "16UC1", height=4, width=6, step=12))
        sent.append(image("/m", at, metres_HW, "32FC1", height=4, width=6, step=24))
    depth = {name: {"topic": f"/{name}"} for name in ("png", "mm", "m")}
    spec, bag = spec_file(tmp_path, {"depth": depth}), write_bag(tmp_path / "take", sent)
    source = Ingested(spec, bag, tmp_path / "store").source("take")
    for name in depth:
        lengths = source[f"{name}/lengths"]
        assert len(lengths) == 39 and lengths.sum() == len(source[f"{name}/values"])
        first = bytes(source[f"{name}/values"][: lengths[0]])
        assert (np.asarray(Image.open(io.BytesIO(first))) == millimetres_HW).all(), name
    assert bytes(source["png/values"][: source["png/lengths"][0]]) == sink.getvalue()


def test_inverse_depth_is_metres_again_by_hand(tmp_path):
    form = "32FC1; compressedDepth png"
    maps, _ = depth_of(
        tmp_path,
        lambda at: compressed("/0", at, PARAMETERS + png(INVERSE_HW), form),
        lambda at: compressed("/1", at, PARAMETERS + png(INVERSE_HW), "32FC1; compressedDepth"),
        lambda at: compressed("/2", at, PARAMETERS + rvl(INVERSE_HW), "32FC1; compressedDepth rvl"),
        lambda at: compressed("/3", at, b"\0" * 12 + rvl(INVERSE_HW), "16UC1; compressedDepth rvl"),
    )
    assert all((got == OF_INVERSE_HW).all() for got in maps[:3])
    assert (maps[3] == INVERSE_HW).all()


def test_inverse_depth_of_the_publishers_formula_is_as_near_as_it_quantises(tmp_path):
    """`A / depth + B` cut to a whole number: a step of it at d metres is d² / A."""
    metres_HW = np.linspace(0.4, 9.9, 96).reshape(8, 12).astype(np.float32)
    whole_HW = (np.float32(10100) / metres_HW + np.float32(-1009)).astype(np.uint16)
    (got,), _ = depth_of(
        tmp_path, lambda at: compressed("/0", at, PARAMETERS + png(whole_HW), "32FC1; compressedDepth png")
    )
    step_HW = metres_HW.astype(np.float64) ** 2 / 10100
    off_HW = got / 1000 - metres_HW
    assert (off_HW >= -0.0006).all() and (off_HW <= 1.02 * step_HW + 0.0006).all()


def test_rvl_by_hand():
    assert rvl_decoded(RVL).tolist() == [[0, 0, 5, 5, 7]]


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        np.uint16,
        st.tuples(st.integers(1, 7), st.integers(1, 9)),
        elements=st.sampled_from([0, 1, 900, 65535]),
    )
)
def test_every_map_comes_back_from_rvl(depth_HW):
    assert (rvl_decoded(rvl(depth_HW)) == depth_HW).all()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64), st.integers(1, 5), st.integers(1, 5))
def test_rvl_of_any_bytes_is_a_map_or_a_sentence(data, height, width):
    try:
        got = rvl_decoded(struct.pack("<II", width, height) + data)
    except Undecodable as error:
        assert "its RVL data" in str(error)
    else:
        assert got.shape == (height, width)


def test_maps_that_are_damaged_are_counted_each_with_its_reason(tmp_path):
    whole = PARAMETERS + png(INVERSE_HW)
    flipped = bytearray(whole)
    flipped[-20] ^= 1
    bad = [
        (bytes(flipped), "32FC1; compressedDepth png", "its PNG is damaged"),
        (whole[:-5], "32FC1; compressedDepth png", "its PNG is damaged"),
        (b"\0" * 12 + png(INVERSE_HW), "32FC1; compressedDepth png", "its inverse depth has no parameters"),
        (png(INVERSE_HW), "32FC1; compressedDepth png", "its inverse depth has no parameters"),
        (b"\0" * 12 + RVL[:-4], "16UC1; compressedDepth rvl", "its RVL data is cut off"),
        (b"\0" * 12 + struct.pack("<II", 1 << 20, 1 << 20), "16UC1; compressedDepth rvl", "its RVL data has"),
        (b"\0" * 12 + png(np.zeros((2, 2), np.uint8)), "16UC1; compressedDepth png", "no 16-bit PNG"),
        (b"\0" * 12, "16UC1; compressedDepth zstd", "no 16-bit PNG"),
    ]
    sent = [*arm(), *(compressed("/d", n / 10, whole, "32FC1; compressedDepth png") for n in range(20))]
    sent += [compressed("/d", 0.55 + n / 100, data, form) for n, (data, form, _) in enumerate(bad)]
    spec = spec_file(tmp_path, {"depth": {"d": {"topic": "/d"}}})
    made = Ingested(spec, write_bag(tmp_path / "take", sent), tmp_path / "store")
    tally = made.episode("take")["attributes"]["ros"]["topics"]["/d"]
    assert (tally["read"], tally["refused"], tally["used"]) == (28, 8, 20)
    for _, _, reason in bad:
        assert any(reason in told for told in tally["reasons"]), (reason, tally["reasons"])
