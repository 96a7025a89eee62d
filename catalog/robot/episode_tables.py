"""The episodes table as it is read: rows counted over the dataset, attributes as one struct column.

The table stores what the source says of each episode as canonical JSON. Read, attributes are typed over all
episodes at once, so that SQL can ask for `attributes.success`. Legend: E episodes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.kind import Geometry
from robot_foundry.runtime.canonical import canonical_json

COLUMN = "attributes"
_AGREED = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
_INT64 = range(-(2**63), 2**63)
# How episode.json writes the floats that JSON has no numbers for.
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def expanded(table: pa.Table) -> pa.Table:
    """A table of episodes whose column `attributes` is a struct; null throughout where no episode has any."""
    place = table.column_names.index(COLUMN)
    return table.set_column(place, COLUMN, structs(table[COLUMN].to_pylist()))


def geometry_of(episodes: pa.Table) -> Geometry:
    """Where the episodes lie."""
    return Geometry(
        episodes["shard"].to_numpy(),
        episodes["row_start"].to_numpy(),
        episodes["num_frames"].to_numpy().astype(np.int64),
        episodes["split_hash"].to_numpy(),
    )


def numbered(episodes: pa.Table) -> pa.Table:
    """Episodes whose `row_start` counts through all of them; `shard_row_start` is that of their shard."""
    place = episodes.column_names.index("row_start")
    counts_E = episodes["num_frames"].to_numpy().astype(np.int64)
    row_start = pa.array(np.cumsum(counts_E) - counts_E)
    stored = episodes["row_start"]
    return episodes.set_column(place, "row_start", row_start).add_column(place + 1, "shard_row_start", stored)


def structs(texts_E: Sequence[str | None]) -> pa.Array:
    """One struct an episode from its attributes as JSON objects.

    A field is bool, int64 or float64 where all that say something agree on it, else text: what is no text is
    written as JSON. It is null where an episode says nothing. SQL does not tell `Lang` from `lang`: of such
    names all but the first get a number, `lang_2`.
    """
    attributes_E = [json.loads(text) if text else {} for text in texts_E]
    names = sorted({name for attributes in attributes_E for name in attributes})
    if not names:
        return pa.nulls(len(attributes_E))
    columns = [_column([attributes.get(name) for attributes in attributes_E]) for name in names]
    return pa.StructArray.from_arrays(columns, names=field_names(names))


def field_names(names: Iterable[str]) -> list[str]:
    """Names of fields for these attributes, no two the same but for their case."""
    names = list(names)
    taken, unique_names = {name.lower() for name in names}, list[str]()
    used: set[str] = set()
    for name in names:
        unique, number = name or "_", 1
        while unique.lower() in used or (number > 1 and unique.lower() in taken):
            number += 1
            unique = f"{name}_{number}"
        used.add(unique.lower())
        unique_names.append(unique)
    return unique_names


def _column(values_E: Sequence[Any]) -> pa.Array:
    kinds = {type(value) for value in values_E if value is not None} or {bool}
    agreed = _AGREED.get(kinds.pop()) if len(kinds) == 1 else None
    if agreed is None:
        return _mixed_column(values_E)
    try:
        return pa.array(values_E, agreed)
    except OverflowError:  # an integer beyond 64 bits
        return _mixed_column(values_E)


def _mixed_column(values_E: Sequence[Any]) -> pa.Array:
    """Numbers where all are, some of them told as text, else text."""
    present = [value for value in values_E if value is not None]
    numbers = [_number(value) for value in present]
    if None not in numbers and any(not isinstance(value, str) for value in present):
        return pa.array([None if value is None else _number(value) for value in values_E], pa.float64())
    return pa.array([None if value is None else _text(value) for value in values_E], pa.string())


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in _INT64


def _number(value: Any) -> float | None:
    if isinstance(value, float) or _is_int(value):
        return float(value)
    return _NOT_FINITE.get(value) if isinstance(value, str) else None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return canonical_json(value).decode() if isinstance(value, Mapping | list) else json.dumps(value)


def episode_rates(episodes: pa.Table) -> NDArray[np.float64]:
    """Hz of every episode of an episodes table: its fps, else by its timestamps; NaN where neither says."""
    fps_E = episodes["fps"].to_numpy()
    frames_E = episodes["num_frames"].to_numpy().astype(np.float64)
    duration_E = episodes["duration_s"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        measured_E = frames_E / duration_E
        measured_E[~(np.isfinite(measured_E) & (measured_E > 0))] = np.nan
        return np.where(np.isfinite(fps_E) & (fps_E > 0), fps_E, measured_E)
