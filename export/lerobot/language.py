"""The texts of a version as LeRobot holds them: a task for each frame, a subtask, and columns of text.

LeRobot knows one task at a time. Where several instructions are of one frame, the first (by start, as they
are stored) is the task, and the others are columns of text `language_instruction_2`, `…_3`; other kinds of
annotations are columns of their names, or `annotation.<kind>` where another column has the name.

Legend: N frames of a clip.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.export.lerobot.clips import Clip

INSTRUCTION, SUBTASK_KIND, INSTRUCTION_COLUMN = "instruction", "subtask", "language_instruction"
# What LeRobot gives its items under these names.
_TAKEN = ("task", "subtask", "index", "timestamp", "success")
Span = tuple[int, int, str]  # first frame, frame after the last, text
Lanes = dict[str, list[list[Span]]]  # by kind, spans that do not overlap


class Language:
    """The texts of clips. `tasks` and `subtasks` are numbered in the order in which clips name them.

    `taken` are names of the columns that the dataset has beside.
    """

    def __init__(
        self,
        annotations: pa.Table,
        episode_keys: Sequence[str],
        clips: Iterable[Clip],
        taken: Collection[str] = (),
    ) -> None:
        self._spans: dict[str, dict[str, list[Span]]] = defaultdict(lambda: defaultdict(list))
        columns = [annotations[name].to_pylist() for name in ("key", "start", "end", "kind", "text")]
        for key, start, end, kind, text in sorted(zip(*columns, strict=True), key=lambda row: row[:4]):
            self._spans[key][kind].append((start, end, text))
        self._keys = episode_keys
        tasks, subtasks, depth = dict[str, None](), dict[str, None](), dict[str, int]()
        self.frames_without = 0
        for clip in clips:
            lanes = self._lanes(clip)
            texts = _texts(lanes.get(INSTRUCTION, [[]])[0], clip.num_frames)
            self.frames_without += texts.count("")
            tasks |= dict.fromkeys(texts)
            subtasks |= dict.fromkeys(_texts(lanes.get(SUBTASK_KIND, [[]])[0], clip.num_frames))
            for kind, of_kind in lanes.items():
                depth[kind] = max(depth.get(kind, 0), len(of_kind))
        self.tasks, self.has_subtasks = list(tasks), SUBTASK_KIND in depth
        self.subtasks = list(subtasks) if self.has_subtasks else []
        self._columns = _columns(depth, {*_TAKEN, *taken})

    @property
    def columns(self) -> list[str]:
        """Names of the columns of text."""
        return list(self._columns)

    def tasks_of(self, clip: Clip) -> NDArray[np.int64]:
        """The number of each frame's task [N]."""
        return _numbers(_texts(self._lane(clip, INSTRUCTION, 0), clip.num_frames), self.tasks)

    def subtasks_of(self, clip: Clip) -> NDArray[np.int64]:
        """The number of each frame's subtask [N]."""
        return _numbers(_texts(self._lane(clip, SUBTASK_KIND, 0), clip.num_frames), self.subtasks)

    def texts_of(self, clip: Clip) -> Mapping[str, list[str]]:
        """The columns of text, each with a text for each frame."""
        return {
            name: _texts(self._lane(clip, kind, number), clip.num_frames)
            for name, (kind, number) in self._columns.items()
        }

    def _lane(self, clip: Clip, kind: str, number: int) -> list[Span]:
        lanes = self._lanes(clip).get(kind, [])
        return lanes[number] if number < len(lanes) else []

    def _lanes(self, clip: Clip) -> Lanes:
        """The texts of a clip by kind, in as many lanes as lie over one frame."""
        lanes: Lanes = {}
        for kind, spans in self._spans.get(self._keys[clip.episode], {}).items():
            for start, end, text in spans:
                first, last = max(start - clip.first, 0), min(end - clip.first, clip.num_frames)
                if first >= last or not text:
                    continue
                of_kind = lanes.setdefault(kind, [])
                lane = next((lane for lane in of_kind if not lane or lane[-1][1] <= first), None)
                if lane is None:
                    of_kind.append(lane := [])
                lane.append((first, last, text))
        return lanes


def _columns(depth: Mapping[str, int], taken: set[str]) -> dict[str, tuple[str, int]]:
    """By the name of each column of text, which none of `taken` has, the lane of a kind that it holds."""
    columns: dict[str, tuple[str, int]] = {}
    for kind in sorted(depth, key=lambda kind: (kind != INSTRUCTION, kind)):
        first = 1 if kind in (INSTRUCTION, SUBTASK_KIND) else 0
        base = INSTRUCTION_COLUMN if kind == INSTRUCTION else kind.replace("/", "_")
        for number in range(first, depth[kind]):
            name = base if number == 0 else f"{base}_{number + 1}"
            while name in taken or name in columns:
                name = f"annotation.{name}"
            columns[name] = kind, number
    return dict(sorted(columns.items()))


def _texts(spans: Iterable[Span], num_frames: int) -> list[str]:
    texts = [""] * num_frames
    for start, end, text in spans:
        texts[start:end] = [text] * (end - start)
    return texts


def _numbers(texts: Sequence[str], known: Sequence[str]) -> NDArray[np.int64]:
    number_of = {text: number for number, text in enumerate(known)}
    return np.array([number_of[text] for text in texts], np.int64)
