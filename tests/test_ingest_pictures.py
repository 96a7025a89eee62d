"""How images reach the tar: untouched, or changed as `content` says and encoded once.

Legend: H W pixels.
"""

from __future__ import annotations

import io

import h5py
import numpy as np
import pytest
from foundry_testing.ingested import jpeg, pixels, smooth
from PIL import Image

from robot_foundry.ingest.engine import run
from robot_foundry.ingest.robot.content.pictures import Pictures, advice, codecs
from robot_foundry.ingest.robot.spec.spec import Content, content_json
from robot_foundry.ingest.robot.spec.spec_reader import spec_from_json
from robot_foundry.ingest.sources import Refused, layout
from robot_foundry.ingest.sources.robot.source_episode import Encoded, SourceCamera, SourceEpisode
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.ingest.spec.yaml_text import parse_yaml
from robot_foundry.runtime.errors import UsageError

SMOOTH_ERROR = 8
JPEG = jpeg(smooth(1))


def episode(*names, height=48, width=64):
    """An open episode without frames."""
    cameras = [SourceCamera(name, f"obs/{name}_image", height, width) for name in names]
    return SourceEpisode(1, 10.0, "spec", None, cameras, {}, {}, {}, {}, iter(()))


def stored(content, frames, *names):
    """(camera, suffix, data) of all frames, and what episode.json says of the cameras."""
    pictures = Pictures(episode(*names), content)
    images = [image for n, shown in enumerate(frames) for image in pictures.of_frame(n, shown)]
    return images, pictures.cameras_json()


def png(pixels_HW3):
    file = io.BytesIO()
    Image.fromarray(pixels_HW3).save(file, "PNG")
    return file.getvalue()


def test_encoded_images_pass_through_and_pixels_are_encoded_once():
    frames = [[Encoded(JPEG, "jpeg"), Encoded(png(smooth(2)), "png"), smooth(3)]]
    images, told = stored(Content(), frames, "a", "b", "c")
    assert [(name, suffix) for name, suffix, _ in images] == [("a", "jpg"), ("b", "png"), ("c", "jpg")]
    assert [images[0][2], images[1][2]] == [JPEG, png(smooth(2))]
    assert np.abs(pixels(images[2][2]).astype(int) - smooth(3)).max() <= SMOOTH_ERROR
    assert [told[name]["encoding"] for name in "abc"] == ["jpeg", "png", "jpeg"]
    assert told["a"] == {"array": "obs/a_image", "height": 48, "width": 64, "encoding": "jpeg"}


@pytest.mark.parametrize(
    ("content", "turn"),
    [
        (Content(flip={"*": "vertical"}), lambda p: p[::-1]),
        (Content(flip={"*": "horizontal"}), lambda p: p[:, ::-1]),
        (Content(flip={"*": "both"}), lambda p: p[::-1, ::-1]),
        (Content(channel_order={"*": "bgr"}), lambda p: p[:, :, ::-1]),
        (Content(flip={"*": "vertical", "a": "none"}), lambda p: p),
        (Content(resize=(24, 32)), lambda p: np.asarray(Image.fromarray(p).resize((32, 24), 1))),
    ],
)
@pytest.mark.parametrize("is_encoded", [False, True])
def test_options_do_what_they_say_to_pixels_and_to_encoded_images(content, turn, is_encoded):
    picture = Encoded(JPEG, "jpeg") if is_encoded else smooth(1)
    source = pixels(JPEG) if is_encoded else smooth(1)
    ((_, _, data),), told = stored(content, [[picture]], "a")
    expected = turn(np.ascontiguousarray(source))
    assert np.abs(pixels(data).astype(int) - expected).max() <= SMOOTH_ERROR
    assert (told["a"]["height"], told["a"]["width"]) == expected.shape[:2]
    assert (data == JPEG) == (is_encoded and np.array_equal(expected, source))


def test_an_option_that_changes_no_pixel_leaves_the_bytes():
    for content in (
        Content(resize=(48, 64)),
        Content(flip={"*": "none"}),
        Content(channel_order={"*": "rgb"}),
        Content(flip={"b": "vertical"}),
    ):
        images, _ = stored(content, [[Encoded(JPEG, "jpeg"), smooth(1)]], "a", "b")
        assert images[0][2] == JPEG


def test_quality_is_for_what_is_encoded():
    fine, _ = stored(Content(), [[smooth(1)]], "a")
    content = spec_from_json(load_spec("robomimic", ["content.encoding.quality=30"]).to_json(), "x").content
    coarse, _ = stored(content, [[smooth(1)]], "a")
    assert len(coarse[0][2]) < len(fine[0][2])


def test_renamed_cameras_are_sorted_by_their_new_names_and_keep_the_old():
    images, told = stored(Content(rename={"a": "z"}), [[smooth(1), smooth(2)]], "a", "b")
    assert [name for name, _, _ in images] == ["b", "z"]
    assert told["z"]["source_name"] == "a" and told["z"]["array"] == "obs/a_image"
    assert "source_name" not in told["b"]
    assert np.abs(pixels(images[1][2]).astype(int) - smooth(1)).max() <= SMOOTH_ERROR


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Content(flip={"frnt": "both"}), "no camera 'frnt', which content.flip names, did you mean 'front'?"),
        (Content(channel_order={"x": "bgr"}), r"which content.channel_order names \(cameras: front, side\)"),
        (Content(rename={"wrist": "w"}), "which content.rename names"),
        (Content(rename={"front": "side"}), "two of its cameras would be called 'side'"),
    ],
)
def test_options_for_cameras_that_are_not_there_are_refused(content, message):
    with pytest.raises(Refused, match=message):
        Pictures(episode("front", "side"), content)


def test_a_lost_image_repeats_the_last_one_twice_and_then_there_is_none():
    one, two = Encoded(JPEG, "jpeg"), Encoded(jpeg(smooth(5)), "jpeg")
    frames = [[None], [one], [None], [two], [None], [None], [None], [one]]
    pictures = Pictures(episode("a"), Content())
    shown = [[data for _, _, data in pictures.of_frame(n, frame)] for n, frame in enumerate(frames)]
    assert shown == [[], [one.data], [one.data], [two.data], [two.data], [two.data], [], [one.data]]
    assert pictures.cameras_json()["a"]["held"] == [2, 4, 5]


def test_frames_that_are_passed_over_count_as_seen():
    frames = [[Encoded(JPEG, "jpeg")], [None], [Encoded(JPEG, "jpeg")]]
    read, passed = Pictures(episode("a"), Content()), Pictures(episode("a"), Content())
    for n, frame in enumerate(frames):
        list(read.of_frame(n, frame))
        passed.pass_over(n, frame)
    assert read.cameras_json() == passed.cameras_json()


def test_the_size_is_that_of_the_images_and_may_not_change():
    _, told = stored(Content(), [[Encoded(jpeg(smooth(1, 20, 30)), "jpeg")]], "a")
    assert (told["a"]["height"], told["a"]["width"]) == (20, 30)
    frames = [[smooth(1, 20, 30)], [smooth(1, 24, 30)]]
    told = r"'a' at frame 1 is 24 x 30, and those before are 20 x 30: --set 'content.resize=\[20, 30\]'"
    with pytest.raises(Refused, match=told):
        stored(Content(), frames, "a")
    images, told = stored(Content(resize=(20, 30)), frames, "a")
    assert [pixels(data).shape for _, _, data in images] == [(20, 30, 3)] * 2


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Encoded(JPEG[:100], "jpeg"), "camera 'a' at frame 0 is damaged"),
        (Encoded(b"no image", "jpeg"), "neither JPEG nor PNG"),
        (Encoded(JPEG, "png"), "is jpeg, not png"),
        (Encoded(png(np.full((9, 9), 700, np.uint16)), "png"), "at frame 0 is 16-bit gray, such as depth"),
    ],
)
def test_what_is_no_image_is_refused_though_it_would_pass_through(picture, message):
    with pytest.raises(Refused, match=message):
        stored(Content(), [[picture]], "a")


def test_advice_names_the_largest_camera_and_a_smaller_size():
    assert advice({"a": (480, 640), "b": (896, 896)}) is None
    hint = advice({"a": (720, 1280), "b": (1080, 1920), "c": (84, 84)})
    assert hint is not None and "camera 'b' are 1080 x 1920" in hint
    assert "--set 'content.resize=[256, 456]'" in hint and "18 times fewer" in hint


def test_the_hint_is_given_once_by_ingest_and_by_its_dry_run(tmp_path):
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file["action"] = np.zeros((1, 14))
        file["observations/qpos"] = np.zeros((1, 14))
        file["observations/images/top"] = np.zeros((1, 720, 1280, 3), np.uint8)
        file["observations/images/low"] = np.zeros((1, 720, 1280, 3), np.uint8)
    for dry_run in (True, False):
        report = run("aloha", tmp_path / "e.h5", store=tmp_path / "s", name="x", dry_run=dry_run)
        assert len([line for line in report.warnings if "content.resize" in line]) == 1, report.warnings


def test_codecs_are_named_where_they_decide_the_bytes():
    reader = layout("robomimic")
    assert codecs(Content(), layout("robosuite")) == {}
    assert "pillow" not in codecs(Content(flip={"*": "both"}), reader)
    assert "pillow" in codecs(Content(resize=(8, 8)), reader)
    assert {"libavcodec", "libswscale", "simplejpeg"} <= set(codecs(Content(), layout("droid_raw")))


def test_options_that_are_not_used_leave_the_names_of_shards_as_they_were():
    assert set(content_json(Content())) == {
        "cameras", "encoding", "resize", "skip", "fps", "default_fps", "shard_bytes"
    }  # fmt: skip


SPEC = """
layout: hdf5
content:
  flip: {front: upside}
  channel_order: gbr
  rename: {front: Front Camera, side: a}
  renam: {}
  resize: [0, 8]
  hdf5: {lenght: action, images: 3, time: {unit: m}}
mapping: {embodiment: arm, state: {right.ee_position: {key: pos}}}
"""


def test_every_problem_of_the_content_is_told_at_once():
    with pytest.raises(UsageError) as caught:
        spec_from_json(parse_yaml(SPEC, "s"), "s")
    message = str(caught.value)
    for expected in (
        "content.flip: 'upside' is not one of none, vertical, horizontal, both",
        "content.channel_order: 'gbr' is not one of rgb, bgr",
        "content.rename: 'Front Camera' is not a camera name",
        "content.renam: is not a key here, did you mean 'rename'?",
        "content.resize: expected a whole number from 1 to 8192, got 0",
        "content.hdf5.length: is missing",
        "content.hdf5.lenght: is not a key here, did you mean 'length'?",
        "content.hdf5.images: expected a list of texts, got 3",
        "content.hdf5.time.key: is missing",
        "content.hdf5.time.unit: 'm' is not one of s, ms, us, ns",
    ):
        assert expected in message, (expected, message)
    assert "10 problems" in message
    with pytest.raises(UsageError, match="content.hdf5: belongs to the layout hdf5"):
        load_spec("aloha", ["content.hdf5={length: action}"])
    with pytest.raises(UsageError, match="content.hdf5: is missing"):
        load_spec("aloha", ["layout=hdf5"])
    with pytest.raises(UsageError, match="content.rename: gives the name 'x' twice"):
        load_spec("aloha", ["content.rename={top: x, low: x}"])


def test_the_options_survive_json():
    spec = load_spec(
        "aloha",
        [
            "content.flip={top: both, '*': vertical}",
            "content.channel_order=bgr",
            "content.rename={top: main}",
        ],
    )
    assert spec_from_json(spec.to_json(), "aloha") == spec
    assert spec.to_json()["content"]["channel_order"] == "bgr"
