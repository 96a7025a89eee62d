"""What of an episode in HDF5 is taken: its images, arrays and texts, first by their headers alone.

Legend: N frames.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.hdf5 import hdf5
from robot_foundry.ingest.sources.hdf5.image_arrays import Files, ImageArray, form_of, image_array
from robot_foundry.ingest.sources.robot.lengths import check_length, fitted
from robot_foundry.ingest.sources.robot.pixels import ALPHA, Pixels, check_settings
from robot_foundry.ingest.sources.robot.shared import (
    MOST_LOW_DIM_BYTES,
    UNASKED,
    camera_of,
    chosen,
    is_skipped,
    spans,
)
from robot_foundry.ingest.sources.robot.source_episode import Picture, SourceCamera, Text
from robot_foundry.runtime.overrides import set_option

EXTRA_IMAGE = "has an image of the row after the last frame, which is left out"


@dataclass(frozen=True)
class Structure:
    """What is taken, known from headers and the first images. `datasets` are all of the episode, by path.

    `left_out` says why an array is not taken, `remarks` what the user should know of one.
    """

    num_frames: int
    views: tuple[ImageArray, ...]
    arrays: tuple[str, ...]
    texts: tuple[str, ...]
    left_out: Mapping[str, str]
    remarks: Mapping[str, str]
    num_bytes: int
    datasets: Mapping[str, h5py.Dataset]

    def encodes(self, content: Content) -> bool:
        """Whether any image is encoded anew."""
        return content.changes_pixels or not all(view.is_encoded for view in self.views)


@dataclass(frozen=True)
class Contents:
    """What is taken of an episode. `attributes` are its texts, `spans` those of its frames."""

    num_frames: int
    views: tuple[ImageArray, ...]
    arrays: dict[str, NDArray[Any]]
    attributes: dict[str, Any]
    spans: list[tuple[int, int, str, Text]]
    left_out: dict[str, str]
    remarks: dict[str, str]

    @property
    def cameras(self) -> list[SourceCamera]:
        return [view.camera for view in self.views]

    @property
    def frames(self) -> Iterable[Sequence[Picture]]:
        """Of each frame, the image of each camera."""
        num_frames = self.num_frames
        streams = [
            view.pictures()
            if view.num_images == num_frames
            else fitted(view.pictures(), num_frames, view.camera.array)
            for view in self.views
        ]
        return zip(*streams, strict=True) if streams else ()


@dataclass(frozen=True)
class Images:
    """The image arrays of an episode: `forms` by camera name and path, and what is told of others."""

    forms: Mapping[tuple[str, str], Pixels | Files]
    remarks: Mapping[str, str]


# What makes a layout read an array that may hold images: `content.pixels` alone; a name in
# `content.hdf5.images` too; or nothing.
SETTING, NAME, NOTHING = "setting", "name", "nothing"


def find_images(
    datasets: Mapping[str, h5py.Dataset],
    content: Content,
    is_place: Mapping[str, bool],
    needs: str = SETTING,
) -> Images:
    """The images among the arrays that `is_place` names; it says whether they lie where images do.

    `needs` is what makes the layout read one that is not certain: SETTING, NAME or NOTHING.
    """
    forms, remarks = {}, {}
    check_settings(datasets, content)
    for path, certain in is_place.items():
        if is_skipped(path, content.skip):
            continue
        named = set_option(f"content.hdf5.images.{camera_of(path)}={path}")
        reads = {SETTING: "", NAME: named, NOTHING: None}[needs]
        form = form_of(path, datasets[path], content, is_place=certain, reads=reads)
        if isinstance(form, str):
            remarks[path] = form
        elif form is not None:
            forms[camera_of(path), path] = form
    return Images(forms, remarks)


def other_images(
    datasets: Mapping[str, h5py.Dataset],
    taken: Collection[str],
    content: Content,
    why: str,
    needs: str = SETTING,
) -> dict[str, str]:
    """What is told of arrays that hold images, or may, and lie where none are read."""
    others = {path: False for path in datasets if path not in taken}
    images = find_images(datasets, replace(content, pixels={}), others, needs)
    return {**dict.fromkeys((path for _, path in images.forms), why), **images.remarks}


def structure_of(
    datasets: Mapping[str, h5py.Dataset],
    num_frames: int,
    images: Images,
    content: Content,
    reserved: Mapping[str, str],
    lost: Mapping[str, str],
) -> Structure:
    """What is taken of these datasets; `reserved` says of names why no array may have them.

    `lost` are paths that lead to no dataset, with the reason.

    Refused if it cannot be used.
    """
    cameras = [SourceCamera(name, path, 0, 0) for name, path in images.forms]
    wanted = chosen(cameras, content)
    views = tuple(
        image_array(
            camera.name, camera.array, datasets[camera.array], images.forms[camera.name, camera.array]
        )
        for camera in wanted
    )
    left_out = dict(lost)
    left_out |= {camera.array: UNASKED for camera in cameras if camera not in wanted}
    remarks = dict(images.remarks)
    for view in views:
        unused = check_length(view.camera.array, view.num_images, num_frames)
        left_out |= {} if unused is None else {view.camera.array: unused}
        if content.extra_row is not None and view.num_images == num_frames + 1:
            remarks[view.camera.array] = EXTRA_IMAGE
    arrays, texts = [], []
    for path in sorted(datasets.keys() - {camera.array for camera in cameras}):
        is_text = hdf5.holds_text(datasets[path]) or hdf5.is_one_member(datasets[path])
        if is_text and not is_skipped(path, content.skip):
            texts.append(path)
        elif reason := hdf5.why_left_out(path, datasets[path], content.skip) or reserved.get(path):
            left_out[path] = reason
        else:
            arrays.append(path)
    low_dim_bytes = sum(datasets[path].size * datasets[path].dtype.itemsize for path in arrays)
    if low_dim_bytes > MOST_LOW_DIM_BYTES:
        raise Refused(f"its arrays beside the images take {low_dim_bytes} bytes; skip some in the spec")
    num_bytes = low_dim_bytes + sum(view.num_bytes for view in views)
    return Structure(num_frames, views, tuple(arrays), tuple(texts), left_out, remarks, num_bytes, datasets)


def read(structure: Structure, content: Content) -> Contents:
    """The arrays and texts, and the images as far as their form is certain. Refused for what is damaged."""
    left_out, remarks, arrays = dict(structure.left_out), dict(structure.remarks), list(structure.arrays)
    views = []
    for view in structure.views:
        path, settled = view.camera.array, view.settled()
        if isinstance(settled, ImageArray):
            views.append(settled)
            if isinstance(settled.form, Pixels) and settled.form.has_alpha:
                remarks[path] = "; ".join(part for part in (remarks.get(path), ALPHA) if part)
        elif content.cameras is not None:
            raise Refused(f"its camera '{view.camera.name}': '{path}' {settled}")
        else:
            remarks[path] = settled
            reason = hdf5.why_left_out(path, view.dataset, content.skip)
            arrays += [path] if reason is None else []
            left_out |= {} if reason is None else {path: reason}
    contents = Contents(
        structure.num_frames,
        tuple(views),
        {path: hdf5.read_array(path, structure.datasets[path]) for path in sorted(arrays)},
        {},
        [],
        left_out,
        remarks,
    )
    for path in structure.texts:
        _add_text(contents, path, structure.datasets[path], content)
    return contents


def _add_text(contents: Contents, path: str, dataset: h5py.Dataset, content: Content) -> None:
    """One text or name of an enumeration, or a few, are an attribute; one a frame are spans of frames."""
    shape = tuple(size for size in dataset.shape if size != 1)
    is_longer = content.extra_row is not None and shape == (contents.num_frames + 1,)
    is_one, is_by_frame = not shape, is_longer or shape == (contents.num_frames,)
    if not is_one and not is_by_frame and (len(shape) > 1 or shape[0] > hdf5.LONGEST_LIST):
        contents.left_out[path] = f"its type is {dataset.dtype}"
        return
    texts = hdf5.by_name(hdf5.read_array(path, dataset), dataset.dtype)
    values = [hdf5.json_value(item) for item in np.asarray(texts).reshape(-1)]
    if any(isinstance(value, dict) and "sha256" in value for value in values):
        contents.left_out[path] = f"its texts are of XML, or longer than {hdf5.LONGEST_TEXT} bytes"
    elif is_by_frame:
        contents.spans.extend(spans(path, values[: contents.num_frames]))
    else:
        contents.attributes[path] = values[0] if is_one else values
