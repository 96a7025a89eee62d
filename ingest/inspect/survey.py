"""A few episodes of a source as the reader of its layout gives them: one interface for all formats.

Legend: N frames, d columns of an array, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.files.scan import choose, list_units, source_files
from robot_foundry.ingest.inspect.forms.bag_topics import options_of_bag
from robot_foundry.ingest.inspect.forms.found import Found
from robot_foundry.ingest.inspect.forms.hdf5_places import places_in
from robot_foundry.ingest.robot.content.members import reader_of
from robot_foundry.ingest.robot.spec.spec import Content, MappingSpec, Spec
from robot_foundry.ingest.sources.base import UNKNOWN, Unit
from robot_foundry.ingest.sources.robot.named_columns import NAMED
from robot_foundry.ingest.sources.robot.source_episode import Picture, SourceCamera, SourceEpisode
from robot_foundry.ingest.sources.ros.options import RosOptions
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.parallel import Workers

# Episodes that are opened and files that are listed, spread over all; and the rows and bytes of numbers kept.
MOST_EPISODES, MOST_FILES, MOST_ROWS = 8, 16, 10_000
MOST_BYTES = 64 * 1024 * 1024
# Bags are read from end to end for their numbers; of larger ones the topics alone are looked at.
MOST_BAG_BYTES = 512 * 1024 * 1024
TIMESTAMP = "timestamp"
# Of a source that does not tell, so that its reader can give times; `Survey.fps` is None then.
NOMINAL_FPS = 10.0
NOT_TOLD = ("default", "spec")
# What damaged files make readers and their libraries raise, beside what readers say themselves.
_DAMAGE = (FoundryError, OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError, MemoryError)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """One array: `shape` of a row, and its rows in each episode that was read, float64 [N, d], NaN for inf.

    `columns` are the names that the source gives to its columns, empty where it gives none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    episodes: tuple[Array, ...]
    columns: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @cached_property
    def rows(self) -> Array:
        """The finite rows of all episodes, [M, d]."""
        rows_Md = np.concatenate(self.episodes) if self.episodes else np.empty((0, self.width))
        return rows_Md[np.isfinite(rows_Md).all(axis=1)]


@dataclass(frozen=True)
class Read:
    """One episode that was read. `spans` are (kind, text) of its frames."""

    id: str
    num_frames: int
    fps: float
    fps_source: str
    start_ns: int | None
    cameras: tuple[SourceCamera, ...]
    attributes: Mapping[str, Any]
    environment: Mapping[str, Any]
    left_out: Mapping[str, str]
    remarks: Mapping[str, str]
    spans: tuple[tuple[str, str], ...]
    arrays: Mapping[str, NDArray[Any]]
    pictures: Mapping[str, Picture]


@dataclass(frozen=True)
class Survey:
    """What is known of a robot source. `units` are those of the files that were listed.

    `refused` are (name, reason). `series` are the arrays that all read episodes have in common, `partial`
    those that some lack. `spec` is the form in which the reader was asked, without a mapping.
    """

    found: Found
    spec: Spec
    num_files: int
    files_listed: int
    units: tuple[Unit, ...]
    refused: tuple[tuple[str, str], ...]
    read: tuple[Read, ...]
    series: Mapping[str, Series]
    partial: tuple[str, ...]
    told: tuple[str, ...]
    notes: Mapping[str, str]

    @property
    def num_frames(self) -> int | None:
        lengths = [unit.num_samples for unit in self.units]
        return None if None in lengths else sum(length or 0 for length in lengths)

    @property
    def fps(self) -> tuple[float, str] | None:
        """(Hz, where it is told), None where the source does not tell."""
        if not self.read or self.read[0].fps_source in NOT_TOLD:
            return None
        return float(np.median([read.fps for read in self.read])), self.read[0].fps_source

    @property
    def cameras(self) -> tuple[SourceCamera, ...]:
        by_name = {camera.name: camera for read in reversed(self.read) for camera in read.cameras}
        return tuple(by_name[name] for name in sorted(by_name))


def survey(found: Found, *, with_pictures: bool = False) -> Survey:
    """Open a few episodes. What cannot be read is among `refused`; with no episode `read` is empty."""
    content, notes, told = _content(found)
    spec = Spec(found.place, str(found.layout), content, MappingSpec("unknown"))
    empty = Survey(found, spec, 0, 0, (), (), (), {}, (), tuple(told), notes)
    try:
        _, source = choose(found.place, spec)
        files = source_files(source, lambda _: UNKNOWN)
        chosen = _spread(files, MOST_FILES)
        listing = list_units(chosen, spec, Workers())
    except _DAMAGE as error:
        return replace(empty, refused=((found.place, _reason(error)),))
    refused = [(entry.unit, entry.reason) for entry in listing.refused]
    wanted = in_reach(_spread(listing.units, MOST_EPISODES), spec.layout)
    if listing.units and not wanted:
        told = [*told, "its messages were not read, for it is large: numbers and times are not known"]
    read = _read(spec, wanted, refused, with_pictures)
    if not read and wanted:
        # One camera that cannot be read must not hide the numbers.
        read = _read(_without_cameras(spec), wanted, [], False)
        told = [*told, *(["its pictures could not be read, so the numbers alone were"] if read else [])]
    series, partial = _series(read)
    units = tuple(listing.units)
    counts = len(files), len(chosen), units, tuple(refused), tuple(read)
    return Survey(found, spec, *counts, series, partial, tuple(told), notes)


def in_reach(units: Sequence[Unit], layout: str) -> list[Unit]:
    """Those that are read: all of them, but of bags no more than are read soon."""
    if layout != "ros":
        return list(units)
    kept, total = list[Unit](), 0
    for unit in units:
        if total + unit.file.num_bytes <= MOST_BAG_BYTES:
            kept.append(unit)
            total += unit.file.num_bytes
    return kept


def _without_cameras(spec: Spec) -> Spec:
    options = spec.content.options
    if isinstance(options, RosOptions):
        return replace(spec, content=replace(spec.content, options=replace(options, cameras={}, depth={})))
    return replace(spec, content=replace(spec.content, cameras=()))


def _content(found: Found) -> tuple[Content, Mapping[str, str], list[str]]:
    """How the reader is asked: what a layout needs to be told is drafted from the file itself.

    With evidence by the key of the spec, and sentences on what is not certain.
    """
    if found.layout == "hdf5":
        return places_in(found.sample)
    if found.layout == "ros":
        return options_of_bag(found.sample if found.num_files == 1 else found.place)
    return Content(fps=NOMINAL_FPS if found.layout == "zarr" else None), {}, []


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of them, evenly, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(n * (len(items) - 1) / (most - 1))] for n in range(most)]


def _reason(error: BaseException) -> str:
    if isinstance(error, FoundryError):
        return error.message
    return f"it could not be read ({type(error).__name__}: {' '.join(str(error).split())[:200]})"


def _read(
    spec: Spec, units: Sequence[Unit], refused: list[tuple[str, str]], with_pictures: bool
) -> list[Read]:
    """The units one after the other, until enough numbers are held; those that fail go to `refused`."""
    reader, read, held = reader_of(spec), list[Read](), 0
    for unit in units:
        try:
            with reader.open(unit, spec.content) as episode:
                read.append(_episode(unit, episode, with_pictures and not read))
        except _DAMAGE as error:
            refused.append((unit.name, _reason(error)))
            continue
        held += sum(values.nbytes for values in read[-1].arrays.values())
        if held > MOST_BYTES:
            break
    return read


def _episode(unit: Unit, episode: SourceEpisode, with_pictures: bool) -> Read:
    shown: Mapping[str, Picture] = {}
    if with_pictures and episode.cameras:
        first = next(islice(iter(episode.frames), 1), None)
        names = [camera.name for camera in episode.cameras]
        shown = {} if first is None else dict(zip(names, first, strict=True))
    arrays = {
        name: np.array(values[:MOST_ROWS]) for name, values in episode.arrays.items() if np.ndim(values)
    }
    return Read(
        unit.id,
        episode.num_frames,
        episode.fps,
        episode.fps_source,
        episode.start_ns,
        tuple(episode.cameras),
        dict(episode.attributes),
        dict(episode.environment),
        dict(episode.left_out),
        dict(episode.remarks),
        tuple(
            dict.fromkeys((kind, text) for _, _, kind, text in episode.steps_text if isinstance(text, str))
        ),
        arrays,
        shown,
    )


def _series(read: Sequence[Read]) -> tuple[dict[str, Series], tuple[str, ...]]:
    """The arrays with one row a frame that all episodes have in one shape, and the names of others."""
    if not read:
        return {}, ()
    columns = _columns(read[0].environment)
    series, partial = {}, []
    for name in dict.fromkeys(name for one in read for name in one.arrays):
        held = [one.arrays.get(name) for one in read]
        kept = [values for values in held if values is not None]
        lengths = [min(one.num_frames, MOST_ROWS) for one in read]
        fits = [
            v is not None and len(v) >= n and v.dtype.kind in "biuf"
            for v, n in zip(held, lengths, strict=True)
        ]
        if not all(fits) or len({values.shape[1:] for values in kept}) > 1:
            partial.append(name)
            continue
        shape = tuple(int(size) for size in kept[0].shape[1:])
        rows = tuple(_finite(values[:n].reshape(n, -1)) for values, n in zip(kept, lengths, strict=True))
        series[name] = Series(name, shape, str(kept[0].dtype), rows, columns.get(name, ()))
    return series, tuple(partial)


def _finite(values_Nd: NDArray[Any]) -> Array:
    """The numbers as float64, infinities as NaN: they tell no more, and spoil every sum."""
    rows_Nd = values_Nd.astype(np.float64)
    rows_Nd[np.isinf(rows_Nd)] = np.nan
    return rows_Nd


def _columns(environment: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Names of columns that the source tells, by array."""
    named = environment.get(NAMED)
    if not isinstance(named, Mapping):
        return {}
    names: dict[str, dict[int, str]] = {}
    groups = [*named.get("state", ()), *(g for groups in named.get("actions", {}).values() for g in groups)]
    for quantity, key, first, columns, *_ in groups:
        part = quantity.partition(".")[0]
        for number, name in enumerate(columns):
            names.setdefault(key, {})[first + number] = name if part == "robot" else f"{part}_{name}"
    return {key: tuple(of[n] for n in sorted(of)) for key, of in names.items()}


def beside_frames(survey: Survey) -> dict[str, str]:
    """Why arrays are not taken, and what readers remark, of any episode that was read."""
    told: dict[str, str] = {}
    for read in survey.read:
        told |= {name: why for name, why in read.left_out.items() if name not in told}
        told |= {name: why for name, why in read.remarks.items() if name not in told}
    return told
