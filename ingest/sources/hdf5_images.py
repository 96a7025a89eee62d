"""Image arrays of HDF5 files in the forms that recorders use.

    pixels      uint8 [N, H, W, 3], or channels first as [N, 3, H, W]
    padded      uint8 [N, L]: each row a JPEG or PNG file and zeros behind it (ACT's `compress`)
    variable    [N] of byte strings or of uint8 of any length: each a JPEG or PNG file

Legend: N images, H W pixels, L bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from robot_foundry.ingest.sources import hdf5
from robot_foundry.ingest.sources.base import Camera, Encoded, Picture, Refused
from robot_foundry.shards import images
from robot_foundry.shards.errors import CorruptImage

PIXELS, CHANNELS_FIRST, PADDED, VARIABLE = "pixels", "channels first", "padded", "variable"
FORMATS = {"jpg": "jpeg", "png": "png"}
SMALLEST_SIDE = 8
# A row of this many bytes would be read at once.
LARGEST_FILE = 1 << 28
# Its end, which occurs nowhere in the data before; a camera may put some bytes behind it.
JPEG_END, MOST_BEHIND = b"\xff\xd9", 1024
ZEROS = bytes(4096), bytes(256)
# JPEG takes about this share of the raw bytes; only the planner uses it.
ESTIMATED_COMPRESSION = 8


@dataclass(frozen=True)
class ImageArray:
    """The images of one camera. `num_bytes` is what they take in the tar, by estimate."""

    camera: Camera
    dataset: h5py.Dataset
    form: str
    num_bytes: int

    @property
    def num_images(self) -> int:
        return int(self.dataset.shape[0])

    @property
    def is_encoded(self) -> bool:
        return self.form in (PADDED, VARIABLE)

    def pictures(self) -> Iterator[Picture]:
        """The images one by one. Refused for one that is damaged or cut off."""
        headers = images.Headers()
        for n, row in enumerate(hdf5.stream(self.camera.array, self.dataset)):
            if self.form == PIXELS:
                yield row
            elif self.form == CHANNELS_FIRST:
                yield np.moveaxis(row, 0, -1)
            else:
                yield _encoded(row, self.camera.array, n, headers)


def may_hold_images(dataset: h5py.Dataset) -> bool:
    """Whether the array has one of the forms, by its type and shape."""
    return _form(dataset) is not None


def image_array(name: str, path: str, dataset: h5py.Dataset) -> ImageArray:
    """The images of the camera `name` in the array. Refused if it is in none of the forms."""
    form = _form(dataset)
    if form is None:
        raise Refused(f"its array '{path}' of {dataset.dtype} and shape {dataset.shape} holds no images")
    count = int(dataset.shape[0])
    if form in (PIXELS, CHANNELS_FIRST):
        height, width = dataset.shape[1:3] if form == PIXELS else dataset.shape[2:4]
        num_bytes = int(dataset.size) // ESTIMATED_COMPRESSION
    else:
        if count == 0:
            raise Refused(f"its camera '{path}' has no images")
        data = _encoded(hdf5.first_row(path, dataset), path, 0, images.Headers()).data
        try:
            _, height, width = images.probe(data)
        except CorruptImage as error:
            raise Refused(f"its image 0 of '{path}' is damaged: {error.message}") from error
        num_bytes = len(data) * count
    return ImageArray(Camera(name, path, int(height), int(width)), dataset, form, num_bytes)


def _form(dataset: h5py.Dataset) -> str | None:
    shape, dtype = dataset.shape, dataset.dtype
    if hdf5.is_image(dataset):
        return PIXELS
    if not shape:
        return None
    is_first = dtype == np.uint8 and len(shape) == 4 and shape[1] == 3 and min(shape[2:]) >= SMALLEST_SIDE
    if is_first and shape[2] * shape[3] <= images.MAX_PIXELS:
        return CHANNELS_FIRST
    if dtype in (np.uint8, np.int8) and len(shape) == 2 and shape[1] <= LARGEST_FILE:
        return PADDED
    is_bytes = dtype.kind in "SV" or h5py.check_string_dtype(dtype) is not None
    variable = h5py.check_vlen_dtype(dtype)
    is_numbers = variable is not None and np.dtype(variable) in (np.uint8, np.int8)
    return VARIABLE if len(shape) == 1 and (is_bytes or is_numbers) else None


def _without_zeros(row: memoryview) -> bytes:
    """The bytes without the zeros behind them: where these begin is found before anything large is copied."""
    end = len(row)
    for zeros in ZEROS:
        while bytes(row[max(end - len(zeros), 0) : end]) == zeros:
            end -= len(zeros)
    start = max(end - len(zeros), 0)
    tail = bytes(row[start:end]).rstrip(b"\0")
    return bytes(row[: start + len(tail)])


def _encoded(row: Any, path: str, n: int, headers: images.Headers) -> Encoded:
    """The image file in a row, without the zeros behind it: neither format ends in one."""
    if isinstance(row, np.ndarray) and row.size:
        data = _without_zeros(row.data.cast("B"))
    else:
        data = bytes(row).rstrip(b"\0")
    try:
        encoding, height, width = headers.probe(data)
    except CorruptImage as error:
        raise Refused(f"its image {n} of '{path}' is damaged: {error.message}") from error
    if encoding == "jpg" and JPEG_END not in data[-MOST_BEHIND:]:
        raise Refused(f"its image {n} of '{path}' is cut off")
    return Encoded(data, FORMATS[encoding], (height, width))
