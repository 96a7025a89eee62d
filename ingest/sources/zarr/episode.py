"""One episode of a replay buffer: which of its arrays are pictures, and its rows of all.

Legend: N frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.robot.clock import clock_of
from robot_foundry.ingest.sources.robot.named_columns import NAMED
from robot_foundry.ingest.sources.robot.pixels import ALPHA, ROUNDED, Pixels, check_settings, pixels_of
from robot_foundry.ingest.sources.robot.shared import (
    LARGEST_ROW,
    MOST_LOW_DIM_BYTES,
    UNASKED,
    camera_of,
    chosen,
    spans,
)
from robot_foundry.ingest.sources.robot.source_episode import (
    Picture,
    SourceCamera,
    SourceEpisode,
    Text,
    text_of,
)
from robot_foundry.ingest.sources.zarr.arrays import Rows
from robot_foundry.ingest.sources.zarr.chunks import absent
from robot_foundry.ingest.sources.zarr.ends import Span
from robot_foundry.ingest.sources.zarr.metadata import Described, Description
from robot_foundry.ingest.sources.zarr.names import named_columns
from robot_foundry.ingest.sources.zarr.places import ENDS, Place

TIMESTAMP = "timestamp"
# JPEG takes about this share of the raw bytes; only the planner uses it.
ESTIMATED_COMPRESSION = 8


@dataclass(frozen=True)
class Buffer:
    """A replay buffer, and what of it the spec asks for."""

    place: Place
    description: Description
    content: Content

    @cached_property
    def _forms(self) -> dict[str, Pixels | str]:
        """Of each array that holds pictures their form, or why it is not certain that it does."""
        arrays = self.description.arrays
        check_settings(arrays, self.content)
        forms = {
            name: pixels_of(name, array.shape, array.dtype, self.content) for name, array in arrays.items()
        }
        return {name: form for name, form in forms.items() if form is not None}

    @cached_property
    def pictures(self) -> dict[str, Pixels]:
        """The arrays that are cameras, by name of the array."""
        return {name: form for name, form in self._forms.items() if isinstance(form, Pixels)}

    @property
    def unsure(self) -> dict[str, str]:
        """Why arrays that may be cameras are not taken for them."""
        return {name: form for name, form in self._forms.items() if isinstance(form, str)}

    @cached_property
    def cameras(self) -> tuple[SourceCamera, ...]:
        """Those that the spec asks for. Refused if one is not there."""
        return chosen([self._camera(name, form) for name, form in self.pictures.items()], self.content)

    @property
    def has_pictures(self) -> bool:
        return bool(self.cameras)

    @property
    def has_times(self) -> bool:
        return TIMESTAMP in self.description.arrays

    @property
    def read(self) -> dict[str, Described]:
        """The arrays of which rows are read: all but the cameras that nobody asked for."""
        asked = {camera.array for camera in self.cameras}
        arrays = self.description.arrays
        return {name: array for name, array in arrays.items() if name in asked or name not in self.pictures}

    def rows(self, name: str, span: Span) -> Rows:
        return Rows(self.place, self.description.arrays[name], span.start, span.stop)

    def why_not(self, span: Span) -> str | None:
        """Why the episode cannot be read, as far as lengths and names tell; None if they tell of nothing."""
        for name, array in self.read.items():
            if array.shape[0] < span.stop:
                return (
                    f"'{ENDS}' says that it ends at row {span.stop}, and its array '{name}' has "
                    f"{array.shape[0]} (--set 'content.skip=[{name}]' goes without it)"
                )
            if (at := self.rows(name, span).lacking()) is not None:
                return absent(array, at)
        return None

    def rows_behind(self, last: int) -> str | None:
        """What is said of rows that no episode takes; None if there are none."""
        longer = {name: array.shape[0] for name, array in self.read.items() if array.shape[0] > last}
        if not longer:
            return None
        name, length = max(longer.items(), key=lambda item: item[1])
        return (
            f"'{ENDS}' ends at row {last}, and no episode takes the rows behind it, which '{name}' has up to "
            f"{length}"
        )

    def chunk_names(self, span: Span) -> set[str]:
        """The files that hold the rows of an episode."""
        return {
            array.chunk_name(at) for name, array in self.read.items() for at in self.rows(name, span).chunks()
        }

    def num_bytes(self, span: Span) -> int:
        """What an episode takes in the tar, by estimate."""
        num_frames, total = span.stop - span.start, 0
        for name, array in self.read.items():
            row = math.prod(array.shape[1:])
            form = self.pictures.get(name)
            total += (
                row * array.dtype.itemsize
                if form is None
                else form.height * form.width * 3 // ESTIMATED_COMPRESSION
            )
        return num_frames * total

    def _camera(self, name: str, form: Pixels) -> SourceCamera:
        return SourceCamera(camera_of(name), name, form.height, form.width, form.in_words)


@dataclass
class _Read:
    """What was read of the arrays that are no cameras."""

    arrays: dict[str, NDArray[Any]]
    texts: list[tuple[int, int, str, Text]]
    left_out: dict[str, str]
    remarks: dict[str, str]


def episode_of(buffer: Buffer, span: Span, content: Content) -> SourceEpisode:
    """The episode of these rows. Refused, here or while frames are read."""
    num_frames, description = span.stop - span.start, buffer.description
    cameras, views, read = [], [], _Read({}, [], dict(description.left_out), dict(description.remarks))
    low_dim = [name for name in buffer.read if name not in buffer.pictures]
    for camera in buffer.cameras:
        form = buffer.pictures[camera.array]
        settled = form.settled(
            camera.array, buffer.rows(camera.array, span).one_by_one() if form.is_open else ()
        )
        if isinstance(settled, Pixels):
            cameras.append(replace(camera, pixels=settled.in_words))
            views.append(_pictures(buffer.rows(camera.array, span), settled, camera.array))
            told = [ALPHA] * settled.has_alpha + [ROUNDED] * settled.rounds
            read.remarks |= {camera.array: "; ".join(told)} if told else {}
        elif content.cameras is not None:
            raise Refused(f"its camera '{camera.name}': '{camera.array}' {settled}")
        else:
            read.remarks[camera.array] = settled
            low_dim.append(camera.array)
    _read_low_dim(read, buffer, span, low_dim)
    unasked = set(buffer.pictures) - {camera.array for camera in buffer.cameras}
    read.left_out |= dict.fromkeys(sorted(unasked), UNASKED)
    times = read.arrays.get(TIMESTAMP)
    without = f"--set 'content.skip=[{TIMESTAMP}]', and give content.fps"
    clock = clock_of(None if times is None else (TIMESTAMP, times, "s", without), num_frames, content)
    widths = {name: int(array[0].size) for name, array in read.arrays.items() if name != TIMESTAMP}
    return SourceEpisode(
        num_frames=num_frames,
        fps=clock.fps,
        fps_source=clock.fps_source,
        start_ns=clock.start_ns,
        cameras=cameras,
        arrays={**read.arrays, TIMESTAMP: clock.timestamp_N},
        attributes={},
        environment={**description.attributes, NAMED: named_columns(widths)},
        left_out=read.left_out,
        remarks={**buffer.unsure, **read.remarks},
        frames=zip(*views, strict=True) if views else iter(()),
        steps_text=read.texts,
    )


def _pictures(rows: Rows, form: Pixels, name: str) -> Iterator[Picture]:
    for n, row in enumerate(rows.one_by_one()):
        yield np.ascontiguousarray(row) if form.is_usual else form.rgb(row, name, n)


def _read_low_dim(read: _Read, buffer: Buffer, span: Span, names: list[str]) -> None:
    """The rows of these arrays. Refused if they are too large, or damaged."""
    num_bytes = 0
    for name in sorted(names):
        array = buffer.description.arrays[name]
        row = math.prod(array.shape[1:])
        if row > LARGEST_ROW:
            read.left_out[name] = f"a row has {row} numbers"
        elif row == 0:
            read.left_out[name] = "it is empty"
        elif array.dtype.kind in "US":
            _read_texts(read, buffer.rows(name, span), name, row)
        else:
            num_bytes += (span.stop - span.start) * row * array.dtype.itemsize
            if num_bytes > MOST_LOW_DIM_BYTES:
                raise Refused(f"its arrays take more than {MOST_LOW_DIM_BYTES} bytes; skip some in the spec")
            read.arrays[name] = buffer.rows(name, span).read()


def _read_texts(read: _Read, rows: Rows, name: str, row: int) -> None:
    """One text a frame is language of spans of frames."""
    if row != 1:
        read.left_out[name] = f"a row has {row} texts"
        return
    values = rows.read().reshape(-1).tolist()
    texts = [text_of(value) if isinstance(value, bytes) else value for value in values]
    read.texts += spans(name, texts)
