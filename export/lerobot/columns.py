"""The columns of a version's rows in a LeRobot dataset, and what its table of episodes says beside.

| column | what it holds |
|---|---|
| observation.state, action, action.<stream> | the canonical rows |
| next.done | the flag `terminal` |
| next.success | true in the last frame of a success, where all episodes say whether they were one |
| is_intervention, is_noop, is_invalid_action, … | the other flags, where any frame has them |
| camera_is_missing.<role> | that a black image stands for none, where any frame lacks one |
| recorded_timestamp | the time in s, where any lies off the grid of the rate |

Legend: E episodes of the version, C clips, N frames of a clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.robot.episode_tables import expanded
from robot_foundry.catalog.robot.schema import Schema
from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.export.lerobot.clips import Clip, Source
from robot_foundry.export.lerobot.dataset.features import ACTION, STATE
from robot_foundry.export.lerobot.dataset.meta import is_reserved
from robot_foundry.export.lerobot.survey import Survey
from robot_foundry.normalization.space import ActionSpace

DONE, SUCCESS, RECORDED, MISSING = "next.done", "next.success", "recorded_timestamp", "camera_is_missing."
# No name has "image" in it: LeRobot takes what has for a camera when it adds statistics up.
FLAG_COLUMNS = {
    Flag.NOOP: "is_noop",
    Flag.INTERVENTION: "is_intervention",
    Flag.INVALID_ACTION: "is_invalid_action",
    Flag.INVALID_STATE: "is_invalid_state",
    Flag.HELD_IMAGE: "is_held_picture",
}
# Attributes that are said otherwise, as those are that LeRobot's table had before.
_OWN = (
    "episode_index", "tasks", "length", "split", "robot_type", "success", "source_key", "source_id",
    "source_start",
)  # fmt: skip


class Columns:
    """Which columns there are, and their values for a clip."""

    def __init__(
        self, schema: Schema, stream: str | None, looked: Survey, episodes: pa.Table, clips: Sequence[Clip]
    ) -> None:
        self.spaces: dict[str, ActionSpace] = {STATE: schema.state_space()} if schema.state else {}
        self._tables = {STATE: "state"} if schema.state else {}
        for name in sorted(schema.streams, key=lambda name: (name != stream, name)):
            key = ACTION if name == stream else f"{ACTION}.{name}"
            self.spaces[key], self._tables[key] = schema.space(name), f"action.{name}"
        self._cameras = {camera.role: camera.name for camera in schema.cameras if looked.missing[camera.role]}
        self._flags = {column: flag for flag, column in FLAG_COLUMNS.items() if flag & looked.flags}
        self._has_times = looked.is_off_grid
        self._success_E: list[bool | None] = episodes["success"].to_pylist()
        self._length_E = episodes["num_frames"].to_pylist()
        self._has_success = all(self._success_E[clip.episode] is not None for clip in clips)
        self._keys_E, self._ids_E = episodes["key"].to_pylist(), episodes["id"].to_pylist()
        self._attributes = _attributes(episodes)
        named = {name for clip in clips for name in self._attributes[clip.episode]}
        self.left_behind = sorted(filter(is_reserved, named))
        self._is_cut = any(clip.num_frames < self._length_E[clip.episode] for clip in clips)

    @property
    def dtypes(self) -> dict[str, str]:
        """The columns beside states and actions."""
        bools = [DONE, *([SUCCESS] if self._has_success else []), *self._flags]
        bools += [f"{MISSING}{role}" for role in self._cameras]
        return {**dict.fromkeys(bools, "bool"), **({RECORDED: "float64"} if self._has_times else {})}

    def of(self, source: Source, clip: Clip) -> dict[str, NDArray[Any]]:
        """Of a clip, each [N] or [N, d]."""
        rows = source.rows(clip)
        made: dict[str, NDArray[Any]] = {key: rows[name] for key, name in self._tables.items()}
        flags_N = rows["flags"]
        made[DONE] = (flags_N & int(Flag.TERMINAL)) != 0
        if self._has_success:
            is_last_N = (
                np.arange(clip.first, clip.first + clip.num_frames) == self._length_E[clip.episode] - 1
            )
            made[SUCCESS] = is_last_N & bool(self._success_E[clip.episode])
        for column, flag in self._flags.items():
            made[column] = (flags_N & int(flag)) != 0
        for role, camera in self._cameras.items():
            made[f"{MISSING}{role}"] = source.member_rows(clip, camera) < 0
        if self._has_times:
            made[RECORDED] = rows["timestamp"]
        return made

    def attributes(self, clip: Clip) -> Mapping[str, Any]:
        """What the table of episodes says of it: its success, where it is from, and its attributes."""
        told: dict[str, Any] = {
            "success": self._success_E[clip.episode],
            "source_key": self._keys_E[clip.episode],
            "source_id": self._ids_E[clip.episode],
        }
        if self._is_cut:
            told["source_start"] = clip.first
        own = self._attributes[clip.episode]
        return {**told, **{name: value for name, value in own.items() if not is_reserved(name)}}


def _attributes(episodes: pa.Table) -> list[dict[str, Any]]:
    """By episode those attributes that are not said otherwise."""
    rows = expanded(episodes)["attributes"].to_pylist()
    return [
        {} if row is None else {name: value for name, value in row.items() if name not in _OWN}
        for row in rows
    ]
