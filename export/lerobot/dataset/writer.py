"""LeRobotWriter: a dataset that grows by episodes, as a recorder or a collection of demonstrations makes one.

Legend: N frames of an episode, d numbers of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.export.lerobot.dataset import meta
from robot_foundry.export.lerobot.dataset.data_file import DataFile, EpisodeRows
from robot_foundry.export.lerobot.dataset.features import CAMERA, SUBTASK, Features
from robot_foundry.export.lerobot.dataset.growing import Growing, hidden_name, show
from robot_foundry.export.lerobot.dataset.layout import (
    DATA_BYTES,
    EPISODES_LINES,
    INFO,
    STATS,
    STATS_LINES,
    SUBTASKS,
    SUBTASKS_LINES,
    TASKS,
    TASKS_LINES,
    VIDEO_BYTES,
    Layout,
)
from robot_foundry.export.lerobot.dataset.meta import EpisodeEntry, VideoSpan
from robot_foundry.export.lerobot.dataset.pictures import Picture, Sampled
from robot_foundry.export.lerobot.dataset.statistics import ColumnTotals, ImageTotals, Stats, column_stats
from robot_foundry.export.lerobot.dataset.video import VideoFile, check_codec, video_info
from robot_foundry.export.lerobot.options import V2, V3
from robot_foundry.runtime.errors import FoundryError, UsageError

Texts = str | Sequence[str]


class LeRobotWriter:
    """Writes a LeRobot dataset into a new folder, an episode at a time; a context manager.

    `features` say what each episode has to bring (`Features.of`). Every file has a hidden name until it is
    whole, and meta/info.json, without which there is no dataset, comes last: left by an error, or killed, no
    reader takes what is there for one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fps: float,
        features: Features,
        version: str = V3,
        robot_type: str | None = None,
        codec: str = "av1",
        data_bytes: int = DATA_BYTES,
        video_bytes: int = VIDEO_BYTES,
    ) -> None:
        """`codec` is av1, h264 or hevc; a file of v3.0 takes no further episode beyond so many bytes.

        UsageError for a folder that is not empty, for another version, and for a codec that cannot take the
        size of a camera.
        """
        if version not in (V3, V2):
            raise UsageError(f"there is no layout '{version}': {V3} or {V2}")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} is no empty folder", hint="choose a new one")
        self._folder, self._layout, self._fps = folder, Layout(version), float(fps)
        self._robot_type, self._codec = robot_type, codec
        for key in features.videos:
            size = features[key].size
            check_codec(codec, fps, size, key)
            features = features.with_info(key, video_info(codec, fps, size))
        self.features = features
        self._tasks, self._subtasks = dict[str, int](), dict[str, int]()
        self._entries: list[EpisodeEntry] = []
        self._columns = {key: ColumnTotals() for key in features.numbers}
        self._images = {key: ImageTotals() for key in (*features.videos, *features.images)}
        self._data = Growing(folder, self._layout, data_bytes, self._layout.data, self._open_data)
        self._videos = {
            key: Growing(folder, self._layout, video_bytes, partial(self._layout.video, key), opener)
            for key in features.videos
            for opener in [partial(self._open_video, key)]
        }
        self._is_closed = False

    def __enter__(self) -> LeRobotWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._data.drop()
            for video in self._videos.values():
                video.drop()

    @property
    def num_episodes(self) -> int:
        return len(self._entries)

    def add_episode(
        self,
        columns: Mapping[str, NDArray[Any] | Sequence[str]],
        pictures: Mapping[str, Iterable[Picture]] | None = None,
        *,
        task: Texts,
        subtask: Texts | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> int:
        """Add an episode, and give its number.

        columns     by key, all that the features name but cameras and LeRobot's own: `observation.state`
                    float32 [N, d], `action`, `next.success` bool [N], …
        pictures    by camera as it is called in `Features.of` (`top`) or by its key, one for each frame: JPEG
                    or PNG as it is, or uint8 RGB; None is a frame without, which becomes black
        task        the text of all frames, or of each; so `subtask`, where the features have it
        attributes  what the table of episodes says of it: texts, numbers, booleans

        FoundryError for what does not fit the features.
        """
        number = len(self._entries)
        start = self._entries[-1].start + self._entries[-1].length if self._entries else 0
        num_frames = len(next(iter(columns.values()), ()))
        if num_frames == 0:
            raise FoundryError("an episode has at least one frame")
        if reserved := sorted(filter(meta.is_reserved, attributes or {})):
            raise FoundryError(
                f"'{reserved[0]}' of an episode is LeRobot's own, and no attribute has its name"
            )
        task_N, own = _numbered(task, self._tasks, num_frames), dict(columns)
        if SUBTASK in self.features:
            own[SUBTASK] = _numbered("" if subtask is None else subtask, self._subtasks, num_frames)
        rows = EpisodeRows.of(self.features, own, episode=number, start=start, fps=self._fps, task_N=task_N)
        sampled = self._sampled(pictures or {}, number, num_frames)
        spans = {key: self._add_video(key, number, sampled[key]) for key in self.features.videos}
        self._data.next_file().add(rows, {key: sampled[key].encoded() for key in self.features.images})
        stats: dict[str, Stats] = {key: column_stats(rows.columns[key]) for key in self.features.numbers}
        for key, totals in self._columns.items():
            totals.add(rows.columns[key])
        for key, passed in sampled.items():
            stats[key] = passed.totals.stats()
            self._images[key].merge(passed.totals)
        names = list(self._tasks)
        tasks = [names[i] for i in dict.fromkeys(task_N.tolist())]
        self._entries.append(
            EpisodeEntry(number, start, num_frames, tasks, self._data.number, spans, stats, attributes or {})
        )
        return number

    def close(self, splits: Mapping[str, tuple[int, int]] | None = None) -> None:
        """Finish the files and write what describes them; `splits` are ranges of episodes by name.

        FoundryError if there is no episode.
        """
        if self._is_closed:
            return
        if not self._entries:
            raise FoundryError("a LeRobot dataset has at least one episode")
        self._data.finish()
        for video in self._videos.values():
            video.finish()
        last = self._entries[-1]
        self._write_meta()
        told = meta.info_json(
            self._layout, self.features, fps=self._fps, robot_type=self._robot_type,
            episodes=len(self._entries), frames=last.start + last.length, tasks=len(self._tasks),
            splits=splits or {"train": (0, len(self._entries))},
        )  # fmt: skip
        self._whole(INFO, lambda place: meta.write_json(place, told))
        self._is_closed = True

    def _write_meta(self) -> None:
        tasks, subtasks = list(self._tasks), list(self._subtasks)
        if not self._layout.is_v3:
            self._whole(TASKS_LINES, lambda p: meta.write_lines(p, meta.texts_lines(tasks, "task")))
            if SUBTASK in self.features:
                self._whole(
                    SUBTASKS_LINES, lambda p: meta.write_lines(p, meta.texts_lines(subtasks, "subtask"))
                )
            self._whole(EPISODES_LINES, lambda p: meta.write_lines(p, meta.episode_lines(self._entries)))
            self._whole(STATS_LINES, lambda p: meta.write_lines(p, meta.stats_lines(self._entries)))
            return
        self._whole(TASKS, lambda p: meta.write_texts(p, tasks, "task"))
        if SUBTASK in self.features:
            self._whole(SUBTASKS, lambda p: meta.write_texts(p, subtasks, "subtask"))
        columns = meta.attributes_schema(self._entries)
        for number, part in enumerate(meta.episodes_files(len(self._entries))):
            entries = self._entries[part.start : part.stop]
            self._whole(
                self._layout.episodes(number),
                lambda p, e=entries, n=number: meta.write_episodes(p, e, n, self._fps, columns),  # type: ignore[misc]
            )
        stats = {key: totals.stats() for key, totals in self._columns.items()}
        stats |= {key: totals.stats() for key, totals in self._images.items()}
        self._whole(STATS, lambda p: meta.write_json(p, stats))

    def _open_data(self, place: Path) -> DataFile:
        return DataFile(place, self.features)

    def _open_video(self, key: str, place: Path) -> VideoFile:
        return VideoFile(place, self._codec, self._fps, self.features[key].size)

    def _sampled(
        self, pictures: Mapping[str, Iterable[Picture]], number: int, num_frames: int
    ) -> dict[str, Sampled]:
        """The pictures of each camera of the features, and no others."""
        by_key = {key if key in self.features else f"{CAMERA}{key}": value for key, value in pictures.items()}
        keys = [*self.features.videos, *self.features.images]
        unlike = sorted(set(keys) ^ set(by_key))
        if unlike:
            what = "has no pictures" if unlike[0] in keys else "is no camera of the features"
            raise FoundryError(f"'{unlike[0]}' {what} in episode {number}")
        return {
            key: Sampled(by_key[key], num_frames, self.features[key].size, f"'{key}' of episode {number}")
            for key in keys
        }

    def _add_video(self, key: str, number: int, pictures: Sampled) -> VideoSpan:
        growing = self._videos[key]
        video = growing.next_file()
        span = VideoSpan(growing.number, video.num_frames)
        for rgb_hw3 in pictures.pixels():
            video.add(rgb_hw3)
        return span

    def _whole(self, path: str, write: Callable[[Path], None]) -> None:
        place = self._folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        hidden = hidden_name(place)
        write(hidden)
        show(hidden, place)


def _numbered(texts: Texts, known: dict[str, int], num_frames: int) -> NDArray[np.int64]:
    """The number of each frame's text; new ones are added to those that are known."""
    of_frames = [texts] * num_frames if isinstance(texts, str) else list(texts)
    if len(of_frames) != num_frames:
        raise FoundryError(f"{len(of_frames)} texts for {num_frames} frames")
    return np.array([known.setdefault(text, len(known)) for text in of_frames], np.int64)
