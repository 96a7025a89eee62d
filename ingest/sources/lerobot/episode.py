"""One episode of a LeRobot dataset: its rows, its times, its language and its pictures.

Legend: N frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import Refused, SourceFile
from robot_foundry.ingest.sources.formats.parquet_file import opened
from robot_foundry.ingest.sources.lerobot.dataset import Dataset, dataset_of
from robot_foundry.ingest.sources.lerobot.info import AUDIO, IMAGE, VIDEO
from robot_foundry.ingest.sources.lerobot.names import named_columns
from robot_foundry.ingest.sources.lerobot.places import INFO
from robot_foundry.ingest.sources.lerobot.rows import (
    EPISODE,
    FRAME,
    IMAGES,
    NUMBERS,
    TEXTS,
    Column,
    columns_in,
    episodes_in,
    numbers,
    read_table,
)
from robot_foundry.ingest.sources.lerobot.views import (
    IN_FILES,
    Views,
    add_images,
    add_videos,
    camera_names,
    video_keys,
)
from robot_foundry.ingest.sources.robot.clock import Clock, clock_of, example
from robot_foundry.ingest.sources.robot.named_columns import NAMED, plain
from robot_foundry.ingest.sources.robot.shared import (
    LARGEST_ROW,
    MOST_LOW_DIM_BYTES,
    SKIPPED,
    UNASKED,
    chosen,
    is_skipped,
    spans,
)
from robot_foundry.ingest.sources.robot.source_episode import Picture, SourceEpisode
from robot_foundry.shards.arrays import is_safe_name
from robot_foundry.shards.robot.names import MAX_FRAMES

TIMESTAMP = "timestamp"
# The source's own times, which need not begin at 0 as those of the tables do.
OWN_TIMES = "source_timestamp"
# Columns whose numbers stand for texts of meta/tasks and meta/subtasks, and what these are.
TASK, SUBTASK = "task_index", "subtask_index"
KINDS = {TASK: "task", SUBTASK: "subtask"}
ANNOTATION = "annotation."
# Columns of truths by camera, beside `observation.images.<name>`, as exports of this product have them.
CAMERA, MISSING = "observation.images.", "camera_is_missing."
# Columns of every dataset, which some writers do not declare.
ALWAYS = frozenset((TIMESTAMP, FRAME, EPISODE, "index", TASK))
# Times that lie further off the rate than this share of a step are told.
OFF_GRID = 0.5
_Spans = list[tuple[int, int, str, Any]]


@dataclass
class _Read:
    """What was read of the columns."""

    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    texts: _Spans = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)


def episode_of(file: SourceFile, episode: int, content: Content) -> SourceEpisode:
    """The episode of that number in a local file of data. Refused, here or while frames are read."""
    dataset, path = dataset_of(file), Path(file.root, file.path)
    rows = _rows_of(file, path, dataset, episode)
    num_frames = rows[1] - rows[0]
    with opened(path) as data:
        columns = columns_in(data)
        read = _columns(data, columns, rows, dataset, content)
    views = _views(file, path, columns, dataset, episode, rows, content)
    clock = _clock(read, num_frames, dataset, content)
    times = read.arrays.pop(TIMESTAMP, None)
    own = {} if times is None else {OWN_TIMES: times}
    listed, split = dataset.listed(episode), dataset.info.split_of(episode)
    if listed is None and dataset.episodes is not None:
        read.remarks[EPISODE] = f"is that of an episode which {dataset.episodes.table} does not list"
    pictures = [_there(views.pictures[camera.array], camera.array, read.arrays) for camera in views.cameras]
    return SourceEpisode(
        num_frames=num_frames,
        fps=clock.fps,
        fps_source=clock.fps_source,
        start_ns=None,
        cameras=views.cameras,
        arrays={**read.arrays, **own, TIMESTAMP: clock.timestamp_N},
        attributes={
            **({} if listed is None else listed.attributes),
            **({} if split is None else {"split": split}),
            **({} if dataset.info.robot is None else {"robot_type": plain(dataset.info.robot)}),
        },
        environment=_environment(dataset, read.arrays),
        left_out={**read.left_out, **views.left_out},
        remarks={**read.remarks, **views.remarks},
        frames=zip(*pictures, strict=True) if pictures else iter(()),
        steps_text=read.texts,
    )


def _there(pictures: Iterable[Picture], key: str, arrays: Mapping[str, NDArray[Any]]) -> Iterator[Picture]:
    """The pictures of a camera, and None where its data say that a black one only stands for none."""
    is_missing_N = arrays.get(f"{MISSING}{key.removeprefix(CAMERA)}")
    if is_missing_N is None:
        yield from pictures
        return
    for picture, is_missing in zip(pictures, is_missing_N.reshape(-1).astype(bool).tolist(), strict=True):
        yield None if is_missing else picture


def _environment(dataset: Dataset, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    widths = {key: int(array[0].size) for key, array in arrays.items()}
    return {
        "codebase_version": dataset.info.version,
        "robot": dataset.info.robot or "",
        NAMED: named_columns(dataset.info, dataset.modality, widths),
    }


def _rows_of(file: SourceFile, path: Path, dataset: Dataset, episode: int) -> tuple[int, int]:
    """From which row to which (exclusive) the file holds the episode, as the tables say of its length."""
    runs = episodes_in(file, path)
    if episode not in runs:
        held = ", ".join(map(str, list(runs)[:3])) or "none"
        raise Refused(f"its file holds no rows of it (episodes in it: {held})")
    start, stop = runs[episode]
    if start < 0:
        raise Refused("its rows lie apart in the file, with those of other episodes between")
    listed = dataset.listed(episode)
    if listed is not None and listed.length not in (None, stop - start):
        table = "" if dataset.episodes is None else dataset.episodes.table
        raise Refused(f"{table} says {listed.length} frames, and its data has {stop - start} rows")
    if stop - start > MAX_FRAMES:
        raise Refused(f"it has {stop - start} rows, and an episode holds {MAX_FRAMES} at most")
    return start, stop


def _columns(
    data: Any, columns: Sequence[Column], rows: tuple[int, int], dataset: Dataset, content: Content
) -> _Read:
    """Arrays and texts of all columns but those of images."""
    read = _Read()
    taken = []
    for column in columns:
        if is_skipped(column.name, content.skip):
            read.left_out[column.name] = SKIPPED
        elif not is_safe_name(column.name) or column.name == OWN_TIMES:
            read.left_out[column.name] = "its name is not allowed"
        elif column.kind == TEXTS and _dtype_of(column.name, dataset) in (IMAGE, VIDEO):
            read.left_out[column.name], read.remarks[column.name] = IN_FILES, f"is not read: {IN_FILES}"
        elif column.kind in (NUMBERS, TEXTS):
            taken.append(column)
        elif column.kind != IMAGES or not _is_image(column, dataset):
            read.left_out[column.name] = f"its type is {column.type}, which is not read"
    table = read_table(data, [column.name for column in taken], *rows)
    num_bytes = 0
    for column in taken:
        values = table[column.name]
        if column.kind == TEXTS:
            read.texts += spans(column.name, [value or "" for value in values.to_pylist()])
            continue
        array = numbers(values, column.name)
        num_bytes += array.nbytes
        if num_bytes > MOST_LOW_DIM_BYTES:
            raise Refused(f"its arrays take more than {MOST_LOW_DIM_BYTES} bytes; skip some in the spec")
        _check_shape(array, column.name, dataset)
        _compare_type(read, column.name, array, dataset)
        if array[0].size > LARGEST_ROW:
            read.left_out[column.name] = f"a row has {array[0].size} numbers"
        else:
            read.arrays[column.name] = array
            _add_indexed_texts(read, column.name, array, dataset)
    _check_frames(read.arrays)
    _declared(read, columns, dataset, content)
    return read


def _declared(read: _Read, columns: Sequence[Column], dataset: Dataset, content: Content) -> None:
    """What info.json declares and is not there, and what is there and not declared."""
    there, features = {column.name for column in columns}, dataset.info.features
    for key in sorted(features.keys() - there - set(video_keys(dataset))):
        if is_skipped(key, content.skip):
            continue
        read.left_out[key] = "meta/info.json declares it, and its data has no such column"
        read.remarks[key] = "is declared in meta/info.json, and the data has no such column"
        if features[key].dtype == AUDIO:
            read.left_out[key], read.remarks[key] = (
                "it is audio, which is not read",
                "is audio, which is not read",
            )
    for key in sorted(there - features.keys() - ALWAYS - read.left_out.keys()):
        told = "is in the data, and meta/info.json does not declare it"
        read.remarks[key] = "; ".join(filter(None, (read.remarks.get(key), told)))


def _dtype_of(name: str, dataset: Dataset) -> str | None:
    declared = dataset.info.features.get(name)
    return None if declared is None else declared.dtype


def _compare_type(read: _Read, name: str, array: NDArray[Any], dataset: Dataset) -> None:
    """Tell of numbers that are of another type than info.json says."""
    stated, found = _dtype_of(name, dataset), array.dtype.name
    if stated is not None and stated != found:
        read.remarks[name] = f"is {found}, and meta/info.json says {stated[:20]!r}: the data was taken"


def _is_image(column: Column, dataset: Dataset) -> bool:
    """Whether a column of bytes is said to be images; bytes beside a path are in any case."""
    declared = dataset.info.features.get(column.name)
    return pa.types.is_struct(column.type) if declared is None else declared.dtype == IMAGE


def _check_shape(array: NDArray[Any], name: str, dataset: Dataset) -> None:
    """Refused for rows that are not as long as info.json says."""
    declared = dataset.info.features.get(name)
    size = None if declared is None else declared.size
    if size is not None and array[0].size != size:
        raise Refused(f"meta/info.json says {size} numbers of '{name}', and its rows have {array[0].size}")


def _check_frames(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Refused where rows are missing, doubled or out of order: then image i is not of row i."""
    frames_N = arrays.get(FRAME)
    if frames_N is None:
        return
    wrong_N = frames_N.reshape(-1) != np.arange(frames_N.size)
    if wrong_N.any():
        at = int(wrong_N.argmax())
        raise Refused(
            f"its '{FRAME}' is {frames_N.reshape(-1)[at]} in row {at}, so rows are missing or out of order "
            f"(--set 'content.skip=[{FRAME}]' goes by the rows)"
        )


def _add_indexed_texts(read: _Read, name: str, array: NDArray[Any], dataset: Dataset) -> None:
    """The texts that the numbers of a column stand for."""
    kind = KINDS.get(name, name)
    texts = dataset.subtasks if name == SUBTASK else dataset.tasks
    is_index = name in KINDS or (name.startswith(ANNOTATION) and array.dtype.kind in "iu")
    if not is_index or not texts or array.size != len(array):
        return
    numbers_N = [int(value) if np.isfinite(value) else -1 for value in array.reshape(-1)]
    unknown = sorted({number for number in numbers_N if number not in texts})
    if unknown:
        table = "subtasks" if name == SUBTASK else "tasks"
        listed = ", ".join(map(str, unknown[:3]))
        read.remarks[name] = f"names {table} that meta/{table} does not list: {listed}"
    read.texts += spans(kind, [texts.get(number, "") for number in numbers_N])


def _clock(read: _Read, num_frames: int, dataset: Dataset, content: Content) -> Clock:
    """The times of the column, at the rate of info.json, which the spec may override."""
    fps = content.fps or dataset.info.fps
    times = read.arrays.get(TIMESTAMP)
    without = f"--set 'content.skip=[{TIMESTAMP}]' goes by the rate"
    measured = None if times is None else (TIMESTAMP, times, "s", without)
    clock = clock_of(measured, num_frames, replace(content, fps=fps))
    if clock.fps_source == "spec" and content.fps is None:
        clock = replace(clock, fps_source="meta/info.json")
    if fps is None:
        read.remarks[f"fps of {INFO}"] = _no_rate(dataset.info.stated_fps, clock)
    if measured is not None and (off := _off_grid(clock)):
        read.remarks[TIMESTAMP] = off
    return clock


def _no_rate(stated: Any, clock: Clock) -> str:
    """That info.json states no rate, and which one is taken in its place."""
    says = "is not stated" if stated is None else f"is {example(stated)}, which is no rate"
    source = "the default" if clock.fps_source == "default" else f"by the times of '{clock.fps_source}'"
    return f"{says}, so {clock.fps:g} Hz, {source}, is taken: --set content.fps=… says it"


def _off_grid(clock: Clock) -> str | None:
    """That the times are not those of the rate, so that they are kept as they are."""
    drift_N = np.abs(clock.timestamp_N - np.arange(len(clock.timestamp_N)) / clock.fps)
    steps_N = np.diff(clock.timestamp_N)
    if len(steps_N) == 0 or drift_N.max() <= OFF_GRID / clock.fps:
        return None
    return f"lies off the grid of {clock.fps:g} Hz: the times are kept as they are, and frame i is image i"


def _views(
    file: SourceFile,
    path: Path,
    columns: Sequence[Column],
    dataset: Dataset,
    episode: int,
    rows: tuple[int, int],
    content: Content,
) -> Views:
    """The cameras that the spec asks for."""
    embedded = [column.name for column in columns if column.kind == IMAGES and _is_image(column, dataset)]
    videos = video_keys(dataset)
    skipped = [key for key in videos if is_skipped(key, content.skip)]
    keys = [key for key in (*videos, *embedded) if not is_skipped(key, content.skip)]
    names = camera_names(keys)
    unasked = set() if content.cameras is None else {key for key in keys if names[key] not in content.cameras}
    views = Views(left_out=dict.fromkeys(skipped, SKIPPED) | dict.fromkeys(sorted(unasked), UNASKED))
    names = {key: name for key, name in names.items() if key not in unasked}
    files = {entry.path: entry for entry in file.companions}
    num_frames, planar = rows[1] - rows[0], not content.changes_pixels
    add_videos(views, dataset, episode, files, num_frames, names, planar=planar)
    for key in embedded:
        if key in names:
            add_images(views, key, names[key], path, rows)
    ordered = chosen(views.cameras, content)
    return replace(views, cameras=list(ordered))
