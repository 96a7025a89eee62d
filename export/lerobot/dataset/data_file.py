"""Files of data: the rows of episodes as parquet, in the columns and types that LeRobot expects.

Legend: N rows of an episode, d numbers of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from robot_foundry.export.lerobot.dataset.features import (
    DEFAULTS,
    EPISODE,
    FRAME,
    IMAGE_TYPE,
    INDEX,
    STRING,
    TASK,
    TIMESTAMP,
    Feature,
    Features,
)
from robot_foundry.runtime.errors import FoundryError

# Rows of embedded images that are in memory at once, and in a row group.
_ROWS_WITH_IMAGES = 500


@dataclass(frozen=True)
class EpisodeRows:
    """An episode as columns [N] or [N, d] by key, LeRobot's own included; images come beside them."""

    columns: Mapping[str, NDArray[Any]]

    @classmethod
    def of(
        cls,
        features: Features,
        columns: Mapping[str, NDArray[Any] | Sequence[str]],
        *,
        episode: int,
        start: int,
        fps: float,
        task_N: NDArray[np.int64],
    ) -> EpisodeRows:
        """With the columns that LeRobot counts by: `start` is the number of its first row of all rows.

        FoundryError for columns that are missing, unknown, or of another length or width.
        """
        num_frames = len(task_N)
        frame_N = np.arange(num_frames, dtype=np.int64)
        own: dict[str, NDArray[Any]] = {
            TIMESTAMP: (frame_N / fps).astype(np.float32),
            FRAME: frame_N,
            EPISODE: np.full(num_frames, episode, np.int64),
            INDEX: start + frame_N,
            TASK: np.asarray(task_N, np.int64),
        }
        wanted = {key: f for key, f in features.columns.items() if key not in DEFAULTS and not f.is_camera}
        unlike = sorted(set(wanted) ^ set(columns))
        if unlike:
            state = "is missing" if unlike[0] in wanted else "is not among the features"
            raise FoundryError(f"the column '{unlike[0]}' of an episode {state}")
        for key, feature in wanted.items():
            own[key] = _checked(key, feature, columns[key], num_frames)
        return cls(own)

    @property
    def num_frames(self) -> int:
        return len(self.columns[FRAME])


class DataFile:
    """A parquet file that is being written to `path`; a context manager. Each episode has row groups of its
    own."""

    def __init__(self, path: Path, features: Features) -> None:
        self._features, self._schema = features, features.arrow_schema()
        self._writer = parquet.ParquetWriter(path, self._schema, compression="snappy", use_dictionary=True)

    def __enter__(self) -> DataFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write the footer, without which no reader takes the file."""
        self._writer.close()

    def add(self, rows: EpisodeRows, images: Mapping[str, Iterable[bytes]] | None = None) -> None:
        """The rows of an episode, with the images of each camera that is no video, in order.

        FoundryError where a camera has less or more images than there are rows.
        """
        streams = {key: iter((images or {})[key]) for key in self._features.images}
        step = _ROWS_WITH_IMAGES if streams else max(1, rows.num_frames)
        for first in range(0, rows.num_frames, step):
            span = slice(first, min(first + step, rows.num_frames))
            self._writer.write_table(self._table(rows, span, streams))
        for key, stream in streams.items():
            if next(stream, None) is not None:
                raise FoundryError(f"'{key}' has more images than the {rows.num_frames} rows of its episode")

    def _table(self, rows: EpisodeRows, span: slice, streams: Mapping[str, Iterator[bytes]]) -> pa.Table:
        arrays = []
        for key, feature in self._features.columns.items():
            if not feature.is_camera:
                arrays.append(_arrow(rows.columns[key][span], feature))
                continue
            held = list(islice(streams[key], span.stop - span.start))
            if len(held) != span.stop - span.start:
                raise FoundryError(f"'{key}' has {span.start + len(held)} images of {rows.num_frames} rows")
            names = [f"frame-{number:06d}" for number in range(span.start, span.stop)]
            arrays.append(
                pa.StructArray.from_arrays(
                    [pa.array(held, pa.binary()), pa.array(names, pa.string())], fields=list(IMAGE_TYPE)
                )
            )
        return pa.Table.from_arrays(arrays, schema=self._schema)


def _checked(key: str, feature: Feature, values: Any, num_frames: int) -> NDArray[Any]:
    if feature.dtype == STRING:
        array = np.asarray(values, object)
        expected: tuple[int, ...] = (num_frames,)
    else:
        array = np.asarray(values)
        array = array.astype(feature.dtype, casting="same_kind", copy=False)
        array = array[:, 0] if array.shape == (num_frames, 1) else array
        expected = (num_frames,) if feature.shape == (1,) else (num_frames, *feature.shape)
    if array.shape != expected:
        raise FoundryError(f"the column '{key}' of an episode has the shape {array.shape}, not {expected}")
    return array


def _arrow(values: NDArray[Any], feature: Feature) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values.tolist(), pa.string()) if feature.dtype == STRING else pa.array(values)
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(values).reshape(-1)), feature.shape[0]
    )
