"""What the columns of a LeRobot dataset are: for info.json, for Arrow, and for the `datasets` library.

Legend: h × w pixels of a camera.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from robot_foundry.runtime.errors import FoundryError

STATE, ACTION, CAMERA = "observation.state", "action", "observation.images."
VIDEO, IMAGE, STRING = "video", "image", "string"
TIMESTAMP, FRAME, EPISODE, INDEX, TASK, SUBTASK = (
    "timestamp", "frame_index", "episode_index", "index", "task_index", "subtask_index",
)  # fmt: skip
# Those that LeRobot adds to every dataset, behind its own.
DEFAULTS = {TIMESTAMP: "float32", FRAME: "int64", EPISODE: "int64", INDEX: "int64", TASK: "int64"}
_ARROW = {
    "float32": pa.float32(), "float64": pa.float64(), "int64": pa.int64(), "bool": pa.bool_(),
    STRING: pa.string(),
}  # fmt: skip
IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@dataclass(frozen=True)
class Feature:
    """A column, or a camera, as info.json describes it.

    `shape` is that of a row, (1,) for one number. `names` are of its numbers, `units` too where they are
    known; LeRobot reads no units.
    """

    dtype: str
    shape: tuple[int, ...] = (1,)
    names: tuple[str, ...] | None = None
    units: tuple[str, ...] | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_camera(self) -> bool:
        return self.dtype in (VIDEO, IMAGE)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a camera's images."""
        return self.shape[0], self.shape[1]

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"dtype": self.dtype, "shape": list(self.shape)}
        told["names"] = None if self.names is None else list(self.names)
        if self.units is not None:
            told["units"] = list(self.units)
        return told if not self.info else {**told, "info": dict(self.info)}


@dataclass(frozen=True)
class Features:
    """By key, in the order of the columns; LeRobot's own come last."""

    by_key: Mapping[str, Feature]

    @classmethod
    def of(
        cls,
        state: Sequence[str] = (),
        actions: Mapping[str, Sequence[str]] | None = None,
        cameras: Mapping[str, tuple[int, int]] | None = None,
        columns: Mapping[str, str] | None = None,
        *,
        images: str = VIDEO,
        has_subtasks: bool = False,
    ) -> Features:
        """`state` and `actions` are names of numbers, `actions` by key (`action`, `action.base`).

        `cameras` are (h, w) by name (`top`), `columns` dtypes of further ones. FoundryError for what LeRobot
        cannot hold.
        """
        made: dict[str, Feature] = {}
        if state:
            made[STATE] = Feature("float32", (len(state),), tuple(state))
        for key, names in (actions or {}).items():
            made[key] = Feature("float32", (len(names),), tuple(names))
        for name, (height, width) in (cameras or {}).items():
            made[f"{CAMERA}{name}"] = Feature(images, (height, width, 3), ("height", "width", "channels"))
        for key, dtype in (columns or {}).items():
            made[key] = Feature(dtype)
        if has_subtasks:
            made[SUBTASK] = Feature("int64")
        return cls(made).checked()

    def checked(self) -> Features:
        """Themselves, with LeRobot's own. FoundryError for a name or type that it cannot hold."""
        for key, feature in self.by_key.items():
            if "/" in key or not key or (key in DEFAULTS and DEFAULTS[key] != feature.dtype):
                raise FoundryError(f"'{key}' is no name of a column that LeRobot takes")
            if not feature.is_camera and (feature.dtype not in _ARROW or len(feature.shape) != 1):
                raise FoundryError(
                    f"column '{key}': a {feature.dtype} of shape {feature.shape} cannot be written"
                )
        own = {key: value for key, value in self.by_key.items() if key not in DEFAULTS}
        return Features({**own, **{key: Feature(dtype) for key, dtype in DEFAULTS.items()}})

    def __getitem__(self, key: str) -> Feature:
        return self.by_key[key]

    def __contains__(self, key: object) -> bool:
        return key in self.by_key

    @property
    def videos(self) -> list[str]:
        """Keys of the cameras that are videos."""
        return [key for key, feature in self.by_key.items() if feature.dtype == VIDEO]

    @property
    def images(self) -> list[str]:
        """Keys of the cameras whose images are in the parquet."""
        return [key for key, feature in self.by_key.items() if feature.dtype == IMAGE]

    @property
    def columns(self) -> dict[str, Feature]:
        """Those that are in the parquet: all but videos."""
        return {key: feature for key, feature in self.by_key.items() if feature.dtype != VIDEO}

    @property
    def numbers(self) -> dict[str, Feature]:
        """Those of which there are statistics beside the cameras: all but texts."""
        return {key: f for key, f in self.columns.items() if not f.is_camera and f.dtype != STRING}

    def row_bytes(self) -> int:
        """Bytes of a row in memory, without images."""
        return sum(
            8 if f.dtype == STRING else f.shape[0] * max(1, _ARROW[f.dtype].bit_width // 8)
            for f in self.columns.values()
            if not f.is_camera
        )

    def with_info(self, key: str, info: Mapping[str, Any]) -> Features:
        """The same with what is to be told of a video."""
        return Features({**self.by_key, key: replace(self.by_key[key], info=info)})

    def to_json(self) -> dict[str, Any]:
        return {key: feature.to_json() for key, feature in self.by_key.items()}

    def arrow_schema(self) -> pa.Schema:
        """That of the data, with the metadata by which `datasets` knows the columns."""
        fields = [pa.field(key, _arrow_type(feature)) for key, feature in self.columns.items()]
        known = {key: _known(feature) for key, feature in self.columns.items()}
        metadata = {"huggingface": json.dumps({"info": {"features": known}})}
        return pa.schema(fields, metadata=metadata)


def _arrow_type(feature: Feature) -> pa.DataType:
    if feature.dtype == IMAGE:
        return IMAGE_TYPE
    one = _ARROW[feature.dtype]
    return one if feature.shape == (1,) else pa.list_(one, feature.shape[0])


def _known(feature: Feature) -> dict[str, Any]:
    if feature.dtype == IMAGE:
        return {"_type": "Image"}
    one = {"dtype": feature.dtype, "_type": "Value"}
    if feature.shape == (1,):
        return one
    # `Sequence` is read by every version of `datasets`, `List` from 4 on.
    return {"feature": one, "length": feature.shape[0], "_type": "Sequence"}
