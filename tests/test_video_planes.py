"""Videos whose planes go into JPEG as they are: the colours are those of the picture that was filmed.

Legend: H W pixels.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from foundry_testing.ingested import Ingested, pixels
from foundry_testing.lerobot_datasets import CAMERA, FPS, recordings, write_dataset

from robot_foundry.ingest.sources.robot.shared_video import SharedVideo
from robot_foundry.ingest.sources.robot.source_episode import Planar

# As FFmpeg numbers matrices and ranges.
BT_601, BT_709, UNSAID = 6, 1, 2
LIMITED, FULL = 1, 2
COLOURS = (
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 255),
    (0, 0, 0),
    (130, 90, 40),
    (12, 200, 190),
    (90, 90, 90),
)


def filmed(height, width):
    """Bars of colours above a wedge of grays, uint8 [H, W, 3]."""
    bars = np.repeat(np.array(COLOURS, np.uint8), -(-width // len(COLOURS)), 0)[:width]
    picture = np.broadcast_to(bars, (height, width, 3)).copy()
    picture[height // 2 :] = np.linspace(0, 255, width).round().astype(np.uint8)[None, :, None]
    return picture


def planes_by_hand(picture_HW3, matrix, limited):
    """Y, Cb, Cr by the formulas of the standards (ITU-R BT.601 and BT.709), averaged over four pixels."""
    red, blue = (0.2126, 0.0722) if matrix == BT_709 else (0.299, 0.114)
    r, g, b = np.moveaxis(picture_HW3.astype(float), -1, 0)
    luma = red * r + (1 - red - blue) * g + blue * b
    chroma = (b - luma) / (2 - 2 * blue), (r - luma) / (2 - 2 * red)
    height, width = luma.shape
    halved = [c.reshape(height // 2, 2, width // 2, 2).mean((1, 3)) for c in chroma]
    planes = [luma * 219 / 255 + 16 if limited else luma]
    planes += [c * (224 / 255 if limited else 1) + 128 for c in halved]
    return [plane.round().clip(0, 255).astype(np.uint8) for plane in planes]


def write(path, picture_HW3, matrix, color_range, count=5):
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = picture_HW3.shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.options = {"crf": "1"}
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, color_range
        for number in range(count):
            frame = av.VideoFrame(width, height, "yuv420p")
            frame.colorspace, frame.color_range, frame.pts = matrix, color_range, number
            for plane, values in zip(
                frame.planes, planes_by_hand(picture_HW3, matrix, color_range == LIMITED), strict=True
            ):
                rows = np.zeros((plane.height, plane.line_size), np.uint8)
                rows[:, : plane.width] = values
                plane.update(rows.tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def inside(picture_HW3):
    """Away from edges of colours, where halved ones mix."""
    height, width = picture_HW3.shape[:2]
    columns = [c for c in range(width) if 4 <= c % (width // len(COLOURS)) < width // len(COLOURS) - 4]
    rows = [*range(4, height // 2 - 4), *range(height // 2 + 4, height - 4)]
    return picture_HW3[np.ix_(rows, columns)].astype(int)


@pytest.mark.parametrize(
    ("matrix", "color_range", "is_planar"),
    [(BT_601, LIMITED, True), (UNSAID, LIMITED, True), (BT_601, FULL, True), (BT_709, LIMITED, False)],
)
def test_stored_colours_are_those_that_were_filmed(tmp_path, matrix, color_range, is_planar):
    truth = filmed(128, 160)
    write_dataset(tmp_path / "in", recordings((5,)), version="v2.1")
    video = tmp_path / f"in/videos/chunk-000/{CAMERA}/episode_000000.mp4"
    write(video, truth, matrix, color_range)
    (first, *_) = SharedVideo(video, "it").frames(0, 5, planar=True)
    assert isinstance(first, Planar) == is_planar
    made = Ingested("lerobot", tmp_path / "in", tmp_path / "store", ["content.encoding.quality=100"])
    stored = [pixels(data) for data in made.images("episode_000000", "top")]
    assert len(stored) == 5
    for picture in stored:
        difference = np.abs(inside(picture) - inside(truth))
        assert difference.max() <= 6 and difference.mean() < 1.5


def test_planes_and_rgb_give_the_same_picture(tmp_path):
    """A turned camera goes through RGB; turned back it is what the planes gave, as near as JPEG is."""
    write_dataset(tmp_path / "in", recordings((5,)), version="v2.1")
    write(tmp_path / f"in/videos/chunk-000/{CAMERA}/episode_000000.mp4", filmed(128, 160), BT_601, LIMITED)
    plain = Ingested("lerobot", tmp_path / "in", tmp_path / "plain")
    turned = Ingested("lerobot", tmp_path / "in", tmp_path / "turned", ["content.flip=both"])
    for a, b in zip(
        plain.images("episode_000000", "top"), turned.images("episode_000000", "top"), strict=True
    ):
        difference = np.abs(inside(pixels(a)) - inside(np.ascontiguousarray(pixels(b)[::-1, ::-1])))
        assert difference.mean() < 1 and difference.max() <= 8


@pytest.mark.parametrize(("height", "width"), [(64, 96), (130, 96)])
def test_small_pictures_keep_their_colours_whole(tmp_path, height, width):
    """Below 128 pixels a JPEG is not halved in colours, so these go through RGB."""
    write(tmp_path / "a.mp4", filmed(height, width), BT_601, LIMITED, 1)
    (picture,) = SharedVideo(tmp_path / "a.mp4", "it").frames(0, 1, planar=True)
    assert isinstance(picture, np.ndarray) and picture.shape == (height, width, 3)
