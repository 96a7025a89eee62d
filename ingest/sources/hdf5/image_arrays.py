"""Image arrays of HDF5 files in the forms that recorders use.

    pixels      as ingest/sources/robot/pixels.py says
    padded      uint8 [N, L]: each row a JPEG or PNG file and zeros behind it (ACT's `compress`)
    variable    [N] of byte strings or of uint8 of any length: each a JPEG or PNG file

Legend: N images, H W pixels, L bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.hdf5 import hdf5
from robot_foundry.ingest.sources.robot.pixels import Pixels, pixels_of
from robot_foundry.ingest.sources.robot.source_episode import Encoded, Picture, SourceCamera
from robot_foundry.shards import images
from robot_foundry.shards.errors import CorruptImage

# A row of this many bytes would be read at once.
LARGEST_FILE = 1 << 28
# Its end, which occurs nowhere in the data before; a camera may put some bytes behind it.
JPEG_END, MOST_BEHIND = b"\xff\xd9", 1024
ZEROS = bytes(4096), bytes(256)
# JPEG takes about this share of the raw bytes; only the planner uses it.
ESTIMATED_COMPRESSION = 8


@dataclass(frozen=True)
class Files:
    """The form in which each row is an image file."""


@dataclass(frozen=True)
class ImageArray:
    """The images of one camera. `num_bytes` is what they take in the tar, by estimate."""

    camera: SourceCamera
    dataset: h5py.Dataset
    form: Pixels | Files
    num_bytes: int

    @property
    def num_images(self) -> int:
        return int(self.dataset.shape[0])

    @property
    def is_encoded(self) -> bool:
        return isinstance(self.form, Files)

    def settled(self) -> ImageArray | str:
        """With the form that the numbers tell, or why they do not; they are read only if they must."""
        if isinstance(self.form, Files):
            return self
        rows = hdf5.stream(self.camera.array, self.dataset) if self.form.is_open else ()
        form = self.form.settled(self.camera.array, rows)
        if isinstance(form, str):
            return form
        return replace(self, form=form, camera=replace(self.camera, pixels=form.in_words))

    def pictures(self) -> Iterator[Picture]:
        """The images one by one. Refused for one that is damaged or cut off."""
        rows, path = hdf5.stream(self.camera.array, self.dataset), self.camera.array
        if isinstance(self.form, Files):
            headers = images.Headers()
            return (_encoded(row, path, n, headers) for n, row in enumerate(rows))
        if self.form.is_usual:
            return rows
        form = self.form
        return (form.rgb(row, path, n) for n, row in enumerate(rows))


def form_of(
    path: str,
    dataset: h5py.Dataset,
    content: Content,
    *,
    is_stated: bool = False,
    is_place: bool = False,
    reads: str | None = "",
) -> Pixels | Files | str | None:
    """As `pixels_of`, and image files: they are looked for in any array of bytes that may hold them."""
    if dataset.shape is None:
        return None
    if _may_hold_files(dataset):
        return Files() if is_stated or is_place or _starts_as_file(path, dataset) else None
    return pixels_of(
        path, dataset.shape, dataset.dtype, content, is_stated=is_stated, is_place=is_place, reads=reads
    )


def image_array(name: str, path: str, dataset: h5py.Dataset, form: Pixels | Files) -> ImageArray:
    """The images of the camera `name` in the array. Refused if the first is damaged."""
    if isinstance(form, Pixels):
        num_bytes = int(dataset.shape[0]) * form.height * form.width * 3 // ESTIMATED_COMPRESSION
        return ImageArray(SourceCamera(name, path, form.height, form.width), dataset, form, num_bytes)
    count = int(dataset.shape[0])
    if count == 0:
        raise Refused(f"its camera '{path}' has no images")
    data = _encoded(hdf5.first_row(path, dataset), path, 0, images.Headers()).data
    try:
        _, height, width = images.probe(data)
    except CorruptImage as error:
        raise Refused(f"its image 0 of '{path}' is damaged: {error.message}") from error
    return ImageArray(SourceCamera(name, path, int(height), int(width)), dataset, form, len(data) * count)


def _may_hold_files(dataset: h5py.Dataset) -> bool:
    shape, dtype = dataset.shape, dataset.dtype
    if dtype in (np.uint8, np.int8) and len(shape) == 2 and shape[1] <= LARGEST_FILE:
        return True
    is_bytes = dtype.kind in "SV" or h5py.check_string_dtype(dtype) is not None
    variable = h5py.check_vlen_dtype(dtype)
    is_numbers = variable is not None and np.dtype(variable) in (np.uint8, np.int8)
    return len(shape) == 1 and (is_bytes or is_numbers)


def _starts_as_file(path: str, dataset: h5py.Dataset) -> bool:
    if dataset.shape[0] == 0:
        return False
    row = hdf5.first_row(path, dataset)
    head = row[:8].tobytes() if isinstance(row, np.ndarray) else row[:8] if isinstance(row, bytes) else b""
    return images.starts_as_image(head)


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
    return Encoded(data, images.FORMATS[encoding], (height, width))
