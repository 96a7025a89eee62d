"""The images of the steps of an RLDS episode: encoded features, and tensors of pixels.

Legend: T steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import Data, Refused
from robot_foundry.ingest.sources.rlds.features import (
    IMAGE,
    NUMBER,
    NUMBER_TYPES,
    PACKED,
    RAGGED_LENGTHS,
    RAGGED_VALUES,
    Example,
    Leaf,
)
from robot_foundry.ingest.sources.robot.pixels import (
    ALPHA,
    Pixels,
    check_settings,
    is_named_picture,
    pixels_of,
)
from robot_foundry.ingest.sources.robot.shared import LARGEST_ROW, NO_IMAGE, UNASKED, chosen
from robot_foundry.ingest.sources.robot.source_episode import Encoded, Picture, SourceCamera
from robot_foundry.shards import images

# Depth maps of an episode take no more than this beside its low-dimensional arrays.
MOST_MAP_BYTES = 256 * 1024 * 1024
# In place of a size that only the record tells.
ANY_SIDE, COLOURS = 64, 3


@dataclass(frozen=True)
class Tensors:
    """Tensors of pixels by path, their form and the numbers [T, …]; `remarks` is of those not certain."""

    pixels: Mapping[str, tuple[Pixels, NDArray[Any]]]
    remarks: Mapping[str, str]


def is_view(leaf: Leaf) -> bool:
    """Whether an image feature is a camera's, and not a depth map or a mask."""
    colours = leaf.shape[2:] in ((), (3,), (4,)) or (leaf.shape[2:] == (1,) and is_named_picture(leaf.path))
    return leaf.kind == IMAGE and leaf.dtype == "uint8" and colours


def tensor_form(leaf: Leaf, content: Content) -> Pixels | str | None:
    """As `pixels_of`, of a feature of numbers as far as features.json tells; None for any other."""
    is_tensor = leaf.kind in (NUMBER, PACKED) and leaf.per_step and len(leaf.lengths) == 1
    if not is_tensor or len(leaf.shape) not in (2, 3) or leaf.dtype not in NUMBER_TYPES:
        return None
    # An Example holds no floats but these, and tensors packed as bytes their own.
    dtype = np.dtype("float32" if leaf.dtype == "bfloat16" else leaf.dtype)
    dtype = np.dtype("float32") if dtype.kind == "f" and leaf.kind == NUMBER else dtype
    sides = [ANY_SIDE if size is None else size for size in leaf.shape]
    if len(sides) == 3 and leaf.shape[2] is None:
        sides[2] = COLOURS
    return pixels_of(leaf.path, (1, *sides), dtype, content)


def tensors_of(example: Example, leaves: Sequence[Leaf], num_frames: int, content: Content) -> Tensors:
    """Those of the features that hold pixels. Refused for NaN in them."""
    check_settings((leaf.path for leaf in leaves if leaf.kind in (NUMBER, PACKED)), content)
    pixels: dict[str, tuple[Pixels, NDArray[Any]]] = {}
    remarks: dict[str, str] = {}
    for leaf in leaves:
        form = tensor_form(leaf, content)
        if isinstance(form, Pixels):
            array = example.arrays(leaf, num_frames)[leaf.path]
            form = pixels_of(leaf.path, array.shape, array.dtype, content)
            form = form.settled(leaf.path, array) if isinstance(form, Pixels) else form
        if isinstance(form, Pixels):
            pixels[leaf.path] = form, array
            remarks |= {leaf.path: ALPHA} if form.has_alpha else {}
        elif form is not None:
            remarks[leaf.path] = form
    return Tensors(pixels, remarks)


def too_long(leaf: Leaf) -> str | None:
    """Why a feature of numbers is not kept as a low-dimensional array, or None."""
    row = prod(size for size in (*leaf.shape, *leaf.lengths[1:]) if size is not None)
    return f"a row has {row} numbers" if leaf.per_step and row > LARGEST_ROW else None


def cameras_of(
    views: Mapping[str, Sequence[Data]], tensors: Tensors, content: Content
) -> tuple[tuple[SourceCamera, ...], dict[str, str]]:
    """The cameras that the spec asks for, with the size of their first image, and why others are not."""
    paths = sorted({**views, **tensors.pixels})
    names = _camera_names(paths)
    cameras, left_out = [], {}
    for path in paths:
        if path in tensors.pixels:
            form, _ = tensors.pixels[path]
            cameras.append(SourceCamera(names[path], path, form.height, form.width, form.in_words))
            continue
        first = next(((step, data) for step, data in enumerate(views[path]) if data), None)
        if first is None:
            left_out[path] = NO_IMAGE
        else:
            _, height, width = _probed(path, *first, images.Headers())
            cameras.append(SourceCamera(names[path], path, height, width))
    blind = {names[path] for path in left_out}
    wanted = content.cameras and tuple(name for name in content.cameras if name not in blind)
    taken = chosen(cameras, replace(content, cameras=wanted))
    return taken, {**left_out, **{c.array: UNASKED for c in cameras if c not in taken}}


def pictures_of(
    cameras: Sequence[SourceCamera], views: Mapping[str, Sequence[Data]], tensors: Tensors
) -> Iterable[Sequence[Picture]]:
    """Of each step, the image of each camera."""
    return zip(*(_of_camera(camera, views, tensors) for camera in cameras), strict=True)


def _of_camera(
    camera: SourceCamera, views: Mapping[str, Sequence[Data]], tensors: Tensors
) -> Iterator[Picture]:
    path = camera.array
    if path in views:
        return _pictures(camera, views[path])
    form, array = tensors.pixels[path]
    return (form.rgb(row, path, step) for step, row in enumerate(array))


def _camera_names(paths: Sequence[str]) -> dict[str, str]:
    """The last part of the feature's path; the whole path where two end alike."""
    last = [path.rpartition("/")[2] for path in paths]
    full = [path if last.count(name) > 1 else name for path, name in zip(paths, last, strict=True)]
    return {
        path: re.sub(r"[^a-z0-9_]", "_", name.lower())[-40:] for path, name in zip(paths, full, strict=True)
    }


def _probed(path: str, step: int, data: Data, headers: images.Headers) -> tuple[str, int, int]:
    try:
        encoding, height, width = headers.probe(data)
    except images.CorruptImage as error:
        raise Refused(f"image {step} of {path}: {error.message}") from error
    return images.FORMATS[encoding], height, width


def _pictures(camera: SourceCamera, views: Sequence[Data]) -> Iterator[Picture]:
    """The images untouched; None where the source has no bytes at that step."""
    headers = images.Headers()
    for step, data in enumerate(views):
        if not data:
            yield None
            continue
        encoding, height, width = _probed(camera.array, step, data, headers)
        yield Encoded(data, encoding, (height, width))


def encoded_maps(maps: Mapping[str, Sequence[Data]], left_out: dict[str, str]) -> dict[str, NDArray[Any]]:
    """Depth maps and masks as they are encoded, under the names of a sequence of bytes; if not too many."""
    arrays: dict[str, NDArray[Any]] = {}
    for path, encoded in maps.items():
        num_bytes = sum(map(len, encoded))
        if num_bytes > MOST_MAP_BYTES:
            left_out[path] = f"its images take {num_bytes} bytes"
            continue
        headers = images.Headers()
        for step, data in enumerate(encoded):
            if data:
                _probed(path, step, data, headers)
        arrays[f"{path}/{RAGGED_VALUES}"] = np.frombuffer(b"".join(encoded), np.uint8)
        arrays[f"{path}/{RAGGED_LENGTHS}0"] = np.array([len(data) for data in encoded], np.int64)
    return arrays
