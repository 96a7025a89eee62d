"""RLDS: TFDS directories whose records are episodes, each a sequence `steps` and what belongs to the episode.

Arrays and images carry the path of their feature (`steps/observation/state`). JPEG and PNG images go through
as they are. Units are known from `shardLengths` of dataset_info.json, and what is read must agree with it.

Legend: T steps.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import Refused, SourceFile, Unit
from robot_foundry.ingest.sources.rlds.directory import (
    FEATURES,
    INFO,
    LARGEST_JSON,
    DatasetFile,
    describe,
    missing_files,
)
from robot_foundry.ingest.sources.rlds.features import (
    IMAGE,
    NUMBER,
    PACKED,
    TEXT,
    UNREAD,
    Example,
    Leaf,
)
from robot_foundry.ingest.sources.rlds.file_names import CLAIMED, Names
from robot_foundry.ingest.sources.rlds.layouts import RLDS
from robot_foundry.ingest.sources.rlds.tfrecord import SMALLEST_RECORD, find_records, read_record
from robot_foundry.ingest.sources.rlds.views import (
    cameras_of,
    encoded_maps,
    is_view,
    pictures_of,
    tensor_form,
    tensors_of,
    too_long,
)
from robot_foundry.ingest.sources.robot.pixels import Pixels
from robot_foundry.ingest.sources.robot.shared import ABSENT, MOST_LOW_DIM_BYTES, SKIPPED, spans
from robot_foundry.ingest.sources.robot.source_episode import EpisodeLayout, SourceEpisode, Text, text_of
from robot_foundry.runtime import files
from robot_foundry.shards.arrays import is_safe_name
from robot_foundry.shards.robot.names import MAX_FRAMES, episode_key

# Names of what is added here.
RESERVED = ("timestamp", "split")


class Rlds(EpisodeLayout):
    """See `EpisodeLayout`."""

    declared = RLDS
    version = 2

    def claims(self, path: str) -> bool:
        return CLAIMED.fullmatch(path) is not None

    def companions(self, path: str, listed: Collection[str]) -> tuple[str, ...]:
        folder = path.rpartition("/")[0]
        beside = [f"{folder}/{name}" if folder else name for name in (FEATURES, INFO)]
        return tuple(name for name in beside if name in listed)

    def missing(self, root: str, paths: Sequence[str]) -> list[str]:
        sentences = []
        for folder, beside in groupby(sorted(paths), key=lambda path: path.rpartition("/")[0]):
            place = f"{folder}/{INFO}" if folder else INFO
            try:
                sentences += missing_files(files.read_bytes(root, place), beside)
            except (OSError, Refused):
                continue  # it is absent, or listing the files told what is wrong with it
        return sentences

    def list_units(self, file: SourceFile, content: Content) -> tuple[list[Unit], list[tuple[str, str]]]:
        described = describe(file.path, partial(_json_beside, file), partial(_names_beside, file))
        num_records, refused = described.num_records, []
        if num_records is None or described.is_guess:
            with file.local() as path:
                records = find_records(path)
            num_records = len(records.spans)
            if records.damage is not None:
                refused.append((f"{file.path}#record_{num_records}", records.damage))
            stated = described.num_records
            if described.is_guess and num_records != stated:
                raise Refused(
                    f"{INFO} says {stated} records if the files that are not here are empty, and it has "
                    f"{num_records}: fetch the others, or move {INFO} away"
                )
        if num_records * SMALLEST_RECORD > file.size or (num_records == 0 and file.size and not refused):
            raise Refused(f"{INFO} says {num_records} records, and it has {file.size} bytes")
        num_bytes = file.size // max(num_records, 1)
        has_pixels = any(isinstance(tensor_form(leaf, content), Pixels) for leaf in described.leaves)
        units = [
            Unit(
                file,
                name,
                episode_key(file.path, f"{described.split}_{number:06d}"),
                num_bytes,
                num_records == 1,
                encodes=content.changes_pixels or has_pixels,
            )
            for number, name in enumerate(map("record_{}".format, range(num_records)))
        ]
        return units, refused

    @contextmanager
    def open(self, unit: Unit, content: Content) -> Iterator[SourceEpisode]:
        described = describe(unit.file.path, partial(_json_beside, unit.file))
        with unit.file.local() as path:
            example = Example(_record(path, int(unit.id.removeprefix("record_")), described))
        yield _episode(example, described, content)


def _json_beside(file: SourceFile, name: str) -> bytes | None:
    """The content of the JSON file of that name in the file's folder; None if there is none."""
    for companion in file.companions:
        if companion.path.rpartition("/")[2] == name:
            if companion.size > LARGEST_JSON:
                raise Refused(f"{name} has {companion.size} bytes")
            with companion.local() as path:
                return path.read_bytes()
    return None


def _names_beside(file: SourceFile) -> Names:
    """The names of all files in its folder: a local one is listed once while no name in it changes."""
    folder = "/".join(filter(None, (file.root, file.path.rpartition("/")[0])))
    return _names_in(folder) if files.is_remote(folder) else _names_at(folder, os.stat(folder).st_mtime_ns)


@lru_cache(maxsize=4)
def _names_at(folder: str, _modified_ns: int) -> Names:
    return _names_in(folder)


def _names_in(folder: str) -> Names:
    return Names(status.path for status in files.matching(folder, "*"))


def _record(path: Path, number: int, described: DatasetFile) -> bytes:
    """The bytes of a record of a file that holds as many as dataset_info.json says."""
    stated, records = described.num_records, find_records(path)
    num_found = len(records.spans)
    if stated is not None and records.damage is None and not number < num_found <= stated:
        raise Refused(f"the file holds {num_found} records, and {INFO} says {stated}")
    return read_record(path, number)


def _episode(example: Example, described: DatasetFile, content: Content) -> SourceEpisode:
    leaves, left_out = _sorted_out(example, described, content)
    num_frames = _num_frames(example, described.leaves, left_out)
    views = {leaf.path: example.bytes_of(leaf.path) for leaf in leaves if is_view(leaf)}
    tensors = tensors_of(example, leaves, num_frames, content)
    cameras, unseen = cameras_of(views, tensors, content)
    numbers = [leaf for leaf in leaves if leaf.kind in (NUMBER, PACKED) and leaf.path not in tensors.pixels]
    left_out |= unseen | {leaf.path: reason for leaf in numbers if (reason := too_long(leaf))}
    numbers = [leaf for leaf in numbers if leaf.path not in left_out]
    maps = {
        leaf.path: example.bytes_of(leaf.path) for leaf in leaves if leaf.kind == IMAGE and not is_view(leaf)
    }
    arrays = _arrays(example, numbers, num_frames) | encoded_maps(maps, left_out)
    texts = {
        leaf: [text_of(data) for data in example.bytes_of(leaf.path)] for leaf in leaves if leaf.kind == TEXT
    }
    fps, fps_source = (content.default_fps, "default") if content.fps is None else (content.fps, "spec")
    return SourceEpisode(
        num_frames=num_frames,
        fps=fps,
        fps_source=fps_source,
        start_ns=None,
        cameras=cameras,
        arrays={**arrays, "timestamp": np.arange(num_frames, dtype=np.float64) / fps},
        attributes=_attributes(texts, numbers, arrays, described),
        environment={"dataset": described.dataset, "version": described.version, "config": described.config},
        left_out=left_out,
        remarks=tensors.remarks,
        frames=pictures_of(cameras, views, tensors),
        steps_text=[
            span for leaf, lines in texts.items() if leaf.per_step for span in spans(leaf.path, lines)
        ],
    )


def _sorted_out(example: Example, file: DatasetFile, content: Content) -> tuple[list[Leaf], dict[str, str]]:
    """The features that are taken, and why each other one is not."""
    names = example.names()
    described = {name for leaf in file.leaves for name in leaf.names}
    left_out = dict.fromkeys(sorted(names - described), f"{FEATURES} does not describe it")
    leaves = []
    for leaf in file.leaves:
        if any(fnmatch.fnmatchcase(leaf.path, pattern) for pattern in content.skip):
            left_out[leaf.path] = SKIPPED
        elif leaf.optional and names.isdisjoint(leaf.names):
            left_out[leaf.path] = ABSENT
        elif reason := _why_left_out(leaf):
            left_out[leaf.path] = reason
        else:
            leaves.append(leaf)
    return leaves, left_out


def _why_left_out(leaf: Leaf) -> str | None:
    """Why a feature is not taken, or None."""
    if not is_safe_name(leaf.path) or leaf.path in RESERVED:
        return "its name is not allowed"
    if leaf.kind == UNREAD:
        return leaf.note
    if leaf.kind == TEXT and (len(leaf.lengths) > 1 or leaf.shape):
        return "it is a list of texts at each step" if leaf.per_step else "it is a list of lists of texts"
    if leaf.kind == IMAGE:
        return None if leaf.per_step and len(leaf.lengths) == 1 else "it is not one image a step"
    return None


def _num_frames(example: Example, leaves: Sequence[Leaf], left_out: Mapping[str, str]) -> int:
    """The number of steps, which every feature of the steps must agree on, but those that are skipped."""
    lengths = {
        leaf.path: length
        for leaf in leaves
        if leaf.per_step
        and left_out.get(leaf.path) not in (SKIPPED, ABSENT)
        and (length := example.num_steps(leaf)) is not None
    }
    longest = max(lengths.values(), default=0)
    if longest == 0:
        raise Refused("it has no steps")
    if longest > MAX_FRAMES:
        raise Refused(f"it has {longest} steps, and an episode holds {MAX_FRAMES} at most")
    for path, length in lengths.items():
        if length != longest:
            other = next(name for name, most in lengths.items() if most == longest)
            raise Refused(f"its lengths disagree: {other} has {longest} steps, {path} has {length}")
    return longest


def _arrays(example: Example, leaves: Sequence[Leaf], num_frames: int) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    num_bytes = 0
    for leaf in leaves:
        for name, array in example.arrays(leaf, num_frames).items():
            arrays[name] = array
            num_bytes += array.nbytes
        if num_bytes > MOST_LOW_DIM_BYTES:
            raise Refused(f"its arrays take more than {MOST_LOW_DIM_BYTES} bytes; skip some in the spec")
    return arrays


def _attributes(
    texts: Mapping[Leaf, list[Text]],
    numbers: Sequence[Leaf],
    arrays: Mapping[str, NDArray[Any]],
    described: DatasetFile,
) -> dict[str, Any]:
    """The split, and what the record says of the episode as a whole: texts, and single numbers."""
    lines = {leaf.path: texts[leaf] for leaf in texts if not leaf.per_step}
    single = [leaf for leaf in numbers if not leaf.per_step and not leaf.lengths and not leaf.shape]
    return {
        **{path: values if len(values) != 1 else values[0] for path, values in lines.items()},
        **{leaf.path: arrays[leaf.path].item() for leaf in single},
        "split": described.split,
    }
