"""HDF5 files of any layout: the spec says where the episodes, their images and their times are.

An episode is a file, or a group of one. All its arrays are kept under their paths; a text is an attribute.

Legend: N frames.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources import hdf5
from robot_foundry.ingest.sources.base import Camera, Episode, Layout, Refused, SourceFile, Unit
from robot_foundry.ingest.sources.clock import Clock, clock_of
from robot_foundry.ingest.sources.hdf5_images import ImageArray, image_array, may_hold_images
from robot_foundry.ingest.sources.lengths import check_length, fitted
from robot_foundry.ingest.sources.robomimic import MOST_LOW_DIM_BYTES, chosen
from robot_foundry.ingest.spec import Content, Places
from robot_foundry.runtime.errors import nearest
from robot_foundry.shards.keys import MAX_FRAMES, episode_key

TIMESTAMP = "timestamp"


@dataclass(frozen=True)
class Structure:
    """What of an episode is taken, known from its headers and the first images."""

    num_frames: int
    views: tuple[ImageArray, ...]
    arrays: tuple[str, ...]
    texts: Mapping[str, str]
    left_out: Mapping[str, str]
    num_bytes: int


class Hdf5Places(Layout):
    """See `Layout`."""

    name = "hdf5"
    version = 2
    has_images = True

    def claims(self, path: str) -> bool:
        return hdf5.claims(path)

    def places(self, content: Content) -> Places:
        """Where things are."""
        assert content.hdf5 is not None  # the reader of specs sees to it
        return content.hdf5

    def check(self, file: h5py.File) -> None:
        """Refused if the file has another layout."""

    def list_units(self, file: SourceFile, content: Content) -> tuple[list[Unit], list[tuple[str, str]]]:
        places = self.places(content)
        units: list[Unit] = []
        refused: list[tuple[str, str]] = []
        with file.local() as path, hdf5.open_file(path) as opened:
            names = self._episodes(opened, file, places)
            for name in names:
                try:
                    structure = structure_of(_group(opened, name, places), places, content)
                except Refused as error:
                    refused.append((f"{file.path}#{name}", error.message))
                    continue
                key, alone = episode_key(file.path, hdf5.key_name(name)), len(names) == 1
                encodes = content.changes_pixels or not all(view.is_encoded for view in structure.views)
                units.append(Unit(file, name, key, structure.num_bytes, alone, structure.num_frames, encodes))
        return units, refused

    def _episodes(self, opened: h5py.File, file: SourceFile, places: Places) -> list[str]:
        try:
            self.check(opened)
            if places.episodes is None:
                return [PurePosixPath(file.path).stem]
            return _groups(opened, places.episodes)
        except hdf5.ERRORS as error:
            raise hdf5.unreadable("the file", error) from error

    @contextmanager
    def open(self, unit: Unit, content: Content) -> Iterator[Episode]:
        places = self.places(content)
        with unit.file.local() as path, hdf5.open_file(path) as opened:
            group = _group(opened, unit.episode, places)
            structure = structure_of(group, places, content)
            num_frames, views = structure.num_frames, structure.views
            arrays = {name: hdf5.read_array(name, group[name]) for name in structure.arrays}
            clock = _clock(group, arrays, places, num_frames, content)
            streams = [fitted(view.pictures(), num_frames, view.camera.array) for view in views]
            is_file = places.episodes is None
            yield Episode(
                num_frames=num_frames,
                fps=clock.fps,
                fps_source=clock.fps_source,
                start_ns=clock.start_ns,
                cameras=[view.camera for view in views],
                arrays={**arrays, TIMESTAMP: clock.timestamp_N},
                attributes={**structure.texts, **hdf5.attributes(group.attrs)},
                environment={} if is_file else hdf5.attributes(opened.attrs),
                left_out=structure.left_out,
                frames=zip(*streams, strict=True) if streams else iter(()),
            )


def _groups(file: h5py.File, pattern: str) -> list[str]:
    """Paths of the groups that match, in numeric order; damaged ones too, to be refused by name."""
    *above, last = pattern.strip("/").split("/")
    parents: list[tuple[str, h5py.Group]] = [("", file)]
    for part in above:
        parents = [
            (f"{path}{name}/", item)
            for path, group in parents
            for name in _matching(group, part)
            if isinstance(item := hdf5.child(group, name), h5py.Group)
        ]
    found = [
        path + name
        for path, group in parents
        for name in _matching(group, last)
        if not hdf5.is_dataset(group, name)
    ]
    if not found:
        top = ", ".join(sorted(map(str, file))) or "nothing"
        raise Refused(f"it has no group '{pattern}', as content.hdf5.episodes says (at the top: {top})")
    return found


def _matching(group: h5py.Group, pattern: str) -> list[str]:
    names = (str(name) for name in group)
    return sorted((name for name in names if fnmatch.fnmatchcase(name, pattern)), key=hdf5.natural_order)


def _group(file: h5py.File, name: str, places: Places) -> h5py.Group:
    group: Any = file["/"]
    try:
        for part in () if places.episodes is None else name.split("/"):
            group = hdf5.child(group, part)
    except hdf5.ERRORS as error:
        raise hdf5.unreadable("the episode", error) from error
    if not isinstance(group, h5py.Group):
        raise Refused("it is not a group")
    return group


def structure_of(group: h5py.Group, places: Places, content: Content) -> Structure:
    """What is taken of the episode. Refused if it cannot be used."""
    try:
        found = hdf5.datasets(group)
        num_frames = _num_frames(found, places.length)
        images = _images(found, places)
        cameras = chosen(images, content)
        views = tuple(image_array(camera.name, camera.array, found[camera.array]) for camera in cameras)
        texts = {path: text for path, dataset in found.items() if (text := _text(dataset)) is not None}
    except hdf5.ERRORS as error:
        raise hdf5.unreadable("the episode", error) from error
    left_out = {camera.array: "not among the spec's cameras" for camera in images if camera not in cameras}
    for view in views:
        unused = check_length(view.camera.array, view.num_images, num_frames)
        left_out |= {} if unused is None else {view.camera.array: unused}
    arrays = []
    for path in found.keys() - {camera.array for camera in images} - texts.keys():
        if reason := hdf5.why_left_out(path, found[path], content.skip):
            left_out[path] = reason
        elif path == TIMESTAMP and (places.time is None or places.time.key != path):
            left_out[path] = "it is not content.hdf5.time, and its name is that of the times"
        else:
            arrays.append(path)
    low_dim_bytes = sum(found[name].size * found[name].dtype.itemsize for name in arrays)
    if low_dim_bytes > MOST_LOW_DIM_BYTES:
        raise Refused(f"its arrays beside the images take {low_dim_bytes} bytes; skip some in the spec")
    num_bytes = low_dim_bytes + sum(view.num_bytes for view in views)
    return Structure(num_frames, views, tuple(sorted(arrays)), texts, left_out, num_bytes)


def _num_frames(found: Mapping[str, h5py.Dataset], length: str) -> int:
    if length not in found:
        known = ", ".join(found) or "none"
        raise Refused(f"it has no array '{length}'{nearest(length, found)} (arrays: {known})")
    shape = found[length].shape
    num_frames = int(shape[0]) if shape else 0
    if num_frames == 0:
        raise Refused("it has no frames")
    if num_frames > MAX_FRAMES:
        raise Refused(f"it has {num_frames} frames, and an episode holds {MAX_FRAMES} at most")
    return num_frames


def _images(found: Mapping[str, h5py.Dataset], places: Places) -> list[Camera]:
    """The image arrays as cameras whose size is not known yet."""
    if isinstance(places.images, Mapping):
        for name, path in places.images.items():
            if path not in found:
                close = nearest(path, found)
                raise Refused(f"it has no array '{path}', which content.hdf5.images.{name} names{close}")
        return [Camera(name, path, 0, 0) for name, path in places.images.items()]
    matching = [
        path
        for path, dataset in found.items()
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in places.images) and may_hold_images(dataset)
    ]
    if places.images and not matching:
        raise Refused(f"it has no image array '{', '.join(places.images)}' (arrays: {', '.join(found)})")
    return [Camera(hdf5.camera_name(path), path, 0, 0) for path in matching]


def _text(dataset: h5py.Dataset) -> str | None:
    """The text of a scalar that holds one."""
    if dataset.shape not in ((), (1,)) or h5py.check_string_dtype(dataset.dtype) is None:
        return None
    value = np.asarray(dataset[()]).reshape(-1)[0]
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= hdf5.LONGEST_TEXT else None


def _clock(
    group: h5py.Group,
    arrays: Mapping[str, NDArray[Any]],
    places: Places,
    num_frames: int,
    content: Content,
) -> Clock:
    if places.time is None:
        return clock_of(None, num_frames, content)
    key = places.time.key
    if key not in group:
        raise Refused(f"it has no array '{key}', which content.hdf5.time names{nearest(key, arrays)}")
    values = arrays[key] if key in arrays else hdf5.read_array(key, group[key])
    return clock_of((key, values, places.time.unit), num_frames, content, epoch=places.time.epoch)
