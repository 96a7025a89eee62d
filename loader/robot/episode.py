"""One episode of a dataset: its rows, images, attributes and annotations."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.runtime.errors import FoundryError, nearest


@dataclass(frozen=True)
class Episode:
    """A sequence of frames: `episode[i]` is `dataset[row_start + i]`, with decoded images.

    `id` is the source's own name of it, `source` the path of its file. `rows` are the canonical arrays of all
    frames [N, …] by name: `state`, `action.<stream>`, `timestamp` (s), `flags`, `frame`. `attributes` are
    what the source says of it; `annotations` one dict a span: start, end (frames), kind, text, source.
    """

    key: str
    id: str
    source: str
    row_start: int
    fps: float
    success: bool | None
    rows: Mapping[str, NDArray[Any]]
    attributes: Mapping[str, Any]
    annotations: tuple[Mapping[str, Any], ...]
    _frame: Callable[[int], dict[str, Any]] = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.rows["frame"])

    def __getitem__(self, i: int) -> dict[str, Any]:
        check_index(i, f"episode '{self.key}'")
        if not -len(self) <= i < len(self):
            raise IndexError(f"episode '{self.key}' has {len(self)} frames, there is no frame {i}")
        return self._frame(self.row_start + i % len(self))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))


def check_index(i: Any, where: str) -> None:
    """FoundryError if a frame is asked for by anything but a whole number."""
    try:
        operator.index(i)
    except TypeError as error:
        raise FoundryError(f"{where} has frames by number, not by {type(i).__name__}: {i!r}") from error


def find_episode(episodes: pa.Table, name: str, where: str) -> int:
    """The row of the episode whose key or id is `name`; FoundryError with the nearest name if none is.

    Episodes of several files may have one id: then the error lists their keys.
    """
    if not isinstance(name, str):
        raise FoundryError(
            f"{where} has episodes by name, not by {type(name).__name__}: {name!r}",
            hint=f"by key or id, as in episodes(): {_listed(episodes['key'].to_pylist())}",
        )
    keys, ids = episodes["key"].to_pylist(), episodes["id"].to_pylist()
    if name in keys:
        return keys.index(name)
    rows = [row for row, other in enumerate(ids) if other == name]
    if len(rows) == 1:
        return rows[0]
    if rows:
        raise FoundryError(
            f"{where} has {len(rows)} episodes with the id '{name}'",
            hint=f"give the key: {_listed([keys[row] for row in rows])}",
        )
    raise FoundryError(
        f"{where} has no episode '{name}'{nearest(name, [*dict.fromkeys(ids), *keys])}",
        hint=f"by key or id, as in episodes(): {_listed(keys)}",
    )


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f", … ({len(names)})" if len(names) > most else "")


def columns(table: pa.Table, matrices: Mapping[str, NDArray[Any]], span: slice) -> dict[str, NDArray[Any]]:
    """The canonical arrays of a span of rows of a shard's frames table, as copies."""
    rows = {name: matrix[span].copy() for name, matrix in matrices.items()}
    for name in ("timestamp", "flags", "frame"):
        rows[name] = np.array(table[name].slice(span.start, span.stop - span.start))
    return rows
