"""Images in every form that files hold: floats, channels first, gray, alpha; and what is not certain is told.

The form that is known to be right, uint8 RGB, is the oracle: whatever else holds the same pictures must be
stored with the same bytes. Levels of floats are checked against exact fractions.

Legend: N images, H W pixels.
"""

from __future__ import annotations

import json
from fractions import Fraction

import h5py
import numpy as np
import pytest
from foundry_testing.ingested import Ingested, jpeg, pixels, smooth
from foundry_testing.rlds_directories import Directory, encoded
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_datasets.core import features as tfds

from robot_foundry.ingest.robot.spec.spec_reader import spec_from_json
from robot_foundry.ingest.sources import Refused
from robot_foundry.ingest.sources.robot.pixels import Pixels
from robot_foundry.runtime.errors import UsageError

FRAMES, HEIGHT, WIDTH = 3, 20, 28
JPEG_ERROR = 8
PICTURES = np.stack([smooth(n, HEIGHT, WIDTH) for n in range(FRAMES)])
GRAY = PICTURES[..., :1]
ALPHA = np.concatenate([PICTURES, np.full_like(GRAY, 128)], -1)
# The pictures in every form; those called gray show their first channel.
FORMS = {
    "plain": PICTURES,
    "first": np.moveaxis(PICTURES, -1, 1),
    "unit": (PICTURES / 255).astype(np.float32),
    "unit64": PICTURES / 255,
    "unit_first": np.moveaxis(PICTURES / 255, -1, 1).astype(np.float32),
    "float255": PICTURES.astype(np.float32),
    "int64": PICTURES.astype(np.int64),
    "alpha": ALPHA,
    "alpha_first": np.moveaxis(ALPHA, -1, 1),
    "unit_alpha": (ALPHA / 255).astype(np.float32),
    "gray": GRAY,
    "gray_flat": GRAY[..., 0],
    "gray_first": np.moveaxis(GRAY, -1, 1),
    "gray_unit": (GRAY[..., 0] / 255).astype(np.float32),
}
SPEC = """
layout: {layout}
{content}
mapping: {{embodiment: arm, state: {{right.ee_position: {{key: {key}}}}}}}
"""


def write(path, arrays):
    """A demonstration with these arrays in obs."""
    with h5py.File(path, "w") as file:
        demo = file.create_group("data/demo_0")
        demo["actions"], demo["obs/pos"] = np.zeros((FRAMES, 7)), np.ones((FRAMES, 3))
        for name, array in arrays.items():
            demo[f"obs/{name}"] = array
    return path


def spec_file(path, layout="robomimic", content="", key="obs/pos"):
    path.write_text(SPEC.format(layout=layout, content=content, key=key))
    return path


def robomimic(tmp_path, arrays, *overrides):
    source = write(tmp_path / "in.hdf5", arrays)
    return Ingested(spec_file(tmp_path / "lab.yaml"), source, tmp_path / "store", overrides)


def check_all(made, name, of):
    """Every form is stored as the bytes of the plain one, which show the pictures."""
    plain = made.images(name, of("plain"))
    for shown, picture in zip(plain, PICTURES, strict=True):
        assert np.abs(pixels(shown).astype(int) - picture).max() <= JPEG_ERROR
    gray = made.images(name, of("gray"))
    assert np.abs(pixels(gray[1]).astype(int) - GRAY[1]).max() <= JPEG_ERROR
    for form in FORMS:
        assert made.images(name, of(form)) == (gray if form.startswith("gray") else plain), form


def test_every_form_in_robomimic_is_stored_as_the_plain_one(tmp_path):
    made = robomimic(tmp_path, {f"{form}_image": array for form, array in FORMS.items()})
    check_all(made, "demo_0", lambda form: form)
    cameras = made.episode("demo_0")["cameras"]
    assert "pixels" not in cameras["plain"]
    assert cameras["unit_first"]["pixels"] == "float32 CHW of 3, 0 to 1"
    alpha = [warning for warning in made.report.warnings if "alpha channel" in warning]
    names = "'obs/alpha_first_image', 'obs/alpha_image', 'obs/unit_alpha_image'"
    assert len(alpha) == 1 and alpha[0].startswith(f"1 of 1 episodes: each of {names} has an alpha channel")


@pytest.mark.parametrize(
    "images", ["[pics/*]", "{" + ", ".join(f"{form}: pics/{form}" for form in FORMS) + "}"]
)
def test_every_form_in_files_of_any_layout(tmp_path, images):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["pos"] = np.ones((FRAMES, 3))
        for form, array in FORMS.items():
            file[f"pics/{form}"] = array
    content = f"content: {{hdf5: {{length: pos, images: {images}}}}}"
    spec = spec_file(tmp_path / "lab.yaml", "hdf5", content, "pos")
    check_all(Ingested(spec, tmp_path / "in.h5", tmp_path / "store"), "in", lambda form: form)


def test_every_form_in_tensors_of_rlds(tmp_path):
    features = {f"{form}_image": array for form, array in FORMS.items()}
    steps = {
        "observation": {
            name: tfds.Tensor(shape=array.shape[1:], dtype=array.dtype) for name, array in features.items()
        },
        "state": tfds.Tensor(shape=(3,), dtype=np.float32),
        "packed_image": tfds.Tensor(shape=(None, None, 3), dtype=np.uint8, encoding="zlib"),
        "gray_camera": tfds.Image(shape=(HEIGHT, WIDTH, 1), encoding_format="png"),
    }
    made = Directory(tmp_path / "source", steps)
    rows = [
        {
            "observation": {name: array[t] for name, array in features.items()},
            "state": np.ones(3, np.float32),
            "packed_image": PICTURES[t],
            "gray_camera": encoded(GRAY[t, ..., 0], "png"),
        }
        for t in range(FRAMES)
    ]
    made.write("train", [made.record(rows)])
    spec = spec_file(tmp_path / "lab.yaml", "rlds", key="steps/state")
    got = Ingested(spec, made.root, tmp_path / "store")
    check_all(got, "record_0", lambda form: f"{form}_image")
    assert got.images("record_0", "packed_image") == got.images("record_0", "plain_image")
    for shown, picture in zip(got.images("record_0", "gray_camera"), GRAY, strict=True):
        assert (pixels(shown) == picture).all()
    assert set(got.source("record_0").files) == {"steps/state", "episode_metadata/good", "timestamp"}


def test_image_files_in_obs_of_robomimic_go_through(tmp_path):
    files = [jpeg(picture) for picture in PICTURES]
    padded = np.zeros((FRAMES, max(map(len, files)) + 9), np.uint8)
    for row, data in zip(padded, files, strict=True):
        row[: len(data)] = np.frombuffer(data, np.uint8)
    numbers = np.arange(FRAMES * 4, dtype=np.uint8).reshape(FRAMES, 4)
    made = robomimic(tmp_path, {"front_image": padded, "contact": numbers})
    assert made.images("demo_0", "front") == files
    np.testing.assert_array_equal(made.source("demo_0")["obs/contact"], numbers)


DOUBTFUL = {
    "front_depth": (np.linspace(0, 2, FRAMES * 400).reshape(FRAMES, 20, 20), "a depth map or a mask"),
    "front_segmentation": (PICTURES, "a depth map or a mask"),
    "signed_image": (PICTURES / 127.5 - 1, "do not tell what is white"),
    "sixteen_image": (PICTURES.astype(np.uint16) * 257, "do not tell what is white"),
    "labels_image": (np.arange(FRAMES * 400).reshape(FRAMES, 20, 20), "a depth map or a mask"),
    "numbers_image": (np.arange(FRAMES * 400).reshape(FRAMES, 20, 20), "do not tell what is white"),
    "overshoot_image": (PICTURES / 200, "do not tell what is white"),
    "ones_image": ((PICTURES > 99).astype(np.float32), "do not tell what is white"),
    "binary_image": (PICTURES > 99, "do not tell what is white"),
    "thin_image": (np.zeros((FRAMES, 3, 20, 3), np.uint8), "its shape does not tell"),
    "grid": (PICTURES / 255, "nothing says that it is a camera's"),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_is_not_certain_is_kept_and_told_until_the_spec_says(tmp_path, name):
    array, reason = DOUBTFUL[name]
    made = robomimic(tmp_path, {name: array, "plain_image": PICTURES})
    told = [warning for warning in made.report.warnings if warning.startswith("1 of 1 episodes: 'obs/")]
    assert len(told) == 1 and f"'obs/{name}' may hold images, and" in told[0] and reason in told[0]
    assert f"content.pixels={{obs/{name}: {{" in told[0] and f"content.skip=[obs/{name}]" in told[0]
    assert set(made.episode("demo_0")["cameras"]) == {"plain"}
    if array.dtype != bool:
        np.testing.assert_array_equal(made.source("demo_0")[f"obs/{name}"], array)
    (tmp_path / "s").mkdir()
    skipped = robomimic(tmp_path / "s", {name: array}, f"content.skip=[obs/{name}]")
    assert not any("may hold" in warning for warning in skipped.report.warnings)
    assert skipped.episode("demo_0")["left_out"] == {f"obs/{name}": "skipped by the spec"}


def test_the_spec_says_what_numbers_and_axes_mean(tmp_path):
    settings = [
        "content.pixels={obs/deep: {range: [2.0, 0.0]}, 'obs/six*': {range: [0, 65535]}, "
        "obs/signed: {range: [-1, 1]}, obs/thin: {axes: CHW}}"
    ]
    deep = np.repeat(np.linspace(0, 2, 256)[None, None], FRAMES, 0).repeat(HEIGHT, 1)
    arrays = {
        "deep": deep,
        "sixteen": PICTURES.astype(np.uint16) * 257,
        "signed": PICTURES / 127.5 - 1,
        "thin": np.full((FRAMES, 3, 20, 3), 7, np.uint8),
        "plain_image": PICTURES,
    }
    made = robomimic(tmp_path, arrays, *settings)
    assert made.images("demo_0", "sixteen") == made.images("demo_0", "plain")
    assert made.images("demo_0", "signed") == made.images("demo_0", "plain")
    shown = pixels(made.images("demo_0", "deep")[0])[0, :, 0].astype(int)
    assert np.abs(shown - (255 - np.arange(256))).max() <= 2  # near is white
    assert made.episode("demo_0")["cameras"]["thin"]["height"] == 20
    assert not any("may hold" in warning for warning in made.report.warnings)
    with pytest.raises(Exception, match=r"no array 'obs/seven', which content.pixels names"):
        robomimic(tmp_path, arrays, "content.pixels={obs/seven: {range: [0, 1]}}")


def test_of_two_arrays_of_one_camera_the_spec_skips_one(tmp_path):
    arrays = {"front_image": PICTURES, "front_rgb": PICTURES / 255}
    with pytest.raises(Exception, match=r"give one camera name .*: content.skip leaves one out"):
        robomimic(tmp_path, arrays)
    made = robomimic(tmp_path, arrays, "content.skip=[obs/front_rgb]")
    assert set(made.episode("demo_0")["cameras"]) == {"front"}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_picture_with_a_number_that_is_none_is_refused_by_frame(tmp_path, value):
    broken = (PICTURES / 255).astype(np.float32)
    broken[2, 5, 5, 1] = value
    with pytest.raises(Exception, match=r"its image 2 of 'obs/front_image' holds NaN or infinity"):
        robomimic(tmp_path, {"front_image": broken})


def test_images_in_no_place_of_images_are_told(tmp_path):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["pos"], file["extra/front"] = np.ones((FRAMES, 3)), PICTURES
    spec = spec_file(tmp_path / "lab.yaml", "hdf5", "content: {hdf5: {length: pos}}", "pos")
    made = Ingested(spec, tmp_path / "in.h5", tmp_path / "store")
    told = "1 of 1 episodes: 'extra/front' holds images, and content.hdf5.images does not name it"
    assert told in made.report.warnings


def exact_level(value: float, black: float, white: float) -> int:
    """255 · (value − black) / (white − black), rounded half to even, without floating point."""
    level = 255 * (Fraction(value) - Fraction(black)) / (Fraction(white) - Fraction(black))
    return round(min(max(level, Fraction(0)), Fraction(255)))


# Levels are whole quarters here, and 255 / (white - black) is a power of two: rounding alone is tested.
@given(st.lists(st.integers(0, 1020), min_size=1, max_size=9), st.sampled_from([(0.0, 255.0), (0.0, 63.75)]))
def test_levels_are_rounded_half_to_even(quarters, black_white):
    numbers = np.array([quarters]) * (black_white[1] / 1020)
    form = Pixels("HW", 1, len(quarters), 1, "float64", black_white)
    shown = form.rgb(numbers, "x", 0)
    assert shown.dtype == np.uint8 and shown.shape == (1, len(quarters), 3)
    assert shown[0, :, 0].tolist() == [exact_level(float(v), *black_white) for v in numbers[0]]


@given(st.floats(-2, 3, width=32))
def test_any_float_of_a_unit_picture_is_the_nearest_level(value):
    form = Pixels("HW", 1, 1, 1, "float32", (0.0, 1.0))
    level = 255 * min(max(Fraction(float(value)), Fraction(0)), Fraction(1))
    shown = int(form.rgb(np.array([[value]], np.float32), "x", 0)[0, 0, 0])
    assert abs(shown - level) <= Fraction(1, 2) + Fraction(1, 10**9)


def test_numbers_of_bytes_come_back_from_floats_unharmed():
    levels = np.arange(256)
    for dtype in (np.float16, np.float32, np.float64):
        unit = Pixels("HW", 1, 256, 1, np.dtype(dtype).name, (0.0, 1.0))
        assert unit.rgb((levels / 255).astype(dtype)[None], "x", 0)[0, :, 1].tolist() == levels.tolist()
    with pytest.raises(Refused, match="image 4 of 'x' holds NaN"):
        unit.rgb(np.full((1, 256), np.nan), "x", 4)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"pixels": {"a": {"range": [1, 1]}}}, "content.pixels.a.range: expected two unlike numbers"),
        ({"pixels": {"a": {"range": [0]}}}, "content.pixels.a.range: expected the numbers of .black, white."),
        ({"pixels": {"a": {"axes": "WHC"}}}, "content.pixels.a.axes: 'WHC' is not one of HWC, CHW, HW"),
        (
            {"pixels": {"a": {"rage": [0, 1]}}},
            "content.pixels.a.rage: is not a key here, did you mean 'range'",
        ),
        ({"extra_row": "next"}, "content.extra_row: 'next' is not one of next_state"),
    ],
)
def test_settings_are_checked(content, expected):
    mapping = {"embodiment": "arm", "state": {"right.ee_position": {"key": "p"}}}
    with pytest.raises(UsageError, match=expected):
        spec_from_json({"layout": "robomimic", "content": content, "mapping": mapping}, "test")
    with pytest.raises(UsageError, match="of which the layout droid_raw has none"):
        spec_from_json({"layout": "droid_raw", "content": {"pixels": {"a": {}}}, "mapping": mapping}, "test")


def test_settings_outlast_a_round_through_json():
    content = {"pixels": {"obs/a*": {"axes": "HW", "range": [0.0, 2.0]}, "b": {}}, "extra_row": "next_state"}
    mapping = {"embodiment": "arm", "state": {"right.ee_position": {"key": "p"}}}
    spec = spec_from_json({"layout": "robomimic", "content": content, "mapping": mapping}, "test")
    told = json.loads(json.dumps(spec.to_json()))
    assert {name: told["content"][name] for name in content} == content
    assert spec_from_json(told, "test") == spec
