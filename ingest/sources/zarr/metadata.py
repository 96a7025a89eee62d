"""What describes the arrays of a replay buffer, in zarr's format 2, none of it trusted.

Each array is taken as its own .zarray says; where .zmetadata, a copy of all, says otherwise is told.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.robot.shared import SKIPPED, is_skipped
from robot_foundry.ingest.sources.zarr.places import (
    ARRAY,
    ATTRIBUTES,
    CONSOLIDATED,
    ENDS,
    OF_FORMAT_3,
    Place,
)
from robot_foundry.shards.arrays import is_safe_name

DATA = "data/"
BESIDE = f"it lies beside the arrays of frames, and of such {ENDS} alone is read"
LARGEST_DESCRIPTION, LARGEST_CONSOLIDATED = 1 << 20, 1 << 26
# Compressions of chunks that are read, as zarr calls them.
CODECS = ("blosc", "lz4", "zlib", "gzip", "zstd")
MOST_AXES, MOST_SIDE, MOST_PARTS = 8, 1 << 48, 4096
# Memory holds the chunks of some rows of each array at once.
LARGEST_CHUNK = 1 << 30
_DTYPE = re.compile(r"[<>|](b1|[iu][1248]|f[248]|[US][1-9][0-9]{0,4})")


@dataclass(frozen=True)
class Described:
    """An array, called `name` in the replay buffer: `shape` [N, …], cut into `chunks` of the same axes."""

    name: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    order: str
    separator: str
    compressor: Mapping[str, Any] | None

    @property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def parts(self) -> tuple[int, ...]:
        """Into how many chunks each axis but the first is cut."""
        return tuple(-(-side // chunk) for side, chunk in zip(self.shape[1:], self.chunks[1:], strict=True))

    def chunk_name(self, place: tuple[int, ...]) -> str:
        """The file of the chunk at this place of the grid."""
        return f"{self.name}/{self.separator.join(map(str, place))}"


@dataclass(frozen=True)
class Description:
    """`arrays` are those of data, by their names there, `left_out` says why others are not read.

    `remarks` are what the user should know of arrays, `attributes` those of the root.
    """

    ends: Described
    arrays: Mapping[str, Described]
    attributes: Mapping[str, Any]
    left_out: Mapping[str, str] = field(default_factory=dict)
    remarks: Mapping[str, str] = field(default_factory=dict)


def describe(place: Place, skip: tuple[str, ...]) -> Description:
    """What is in the replay buffer; `skip` are patterns of arrays that are not looked at.

    Refused if it is of another format, has no ends of episodes, or an array that cannot be read.
    """
    names = place.names
    if f"{ENDS}/{ARRAY}" not in names:
        raise Refused(_no_ends(names))
    held = {name.removesuffix(f"/{ARRAY}") for name in place.describing if name.endswith(f"/{ARRAY}")}
    data = sorted(name for name in held if name.startswith(DATA))
    skipped = {name.removeprefix(DATA) for name in data if is_skipped(name.removeprefix(DATA), skip)}
    arrays = {
        name.removeprefix(DATA): _described(place, name)
        for name in data
        if name.removeprefix(DATA) not in skipped
    }
    others = sorted(held - {ENDS, *data})
    left_out = dict.fromkeys(sorted(skipped), SKIPPED) | dict.fromkeys(others, BESIDE)
    listed_only, remarks = _contradictions(place, held, skip)
    return Description(
        _described(place, ENDS),
        arrays,
        _object(place, ATTRIBUTES, LARGEST_DESCRIPTION) if ATTRIBUTES in names else {},
        left_out | listed_only,
        remarks,
    )


def _no_ends(names: Collection[str]) -> str:
    if any(name.rpartition("/")[2] == OF_FORMAT_3 for name in names):
        return (
            "it is of zarr's format 3, and format 2 is read, in which Diffusion Policy and UMI write: "
            "`zarr_format=2` of the package zarr makes one"
        )
    return f"it has no '{ENDS}', which tells where episodes end: give the folder that holds data and meta"


def _contradictions(
    place: Place, held: Collection[str], skip: tuple[str, ...]
) -> tuple[dict[str, str], dict[str, str]]:
    """Arrays that .zmetadata lists alone, and those of which it says something else than their own file."""
    if CONSOLIDATED not in place.names:
        return {}, {}
    told = _object(place, CONSOLIDATED, LARGEST_CONSOLIDATED).get("metadata")
    left_out, remarks = {}, {}
    for key, value in told.items() if isinstance(told, dict) else ():
        array = key.removesuffix(f"/{ARRAY}")
        name = array.removeprefix(DATA)
        if array == key or is_skipped(name, skip) or not is_safe_name(name):
            continue
        if array not in held:
            left_out[name] = f"{CONSOLIDATED} lists it, and it is not there"
            remarks[name] = f"is listed in {CONSOLIDATED}, and it is not there"
        elif value != _object(place, f"{array}/{ARRAY}", LARGEST_DESCRIPTION):
            remarks[name] = (
                f"is described otherwise in {CONSOLIDATED} than in its own {ARRAY}, which was taken"
            )
    return left_out, remarks


def _described(place: Place, name: str) -> Described:
    """Refused, with how to go on without the array, if it cannot be read."""
    short = name.removeprefix(DATA)
    if not is_safe_name(short):
        raise Refused(f"the name of its array {short!r} is not allowed")
    values = _object(place, f"{name}/{ARRAY}", LARGEST_DESCRIPTION)
    reason = _why_unread(values)
    if reason is not None:
        without = "" if name == ENDS else f" (--set 'content.skip=[{short}]' goes without it)"
        raise Refused(f"its array '{short}' {reason}{without}")
    return Described(
        name,
        tuple(values["shape"]),
        tuple(values["chunks"]),
        np.dtype(values["dtype"]),
        values["order"],
        values.get("dimension_separator", "."),
        values["compressor"],
    )


def _why_unread(values: Mapping[str, Any]) -> str | None:
    """Why the array that is described so cannot be read, or None."""
    shape: Any = values.get("shape")
    chunks: Any = values.get("chunks")
    dtype = values.get("dtype")
    if values.get("zarr_format") != 2:
        return f"is of zarr's format {_shown(values.get('zarr_format'))}, and format 2 is read"
    if dtype == "|O":
        return "is of Python objects, which only unpickling could read, so they are not"
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
        return f"is of the type {_shown(dtype)}, and numbers and texts of a fixed length are read"
    if not _are_sides(shape, 0) or not _are_sides(chunks, 1) or len(shape) != len(chunks):
        return f"has the shape {_shown(shape)} in chunks of {_shown(chunks)}, which is none"
    if values.get("order") not in ("C", "F") or values.get("dimension_separator", ".") not in (".", "/"):
        return "has an order of numbers, or names of chunks, that are not known"
    if lacking := [key for key in ("compressor", "filters") if key not in values]:
        return f"does not say how its chunks are packed: its {ARRAY} has no {' and no '.join(lacking)}"
    if values.get("filters"):
        filters = values["filters"]
        named = ", ".join(_id(entry) for entry in filters) if isinstance(filters, list) else _shown(filters)
        return f"is written through the filter {named}, which is not read"
    row_bytes = math.prod(shape[1:]) * np.dtype(dtype).itemsize
    if max(math.prod(chunks) * np.dtype(dtype).itemsize, chunks[0] * row_bytes) > LARGEST_CHUNK:
        return (
            f"has chunks of {chunks[0]} rows, which take more than {LARGEST_CHUNK} bytes: write smaller ones"
        )
    if math.prod(-(-side // chunk) for side, chunk in zip(shape[1:], chunks[1:], strict=True)) > MOST_PARTS:
        return f"has rows that are cut into more than {MOST_PARTS} chunks"
    return _why_not_decoded(values.get("compressor"))


def _why_not_decoded(compressor: Any) -> str | None:
    if compressor is None or _id(compressor) in CODECS:
        return None
    return f"is compressed by the codec {_id(compressor)}, and {', '.join(CODECS)} or none are read"


def _are_sides(values: Any, least: int) -> bool:
    return (
        isinstance(values, list)
        and 0 < len(values) <= MOST_AXES
        and all(type(side) is int and least <= side <= MOST_SIDE for side in values)
    )


def _id(codec: Any) -> str:
    return _shown(codec.get("id") if isinstance(codec, dict) else codec)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return ascii(text[:60]).strip("'\"")


def _object(place: Place, name: str, limit: int) -> dict[str, Any]:
    try:
        values = json.loads(place.read(name, limit))
    except (ValueError, RecursionError) as error:
        raise Refused(f"its file '{name}' is no JSON: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(values, dict):
        raise Refused(f"its file '{name}' is no JSON object")
    return values
