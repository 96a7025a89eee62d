"""Images whose size changes: within an episode read with content.resize alone, between episodes told.

Legend: H W pixels.
"""

from __future__ import annotations

import io
from pathlib import Path

import h5py
import numpy as np
import pytest
from foundry_testing import rlds_directories
from foundry_testing.ingested import Ingested, jpeg, pixels, smooth
from foundry_testing.rlds_directories import SPEC, STEP, Directory
from PIL import Image
from tensorflow_datasets.core import features as tfds

from robot_foundry.catalog.validation.validate import validate
from robot_foundry.runtime.errors import FoundryError

HERE = Path(__file__).parent
SMALL, LARGE, FRAMES = (24, 32), (48, 64), 6
SMOOTH_ERROR = 8
FILES = """
layout: hdf5
content: {fps: 5, hdf5: {length: actions, images: ['img/*']}}
mapping:
  embodiment: arm
  instruction: [{text: go}]
  state: {right.joint_position: {key: actions}}
  actions: {command: {right.joint_position: {key: actions}}}
"""
TOLD = "is 48 x 64, and those before are 24 x 32: --set 'content.resize=[24, 32]' stores all so"


def pictures(sizes):
    """JPEG files, each with the pixels that it is of."""
    return [jpeg(smooth(seed, *size), 95) for seed, size in enumerate(sizes)]


def in_rlds(folder, *episodes):
    steps = {**STEP, "observation": {**STEP["observation"]}}
    steps["observation"]["image"] = tfds.Image(shape=(None, None, 3), encoding_format="jpeg")
    made = Directory(folder, steps)
    records = []
    for number, images in enumerate(episodes):
        own = [rlds_directories.step(t, FRAMES, number) for t in range(FRAMES)]
        for step, image in zip(own, images, strict=True):
            step["observation"]["image"] = image
        records.append(made.record(own))
    made.write("train", records)
    spec = folder.with_suffix(".yaml")
    spec.write_text(SPEC)
    return spec, [f"record_{number}" for number in range(len(episodes))]


def in_hdf5(form):
    def write(folder, *episodes):
        folder.mkdir()
        for number, images in enumerate(episodes):
            with h5py.File(folder / f"ep_{number}.h5", "w") as file:
                file["actions"] = np.linspace(0, 1 + number, FRAMES * 6).reshape(FRAMES, 6)
                if form == "padded":
                    longest = max(map(len, images))
                    rows = [np.frombuffer(image.ljust(longest, b"\0"), np.uint8) for image in images]
                    file["img/image"] = np.stack(rows)
                else:
                    kind = h5py.vlen_dtype(np.uint8)
                    array = file.create_dataset("img/image", (FRAMES,), kind)
                    for frame, image in enumerate(images):
                        array[frame] = np.frombuffer(image, np.uint8)
        spec = folder.with_suffix(".yaml")
        spec.write_text(FILES)
        return spec, [f"ep_{number}" for number in range(len(episodes))]

    return write


LAYOUTS = pytest.mark.parametrize("write", [in_rlds, in_hdf5("padded"), in_hdf5("variable")])
CHANGING = [SMALL] * 3 + [LARGE] * 3


@LAYOUTS
def test_resize_reads_images_that_change_their_size(write, tmp_path):
    images = pictures(CHANGING)
    spec, (changing, other) = write(tmp_path / "source", images, pictures([LARGE] * FRAMES))
    made = Ingested(spec, tmp_path / "source", tmp_path / "store", ["content.resize=[24, 32]"])
    assert set(made.rows) == {changing, other} and not made.reasons
    camera = made.episode(changing)["cameras"]["image"]
    assert (camera["height"], camera["width"]) == SMALL
    stored = made.images(changing, "image")
    assert stored[:3] == images[:3]
    for image, source in zip(stored, images, strict=True):
        with Image.open(io.BytesIO(source)) as opened:
            expected_HW3 = np.asarray(opened.resize((32, 24), Image.Resampling.LANCZOS)).astype(int)
        assert pixels(image).shape == expected_HW3.shape
        assert np.abs(pixels(image) - expected_HW3).max() <= SMOOTH_ERROR
    assert not any("sizes" in told for told in made.report.warnings)


@LAYOUTS
def test_without_resize_such_an_episode_is_refused_with_the_setting(write, tmp_path):
    spec, (changing, other) = write(tmp_path / "source", pictures(CHANGING), pictures([SMALL] * FRAMES))
    made = Ingested(spec, tmp_path / "source", tmp_path / "store")
    assert list(made.rows) == [other]
    ((unit, reason),) = made.reasons.items()
    assert reason == f"its image of camera 'image' at frame 3 {TOLD}"


@LAYOUTS
def test_sizes_that_differ_between_episodes_are_told_and_are_no_damage(write, tmp_path):
    spec, names = write(
        tmp_path / "source",
        *(pictures([size] * FRAMES) for size in (LARGE, SMALL, SMALL)),
    )
    made = Ingested(spec, tmp_path / "source", tmp_path / "store")
    assert set(made.rows) == set(names)
    (told,) = (told for told in made.report.warnings if "sizes" in told)
    assert told == (
        "images of camera 'image' have 2 sizes (24 x 32 in 2, 48 x 64 in 1 of 3 episodes), and training "
        "resizes them to 48 x 64: foundry-data ingest --set 'content.resize=[48, 64]' stores them so"
    )
    (report,) = validate("made", store=tmp_path / "store", deep=True)
    assert report.checked["images_decoded"] == 3 * FRAMES and not report.damage
    assert not any(
        "sizes" in line
        for line in Ingested(
            spec, tmp_path / "source", tmp_path / "resized", ["content.resize=[48, 64]"]
        ).report.warnings
    )


def test_a_dataset_of_changing_images_alone_says_how_to_read_it(tmp_path):
    spec, _ = in_rlds(tmp_path / "source", pictures(CHANGING))
    with pytest.raises(FoundryError) as caught:
        Ingested(spec, tmp_path / "source", tmp_path / "store")
    assert TOLD in caught.value.message
