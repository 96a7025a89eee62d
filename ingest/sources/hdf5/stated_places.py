"""HDF5 files of any layout: the spec says where the episodes, their images and their times are.

An episode is a file, or a group of one. All its arrays are kept under their paths; a text is an attribute.

Legend: N frames.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import h5py
from numpy.typing import NDArray

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import Refused, SourceFile, Unit
from robot_foundry.ingest.sources.hdf5 import hdf5, links
from robot_foundry.ingest.sources.hdf5.image_arrays import Files, form_of
from robot_foundry.ingest.sources.hdf5.layouts import HDF5, StatedPlaces
from robot_foundry.ingest.sources.hdf5.recognition import Hdf5Layout
from robot_foundry.ingest.sources.hdf5.structure import (
    NAME,
    NOTHING,
    SETTING,
    Images,
    Structure,
    find_images,
    other_images,
    read,
    structure_of,
)
from robot_foundry.ingest.sources.robot.clock import Clock, clock_of
from robot_foundry.ingest.sources.robot.pixels import Pixels, check_settings, is_set
from robot_foundry.ingest.sources.robot.source_episode import SourceEpisode
from robot_foundry.runtime.errors import nearest
from robot_foundry.shards.robot.names import MAX_FRAMES, episode_key

TIMESTAMP = "timestamp"
RESERVED = "it is not content.hdf5.time, and its name is that of the times"
UNNAMED_IMAGES = "holds images, and content.hdf5.images does not name it"
UNREAD_IMAGES = "holds images where the layout has none, so they are not read; `layout: hdf5` can name them"


class Hdf5Places(Hdf5Layout):
    """See `Layout`."""

    declared = HDF5
    version = 2

    def places(self, content: Content) -> StatedPlaces:
        """Where things are."""
        assert isinstance(content.options, StatedPlaces)  # the reader of specs sees to it
        return content.options

    def check(self, file: h5py.File) -> None:
        """Refused if the file has another layout."""

    def list_units(self, file: SourceFile, content: Content) -> tuple[list[Unit], list[tuple[str, str]]]:
        places = self.places(content)
        units: list[Unit] = []
        refused: list[tuple[str, str]] = []
        with file.local() as path, hdf5.open_file(path) as opened:
            names = self._episodes(opened, file, places)
            key_names, whole_file = hdf5.key_names(names), places.episodes is None
            again = {} if whole_file else links.again(opened, names)
            for name in names:
                try:
                    if name in again:
                        raise Refused(f"it is '{again[name]}' again, by a link")
                    structure = episode_structure(_group(opened, name, places), places, content)
                except Refused as error:
                    refused.append((f"{file.path}#{name}", error.message))
                    continue
                key, alone = episode_key(file.path, key_names[name]), len(names) == 1
                encodes = structure.encodes(content)
                units.append(
                    Unit(
                        file, name, key, structure.num_bytes, alone, structure.num_frames, encodes,
                        whole_file=whole_file,
                    )
                )  # fmt: skip
        return units, refused

    def _episodes(self, opened: h5py.File, file: SourceFile, places: StatedPlaces) -> list[str]:
        try:
            self.check(opened)
            if places.episodes is None:
                return [PurePosixPath(file.path).stem]
            return _groups(opened, places.episodes)
        except links.ERRORS as error:
            raise links.unreadable("the file", error) from error

    @contextmanager
    def open(self, unit: Unit, content: Content) -> Iterator[SourceEpisode]:
        places = self.places(content)
        with unit.file.local() as path, hdf5.open_file(path) as opened:
            group = _group(opened, unit.id, places)
            contents = read(episode_structure(group, places, content), content)
            clock = _clock(group, contents.arrays, places, contents.num_frames, content)
            is_file = places.episodes is None
            yield SourceEpisode(
                num_frames=contents.num_frames,
                fps=clock.fps,
                fps_source=clock.fps_source,
                start_ns=clock.start_ns,
                cameras=contents.cameras,
                arrays={**contents.arrays, TIMESTAMP: clock.timestamp_N},
                attributes={**contents.attributes, **hdf5.attributes(group.attrs)},
                environment={} if is_file else hdf5.attributes(opened.attrs),
                left_out=contents.left_out,
                remarks=contents.remarks,
                frames=contents.frames,
                steps_text=contents.spans,
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
            if isinstance(item := links.child(group, name), h5py.Group)
        ]
    paths = [
        path + name
        for path, group in parents
        for name in _matching(group, last)
        if not hdf5.is_dataset(group, name)
    ]
    if not paths:
        top = ", ".join(sorted(map(str, file))) or "nothing"
        raise Refused(f"it has no group '{pattern}', as content.hdf5.episodes says (at the top: {top})")
    return paths


def _matching(group: h5py.Group, pattern: str) -> list[str]:
    names = (str(name) for name in group)
    return sorted((name for name in names if fnmatch.fnmatchcase(name, pattern)), key=hdf5.natural_order)


def _group(file: h5py.File, name: str, places: StatedPlaces) -> h5py.Group:
    group: Any = file["/"]
    try:
        if places.episodes is not None:
            group = links.at(file, name)
    except links.ERRORS as error:
        raise links.unreadable("the episode", error) from error
    if group is None:
        raise Refused(links.nowhere(file, name) or links.NOT_UTF8)
    if not isinstance(group, h5py.Group):
        raise Refused("it is not a group")
    return group


def episode_structure(group: h5py.Group, places: StatedPlaces, content: Content) -> Structure:
    """What is taken of the episode. Refused if it cannot be used."""
    try:
        lost: dict[str, str] = {}
        datasets = links.datasets(group, lost=lost)
        num_frames = _num_frames(datasets, places.length, lost)
        reserved = {} if places.time is not None and places.time.key == TIMESTAMP else {TIMESTAMP: RESERVED}
        images = _images(datasets, places, content, lost)
        return structure_of(datasets, num_frames, images, content, reserved, lost)
    except links.ERRORS as error:
        raise links.unreadable("the episode", error) from error


def _num_frames(datasets: Mapping[str, h5py.Dataset], length: str, lost: Mapping[str, str]) -> int:
    if length in lost:
        raise Refused(f"it has no array '{length}': {lost[length]}")
    if length not in datasets:
        names = ", ".join(datasets) or "none"
        raise Refused(f"it has no array '{length}'{nearest(length, datasets)} (arrays: {names})")
    shape = datasets[length].shape
    num_frames = int(shape[0]) if shape else 0
    if num_frames == 0:
        raise Refused("it has no frames")
    if num_frames > MAX_FRAMES:
        raise Refused(f"it has {num_frames} frames, and an episode holds {MAX_FRAMES} at most")
    return num_frames


def _images(
    datasets: Mapping[str, h5py.Dataset], places: StatedPlaces, content: Content, lost: Mapping[str, str]
) -> Images:
    """The image arrays, by name or where they lie; of others that may hold images is told."""
    if isinstance(places.images, Mapping):
        named = set(places.images.values())
        others = other_images(datasets, named, content, _why(content), NAME)
        return Images(_stated(datasets, places.images, content, lost), others)
    is_place = {
        path: True
        for path in datasets
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in places.images) or is_set(path, content)
    }
    images = find_images(datasets, content, is_place)
    if places.images and not images.forms:
        unsure = "".join(f"; '{path}' {why}" for path, why in images.remarks.items())
        raise Refused(
            f"it has no image array '{', '.join(places.images)}' (arrays: {', '.join(datasets)}){unsure}"
        )
    needs = SETTING if places.images or content.options is not None else NOTHING
    others = other_images(datasets, is_place, content, _why(content), needs)
    return replace(images, remarks={**images.remarks, **others})


def _why(content: Content) -> str:
    return UNNAMED_IMAGES if content.options is not None else UNREAD_IMAGES


def _stated(
    datasets: Mapping[str, h5py.Dataset], images: Mapping[str, str], content: Content, lost: Mapping[str, str]
) -> dict[tuple[str, str], Pixels | Files]:
    check_settings(datasets, content)
    forms = {}
    for name, path in images.items():
        if path not in datasets:
            close = f": {lost[path]}" if path in lost else nearest(path, datasets)
            raise Refused(f"it has no array '{path}', which content.hdf5.images.{name} names{close}")
        form = form_of(path, datasets[path], content, is_stated=True)
        if form is None or isinstance(form, str):
            what = f"{datasets[path].dtype} and shape {datasets[path].shape}"
            raise Refused(f"its array '{path}' of {what} holds no images")
        forms[name, path] = form
    return forms


def _clock(
    group: h5py.Group,
    arrays: Mapping[str, NDArray[Any]],
    places: StatedPlaces,
    num_frames: int,
    content: Content,
) -> Clock:
    if places.time is None:
        return clock_of(None, num_frames, content)
    key = places.time.key
    dataset = links.at(group, key)
    if not isinstance(dataset, h5py.Dataset):
        raise Refused(f"it has no array '{key}', which content.hdf5.time names{nearest(key, arrays)}")
    values = arrays[key] if key in arrays else hdf5.read_array(key, dataset)
    if content.extra_row is not None and values.shape[:1] == (num_frames + 1,):
        values = values[:num_frames]
    measured = key, values, places.time.unit, "--set content.hdf5.time=null, and give content.fps"
    return clock_of(measured, num_frames, content, epoch=places.time.epoch)
