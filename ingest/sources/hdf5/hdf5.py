"""What the HDF5 layouts share: opening with a clear refusal, attributes as JSON, arrays and image streams.

Where links lead is of `links`.

Legend: N frames, H W pixels.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.base import GIT_LFS, Refused
from robot_foundry.ingest.sources.hdf5.links import ERRORS, child, unreadable
from robot_foundry.ingest.sources.robot.shared import LARGEST_ROW, SKIPPED, is_skipped
from robot_foundry.ingest.sources.robot.source_episode import text_of

SUFFIXES = (".hdf5", ".h5", ".hdf")
LONGEST_TEXT = 1 << 16
LONGEST_LIST = 256
BLOCK_BYTES = 64 * 1024 * 1024
READ_BYTES = 1024 * 1024


def claims(path: str) -> bool:
    """HDF5 by its name."""
    return path.lower().endswith(SUFFIXES)


@contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """The file, read-only. Refused says what it is instead of a readable HDF5 file."""
    with path.open("rb") as raw:
        head = raw.read(64)
    if not head:
        raise Refused("the file is empty")
    if head.startswith(GIT_LFS):
        raise Refused("the file is a Git LFS pointer and not the data, which `git lfs pull` would fetch")
    if not h5py.is_hdf5(path):
        raise Refused("the file is not HDF5")
    try:
        # No locking: sources lie on read-only and network file systems. No cache: each chunk is read once.
        file = h5py.File(path, "r", locking=False, rdcc_nbytes=0)
    except OSError as error:
        raise unreadable("the file", error) from error
    with file:
        yield file


def natural_order(name: str) -> tuple[Any, ...]:
    """Sort key under which demo_2 comes before demo_10, and demo_1 before demo_01."""
    parts = re.split(r"([0-9]+)", name)
    numbered = [
        (1, len(part.lstrip("0")), part.lstrip("0")) if i % 2 else (0, 0, part)
        for i, part in enumerate(parts)
    ]
    return *numbered, (0, len(name), name)


def key_names(names: Sequence[str]) -> dict[str, str]:
    """What the key of each episode of one file is made of: no two are the same.

    That is the name with its last number padded, so that sorted keys are in numeric order; and the name
    itself where others would be padded to the same (demo_1 beside demo_01).
    """
    padded = {
        name: re.sub(r"([0-9]+)(?=[^0-9]*$)", lambda number: number[1].zfill(6), name) for name in names
    }
    counts = Counter(padded.values())
    return {name: name if counts[key] > 1 else key for name, key in padded.items()}


def groups(file: h5py.File) -> list[str]:
    """Names of the groups in /data, in numeric order; damaged ones too, to be refused by name."""
    data = child(file, "data")
    if not isinstance(data, h5py.Group):
        return []
    return sorted((str(name) for name in data if not is_dataset(data, name)), key=natural_order)


def is_dataset(group: h5py.Group, name: str) -> bool:
    """Whether an array lies under the name; False for what cannot be read."""
    try:
        return isinstance(child(group, name), h5py.Dataset)
    except (Refused, *ERRORS):
        return False


def holds(file: h5py.File, demo: str, name: str) -> bool:
    """Whether a group of /data has that name; False for what cannot be read."""
    try:
        return name in file["data"][demo]
    except ERRORS:
        return False


def attributes(attrs: h5py.AttributeManager) -> dict[str, Any]:
    """HDF5 attributes as JSON values. Long texts (a scene's XML) and arrays become their sha256.

    Values of an enumeration are their names. Bytes that are not UTF-8 are kept as {"base64": …}.
    """
    values = {}
    try:
        names = sorted(attrs)
    except ERRORS as error:
        raise unreadable("the list of attributes", error) from error
    for name in names:
        try:
            values[name] = json_value(by_name(attrs[name], attrs.get_id(name).dtype))
        except ERRORS as error:
            values[name] = {"unreadable": type(error).__name__}
    return values


def by_name(values: Any, dtype: np.dtype[Any]) -> Any:
    """Members of an enumeration as their names; what is none, and all of other types, as it is."""
    members = h5py.check_enum_dtype(dtype)
    if members is None or isinstance(values, h5py.Empty):
        return values
    names = {number: name for name, number in members.items()}
    named = [names.get(number, number) for number in np.asarray(values).reshape(-1).tolist()]
    return named[0] if np.ndim(values) == 0 else np.array(named, dtype=object)


def is_one_member(dataset: h5py.Dataset) -> bool:
    """Whether it is one value of an enumeration, which its name alone explains."""
    return dataset.shape == () and h5py.check_enum_dtype(dataset.dtype) is not None


def json_value(value: Any) -> Any:
    """An attribute, or one of its items, as JSON."""
    if isinstance(value, np.void) and value.dtype.names is None:
        value = value.tobytes()
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")  # so h5py gives what is not UTF-8
    if isinstance(value, bytes | np.bytes_):
        is_xml = value.lstrip().startswith(b"<") and value.rstrip().endswith(b">")
        return text_of(value) if len(value) <= LONGEST_TEXT and not is_xml else _hashed(bytes(value))
    if isinstance(value, np.ndarray):
        if value.size > LONGEST_LIST:
            return {**_hashed(np.ascontiguousarray(value).tobytes()), "shape": list(value.shape)}
        return [json_value(item) for item in value.reshape(-1)]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else str(value)
    if isinstance(value, h5py.Empty):
        return None
    return {"unreadable": type(value).__name__}


def _hashed(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def json_attribute(values: Mapping[str, Any], name: str) -> Any:
    """The attribute parsed as JSON; None if it is absent or is not JSON."""
    try:
        return json.loads(values[name])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def holds_text(dataset: h5py.Dataset) -> bool:
    return dataset.shape is not None and h5py.check_string_dtype(dataset.dtype) is not None


def why_left_out(name: str, dataset: h5py.Dataset, skip: tuple[str, ...]) -> str | None:
    """Why an array is not stored among the low-dimensional ones, or None."""
    if is_skipped(name, skip):
        return SKIPPED
    if not name.isprintable() or "\\" in name:
        return "its name is not allowed"
    if dataset.shape is None:
        return "it is empty"
    if dataset.dtype.kind not in "biuf":
        return f"its type is {dataset.dtype}"
    row = int(np.prod(dataset.shape[1:], dtype=np.int64))
    if row > LARGEST_ROW:
        return f"a row has {row} numbers"
    return None


def read_array(name: str, dataset: h5py.Dataset) -> NDArray[Any]:
    try:
        values: NDArray[Any] = dataset[()]
    except ERRORS as error:
        raise unreadable(f"array '{name}'", error) from error
    return values


def first_row(name: str, dataset: h5py.Dataset) -> Any:
    """Row 0 of an array that has one."""
    try:
        return dataset[0]
    except ERRORS as error:
        raise unreadable(f"array '{name}' near frame 0", error) from error


def stream(name: str, dataset: h5py.Dataset) -> Iterator[NDArray[Any]]:
    """The rows one by one. Each chunk is unpacked once; memory holds a row of chunks, or a few small ones."""
    num_frames = dataset.shape[0]
    frame_bytes = max(1, int(np.prod(dataset.shape[1:], dtype=np.int64)) * dataset.dtype.itemsize)
    chunk = dataset.chunks[0] if dataset.chunks else 1
    chunk = max(1, min(chunk, BLOCK_BYTES // frame_bytes))
    # A read takes as long as a copy of some hundred kB, so small chunks are read together.
    rows = chunk * max(1, READ_BYTES // (chunk * frame_bytes))
    for start in range(0, num_frames, rows):
        try:
            block = dataset[start : start + rows]
        except ERRORS:
            yield from _by_chunk(name, dataset, range(start, min(start + rows, num_frames), chunk))
        else:
            yield from block


def _by_chunk(name: str, dataset: h5py.Dataset, starts: range) -> Iterator[NDArray[Any]]:
    """Rows of chunks of which one could not be read: those before it, and its place."""
    for start in starts:
        try:
            block = dataset[start : min(start + starts.step, starts.stop)]
        except ERRORS as error:
            raise unreadable(f"array '{name}' near frame {start}", error) from error
        yield from block
