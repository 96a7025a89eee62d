"""The plan of a LeRobot dataset: which episodes, columns and files it has, known before any of it is written.

Legend: C clips, N frames of a clip.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.opened import Part
from robot_foundry.catalog.robot.schema import Camera, Schema
from robot_foundry.export.lerobot.clips import Clip, Source, clips_of, held_out
from robot_foundry.export.lerobot.columns import Columns
from robot_foundry.export.lerobot.dataset.features import (
    CAMERA,
    DEFAULTS,
    IMAGE,
    SUBTASK,
    VIDEO,
    Feature,
    Features,
)
from robot_foundry.export.lerobot.dataset.layout import (
    EPISODES_LINES,
    INFO,
    STATS,
    STATS_LINES,
    SUBTASKS,
    SUBTASKS_LINES,
    TASKS,
    TASKS_LINES,
    Layout,
)
from robot_foundry.export.lerobot.dataset.meta import episodes_files
from robot_foundry.export.lerobot.dataset.video import check_codec, encoder_versions, video_info
from robot_foundry.export.lerobot.language import Language
from robot_foundry.export.lerobot.options import CODEC, DATA_MB, V3, VIDEO_MB
from robot_foundry.export.lerobot.survey import Survey, survey
from robot_foundry.export.request import ExportRequest
from robot_foundry.runtime.errors import UsageError, nearest

# Raised whenever the bytes of an equal request change.
WRITER_VERSION = 2
COMMAND, NEXT_STATE = "command", "next_state"


@dataclass(frozen=True)
class Plan:
    """`clips` become the episodes 0, 1, …; `starts` [C] are numbers of their first rows of all rows.

    `data` and `videos` (by key) are the clips of each file, in order.
    """

    source: Source
    layout: Layout
    fps: float
    codec: str
    clips: list[Clip]
    starts: NDArray[np.int64]
    splits: dict[str, tuple[int, int]]
    features: Features
    language: Language
    survey: Survey
    columns: Columns
    data: list[range]
    videos: dict[str, list[range]]
    megabytes: tuple[float, float]
    identity: dict[str, Any]
    versions: dict[str, str]

    @property
    def num_frames(self) -> int:
        return sum(clip.num_frames for clip in self.clips)

    @property
    def files(self) -> list[str]:
        """All files in the order in which they are made; info.json, which makes them a dataset, is last."""
        paths = [self.layout.video(key, n) for key, parts in self.videos.items() for n in range(len(parts))]
        paths += [self.layout.data(number) for number in range(len(self.data))]
        has_subtasks = SUBTASK in self.features
        if not self.layout.is_v3:
            subtasks = [SUBTASKS_LINES] if has_subtasks else []
            return [*paths, TASKS_LINES, *subtasks, EPISODES_LINES, STATS_LINES, INFO]
        episodes = [self.layout.episodes(n) for n in range(len(episodes_files(len(self.clips))))]
        return [*paths, TASKS, *([SUBTASKS] if has_subtasks else []), *episodes, STATS, INFO]

    def camera(self, key: str) -> Camera:
        """The camera of a feature."""
        return next(c for c in self.source.schema.cameras if f"{CAMERA}{c.role}" == key)


def plan_of(part: Part, request: ExportRequest) -> Plan:
    """The plan for a version. UsageError for what LeRobot cannot hold, with the option that helps."""
    options, source = _options(request), Source(part)
    schema, layout = source.schema, Layout(options["layout"])
    fps, stream = _rate(part, schema, options["fps"]), _stream(part, schema, options["stream"])
    images = IMAGE if options["images"] else VIDEO
    clips, splits = _ordered(part, request)
    looked = survey(source, clips, schema.cameras, fps)
    episodes = part.opened.table("episodes")
    columns = Columns(schema, stream, looked, episodes, clips)
    taken = {
        *columns.spaces,
        *columns.dtypes,
        *DEFAULTS,
        SUBTASK,
        *(f"{CAMERA}{c.role}" for c in schema.cameras),
    }
    language = Language(part.opened.table("annotations"), episodes["key"].to_pylist(), clips, taken)
    features = _features(schema, columns, language, images)
    for key in features.videos:
        size = features[key].size
        check_codec(options["codec"], fps, size, key)
        features = features.with_info(key, video_info(options["codec"], fps, size))
    megabytes = options["data_mb"], options["video_mb"]
    length_C = np.array([clip.num_frames for clip in clips], np.int64)
    image_bytes = {f"{CAMERA}{role}": bytes_C for role, bytes_C in looked.image_bytes.items()}
    data_C = length_C * features.row_bytes() + sum(
        (image_bytes[key] for key in features.images), 0 * length_C
    )
    videos = {key: _files(image_bytes[key], megabytes[1], layout) for key in features.videos}
    versions = {"pyarrow": pa.__version__} | (encoder_versions(options["codec"]) if videos else {})
    return Plan(
        source, layout, fps, options["codec"], clips, np.cumsum(length_C) - length_C, splits, features,
        language, looked, columns, _files(data_C, megabytes[0], layout), videos, megabytes,
        _identity(part, options, stream, fps, versions, splits), versions,
    )  # fmt: skip


def _options(request: ExportRequest) -> dict[str, Any]:
    """Those of the request, with their defaults. UsageError for one that another leaves nothing to do."""
    given = request.options
    if given["images"] and (given["codec"] or given["video_mb"]):
        name = "codec" if given["codec"] else "video-mb"
        raise UsageError(f"--{name} is for videos, and with --images there are none")
    for name in ("data_mb", "video_mb"):
        if given[name] is not None and not Layout(given["layout"]).is_v3:
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} is for {V3}, and {given['layout']} has a file for each episode")
    usual = {"codec": CODEC, "data_mb": DATA_MB, "video_mb": VIDEO_MB}
    return {name: usual.get(name) if value is None else value for name, value in given.items()}


def _rate(part: Part, schema: Schema, asked: float | None) -> float:
    """Frames in a second. UsageError where nobody says it."""
    if asked is not None:
        if not 1e-6 <= asked < 1e6:
            raise UsageError(f"--fps {asked:g} is no rate in Hz")
        return asked
    if schema.fps is None:
        raise UsageError(
            f"the episodes of {part.component.version} have unlike rates or none, and LeRobot counts all "
            "frames at one",
            hint="--fps 20 counts them at 20 Hz and keeps their own times beside",
        )
    return float(schema.fps)


def _stream(part: Part, schema: Schema, asked: str | None) -> str | None:
    """The action stream that is `action`: what was commanded, if there are such, as LeRobot means it."""
    streams = list(schema.streams)
    if asked is not None and asked not in streams:
        raise UsageError(
            f"{part.component.version} has no action stream '{asked}'{nearest(asked, streams)} "
            f"(streams: {', '.join(streams) or 'none'})"
        )
    return asked or next((name for name in (COMMAND, NEXT_STATE, *streams) if name in streams), None)


def _ordered(part: Part, request: ExportRequest) -> tuple[list[Clip], dict[str, tuple[int, int]]]:
    """The clips, and as ranges of them the splits: of a whole version those of training come first."""
    clips = clips_of(part)
    if request.split != "all":
        return clips, {request.split: (0, len(clips))}
    held_out_E = held_out(part, request.val_fraction) if request.split_by == "episode" else None
    if held_out_E is None:
        return clips, {"train": (0, len(clips))}
    train = [clip for clip in clips if not held_out_E[clip.episode]]
    val = [clip for clip in clips if held_out_E[clip.episode]]
    return [*train, *val], {"train": (0, len(train)), "val": (len(train), len(clips))}


def _features(schema: Schema, columns: Columns, language: Language, images: str) -> Features:
    cameras = {camera.role: (camera.height, camera.width) for camera in schema.cameras}
    dtypes = {**columns.dtypes, **dict.fromkeys(language.columns, "string")}
    made = Features.of([], {}, cameras, dtypes, images=images, has_subtasks=language.has_subtasks)
    spaces = {
        key: Feature("float32", (len(space),), space.names, tuple(dim.unit for dim in space))
        for key, space in columns.spaces.items()
    }
    return Features({**spaces, **made.by_key}).checked()


def _files(bytes_C: NDArray[np.int64], megabytes: float, layout: Layout) -> list[range]:
    """The clips of each file: of v3.0 as many as have so many MB together, of v2.1 one."""
    if not layout.is_v3:
        return [range(number, number + 1) for number in range(len(bytes_C))]
    if not 0 < megabytes < math.inf:
        raise UsageError(f"{megabytes:g} MB is no size of a file")
    parts, first, held = list[range](), 0, 0
    for number, size in enumerate(bytes_C.tolist()):
        if number > first and held + size > megabytes * 2**20:
            parts.append(range(first, number))
            first, held = number, 0
        held += size
    return [*parts, range(first, len(bytes_C))]


def _identity(
    part: Part,
    options: Mapping[str, Any],
    stream: str | None,
    fps: float,
    versions: dict[str, str],
    splits: dict[str, tuple[int, int]],
) -> dict[str, Any]:
    """All that decides the bytes."""
    decided = {**options, "stream": stream, "fps": fps}
    if options["images"]:
        del decided["codec"]
    return {
        "format": "lerobot",
        "writer": WRITER_VERSION,
        "dataset": part.opened.version.dataset,
        "version_id": part.opened.version.version_id,
        "selection": part.select().id,
        "splits": {name: list(bounds) for name, bounds in splits.items()},
        "options": {name: value for name, value in decided.items() if value is not None},
        "encoders": versions,
    }


def fitting(plan: Plan, numbers: Sequence[int]) -> int:
    """Frames of the clips with these numbers."""
    return sum(plan.clips[number].num_frames for number in numbers)
