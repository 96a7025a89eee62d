"""Where things lie in HDF5 of a stranger's layout: episodes, their length, images, times.

Legend: N frames.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import h5py
import numpy as np

from robot_foundry.ingest.inspect.evidence.names import is_of_action, is_of_time, words
from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.hdf5 import hdf5, links
from robot_foundry.ingest.sources.hdf5.image_arrays import Files, form_of
from robot_foundry.ingest.sources.hdf5.layouts import StatedPlaces, Time
from robot_foundry.ingest.sources.robot.clock import why_not_times
from robot_foundry.ingest.sources.robot.pixels import Pixels
from robot_foundry.ingest.sources.robot.shared import camera_of

# Sibling groups whose arrays are compared: more say nothing new.
MOST_GROUPS, MOST_DATASETS = 64, 20_000
# Groups are episodes where they hold this share of all arrays, and have this share of their names in common;
# arrays are of one episode where this share of them has one length.
MOST_OF, ALIKE, COHERENT = 0.8, 0.8, 0.6
DIGITS = re.compile(r"\d+")
# Times since 1970 by their size, in the units in which they are kept.
_SINCE_1970 = (("ns", 1e17), ("us", 1e14), ("ms", 1e11), ("s", 1e8))
_FASTEST, _SLOWEST = 1e-4, 5.0  # seconds between frames that a recorder may have


def places_in(path: str | Path) -> tuple[Content, Mapping[str, str], list[str]]:
    """`content` with the section `hdf5`, the evidence by its keys, and what is not certain.

    A file in which nothing is found has a `length` that no reader takes: it is refused by name.
    """
    told: list[str] = []
    try:
        with hdf5.open_file(Path(path)) as file:
            lost: dict[str, str] = {}
            held = dict(islice(links.datasets(file, lost=lost).items(), MOST_DATASETS))
            told += [f"'{name}' is not read: {why}" for name, why in lost.items()]
            return _places(file, held, told)
    except Refused as error:
        return Content(options=StatedPlaces(length="")), {}, [*told, error.message]
    except links.ERRORS as error:
        return (
            Content(options=StatedPlaces(length="")),
            {},
            [*told, links.unreadable("the file", error).message],
        )


def _places(
    file: h5py.File, held: Mapping[str, h5py.Dataset], told: list[str]
) -> tuple[Content, Mapping[str, str], list[str]]:
    pattern, why_episodes = _episodes(held)
    groups = _grouped(held, 0 if pattern is None else pattern.count("/") + 1)
    first = min(_with_frames(groups, held) or groups, key=hdf5.natural_order)
    prefix = f"{first}/" if first else ""
    inside = {path.removeprefix(prefix): held[path] for path in groups[first]}
    length, why_length, num_frames = _length(inside)
    images = _images(inside, num_frames)
    time, why_time = _time(inside, num_frames)
    longer = [n for n, d in inside.items() if _rows(d) == num_frames + 1]
    notes = {"episodes": why_episodes, "length": why_length}
    if images:
        notes["images"] = f"high: {', '.join(images.values())} hold pictures by shape or by their first bytes"
    if time is not None:
        notes["time"] = why_time
    extra = None
    if longer and not images.keys() & {camera_of(name) for name in longer} - {""}:
        notes["extra_row"] = f"medium: {', '.join(longer[:3])} have one row more than {length}"
        extra = "next_state"
    everywhere = all(
        f"{group}/{path}" in held for group in list(groups)[:MOST_GROUPS] if group for path in images.values()
    )
    named = dict(images) if everywhere else tuple(images.values())
    stated = StatedPlaces(length, pattern, named, time)
    return Content(options=stated, extra_row=extra), notes, told


def _rows(dataset: h5py.Dataset) -> int:
    return int(dataset.shape[0]) if dataset.shape else 0


def _grouped(paths: Mapping[str, h5py.Dataset], depth: int) -> dict[str, list[str]]:
    """Paths by their first `depth` parts; those that have fewer are of no group."""
    groups: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        parts = path.split("/")
        if len(parts) > depth:
            groups["/".join(parts[:depth])].append(path)
    return dict(groups) or {"": []}


def _episodes(held: Mapping[str, h5py.Dataset]) -> tuple[str | None, str]:
    """The pattern of groups that are episodes, None if the file is one; and why."""
    deepest = max((path.count("/") for path in held), default=0)
    # A numbered name that all arrays lie beneath; the deepest, for runs may hold takes.
    for depth in range(min(deepest, 4), 0, -1):
        groups = _grouped(held, depth)
        names = [name.rpartition("/")[2] for name in groups]
        kinds = {DIGITS.sub("#", name) for name in names}
        covered = sum(map(len, groups.values())) / max(len(held), 1)
        if len(kinds) == 1 and "#" in kinds.pop() and covered >= MOST_OF and _alike(groups, held):
            pattern = _pattern(list(groups))
            return pattern, f"high: {len(groups)} groups {pattern} have the same arrays, each of one length"
    if _coherence(held.values()) >= COHERENT or not deepest:
        return None, "medium: the arrays of the file have one length, so the file is one episode"
    for depth in range(1, min(deepest, 4) + 1):
        groups = _grouped(held, depth)
        if len(groups) > 1 and _alike(groups, held):
            pattern = _pattern(list(groups))
            return pattern, f"medium: {len(groups)} groups {pattern} have the same arrays, each of one length"
    return None, "low: no groups look like episodes, so the file is taken for one"


def _alike(groups: Mapping[str, Sequence[str]], held: Mapping[str, h5py.Dataset]) -> bool:
    """Whether the groups hold the same arrays, and each of them arrays of one length.

    A take that broke off before its second frame has no length that speaks for or against it.
    """
    few = list(groups)[:MOST_GROUPS]
    names = [{path[len(group) + 1 :] for path in groups[group]} for group in few]
    common, every = set.intersection(*names), set.union(*names)
    told = _with_frames({group: groups[group] for group in few}, held)
    coherent = [_coherence([held[path] for path in groups[group]]) >= COHERENT for group in told]
    return len(common) >= ALIKE * len(every) and bool(told) and sum(coherent) >= ALIKE * len(told)


def _with_frames(groups: Mapping[str, Sequence[str]], held: Mapping[str, h5py.Dataset]) -> list[str]:
    """The groups in which an array has more than one row."""
    return [group for group, paths in groups.items() if any(_rows(held[path]) > 1 for path in paths)]


def _coherence(datasets: Iterable[h5py.Dataset]) -> float:
    """The share of the arrays that have the most common length above one, or one row more than it."""
    lengths = [_rows(dataset) for dataset in datasets if dataset.shape]
    counted = Counter(length for length in lengths if length > 1)
    if not counted:
        return 0.0
    length = counted.most_common(1)[0][0]
    return sum(n in (length, length + 1, length - 1) for n in lengths) / len(lengths)


def _pattern(groups: Sequence[str]) -> str:
    """A shell pattern of the groups: a part that is one name stays, numbers and unlike names become `*`."""
    parts = []
    for names in zip(*(group.split("/") for group in groups), strict=True):
        kinds = {DIGITS.sub("*", name) for name in names}
        parts.append(
            names[0] if len(set(names)) == 1 and len(groups) > 1 else kinds.pop() if len(kinds) == 1 else "*"
        )
    return "/".join(parts)


def _length(inside: Mapping[str, h5py.Dataset]) -> tuple[str, str, int]:
    """The array that says how many frames there are: an action by its name, else one of the common length."""
    lengths = Counter(_rows(dataset) for dataset in inside.values() if _rows(dataset) > 1)
    actions = [name for name in inside if is_of_action(name) and _rows(inside[name]) in lengths]
    for name in sorted(actions, key=lambda name: (name.count("/"), name)):
        rows = _rows(inside[name])
        if lengths[rows] + lengths[rows + 1] >= COHERENT * lengths.total():
            return name, f"high: '{name}' is an action by its name, and has the rows of the others", rows
    if not lengths:
        return next(iter(inside), ""), "low: no array has more than one row", 0
    rows = lengths.most_common(1)[0][0]
    name = next(name for name in sorted(inside) if _rows(inside[name]) == rows)
    return name, f"medium: {lengths[rows]} of {lengths.total()} arrays have as many rows", rows


def _images(inside: Mapping[str, h5py.Dataset], num_frames: int) -> dict[str, str]:
    """Cameras by name, of arrays that are certainly pictures."""
    images: dict[str, str] = {}
    for path, dataset in inside.items():
        form = form_of(path, dataset, Content()) if abs(_rows(dataset) - num_frames) <= 2 else None
        if isinstance(form, Pixels | Files):
            name = camera_of(path)
            if name in images:  # cam0/rgb and cam1/rgb are called for their folders
                name = camera_of("_".join(path.split("/")[-2:]))
            images[name] = path
    if len({path.rpartition("/")[2] for path in images.values()}) < len(images):
        return {camera_of("_".join(path.split("/")[-2:])): path for path in images.values()}
    return images


def _time(inside: Mapping[str, h5py.Dataset], num_frames: int) -> tuple[Time | None, str]:
    """The array of rising times, one a frame, that is called so; its unit by its size and steps."""
    for path, dataset in sorted(inside.items(), key=lambda item: item[0].count("/")):
        if dataset.shape not in ((num_frames,), (num_frames, 1)) or not is_of_time(path):
            continue
        times_N = np.asarray(hdf5.read_array(path, dataset)).reshape(-1)
        if num_frames < 2 or why_not_times(times_N, num_frames, 1.0) is not None:
            continue
        found = _unit(path, times_N)
        if found is not None:
            unit, epoch, why = found
            return Time(path, unit, epoch), why
    return None, ""


def _unit(path: str, times_N: np.ndarray) -> tuple[str, bool, str] | None:
    """(unit, since 1970, why) of times, None where no unit gives a rate that recorders have."""
    step = (float(times_N[-1]) - float(times_N[0])) / (len(times_N) - 1)
    scale = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
    for unit, least in _SINCE_1970:
        if times_N[0] >= least and _FASTEST <= step * scale[unit] <= _SLOWEST:
            return (
                unit,
                True,
                f"high: '{path}' rises by {step * scale[unit]:.4g} s a frame, in {unit} since 1970",
            )
    named = [unit for unit in scale if unit in words(path)]
    likely = [unit for unit in scale if _FASTEST <= step * scale[unit] <= _SLOWEST]
    if named and named[0] in likely:
        return (
            named[0],
            False,
            f"high: '{path}' is in {named[0]} by its name, {step * scale[named[0]]:.4g} s a frame",
        )
    if step == 1 and times_N.dtype.kind in "iu":
        return None  # numbers of frames
    if not likely:
        return None
    why = f"medium: '{path}' rises by {step:.4g} a frame, which in {likely[0]} is a rate that robots have"
    return likely[0], False, why
