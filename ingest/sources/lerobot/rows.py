"""The rows of one episode in a parquet file of data: its arrays, texts, and images as they are embedded.

Legend: N frames, d numbers of a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from robot_foundry.ingest.sources.base import GIT_LFS, Refused, SourceFile
from robot_foundry.ingest.sources.formats.parquet_file import BATCH_BYTES, opened, stored_type
from robot_foundry.ingest.sources.lerobot.json_meta import POINTER

EPISODE, FRAME = "episode_index", "frame_index"
NUMBERS, TEXTS, IMAGES = "numbers", "texts", "images"
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
_TEXTS = (pa.types.is_string, pa.types.is_large_string)
_BYTES = (pa.types.is_binary, pa.types.is_large_binary)
Runs = Mapping[int, tuple[int, int]]


@dataclass(frozen=True)
class Column:
    """A column of a file; `kind` is None for one that is not read."""

    name: str
    kind: str | None
    type: pa.DataType


def columns_in(file: Any) -> list[Column]:
    """The columns of an opened file, and what each may be by its type."""
    return [Column(field.name, _kind(field.type), field.type) for field in file.schema_arrow]


def episodes_in(file: SourceFile, path: Path) -> Runs:
    """Of each episode in a file its rows, from and to (exclusive). Refused if the file is damaged.

    Rows that lie apart make the run (-1, -1).
    """
    return _episodes_in(path, file.size, file.stamp)


@lru_cache(maxsize=8)
def _episodes_in(path: Path, _size: int, _stamp: str) -> Runs:
    with path.open("rb") as head:
        if head.read(len(GIT_LFS)) == GIT_LFS:
            raise Refused(POINTER)
    with opened(path) as file:
        if EPISODE not in file.schema_arrow.names:
            raise Refused(f"it has no column '{EPISODE}', so nothing says which episode a row is of")
        column = file.read(columns=[EPISODE], use_threads=False)[EPISODE]
        try:
            numbers_N = column.cast(pa.int64()).to_numpy()
        except (pa.ArrowException, ValueError) as error:
            raise Refused(
                f"its column '{EPISODE}' holds {column.type}, not the numbers of episodes"
            ) from error
    if column.null_count:
        raise Refused(f"{column.null_count} of its rows have no '{EPISODE}'")
    edges = [0, *(np.flatnonzero(np.diff(numbers_N)) + 1).tolist(), len(numbers_N)]
    runs: dict[int, tuple[int, int]] = {}
    for start, stop in zip(edges, edges[1:], strict=False):
        if start < stop:
            number = int(numbers_N[start])
            runs[number] = (-1, -1) if number in runs else (start, stop)
    return runs


def read_table(file: Any, names: Sequence[str], start: int, stop: int) -> pa.Table:
    """The rows from `start` to `stop` (exclusive) of these columns."""
    groups, first = _groups(file, start, stop)
    table = file.read_row_groups(groups, columns=list(names), use_threads=False)
    return table.slice(start - first, stop - start)


def images(path: Path, name: str, start: int, stop: int) -> Iterator[bytes | None]:
    """The embedded image of each row, None where there is none. Memory holds a batch of them."""
    with opened(path) as file:
        groups, row = _groups(file, start, stop)
        sizes = [file.metadata.row_group(n) for n in groups]
        num_bytes = max(1, sum(size.total_byte_size for size in sizes))
        rows = max(1, min(1024, BATCH_BYTES * sum(size.num_rows for size in sizes) // num_bytes))
        for batch in file.iter_batches(rows, groups, [name], use_threads=False):
            values = batch.column(batch.schema.get_field_index(name))
            values = values.field("bytes") if pa.types.is_struct(values.type) else values
            for value in values.slice(max(0, start - row), max(0, stop - max(row, start))):
                yield value.as_py()
            row += batch.num_rows


def has_paths(path: Path, name: str, start: int, stop: int) -> bool:
    """Whether a column of images names files in place of them in these rows."""
    with opened(path) as file:
        of = file.schema_arrow.field(name).type
        if not pa.types.is_struct(of) or of.get_field_index("path") < 0:
            return False
        paths = pc.struct_field(read_table(file, [name], start, stop)[name], "path")
    return len(paths) > paths.null_count


def _groups(file: Any, start: int, stop: int) -> tuple[list[int], int]:
    """The row groups that hold these rows, and the number of their first row."""
    counts = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
    edges = [0, *accumulate(counts)]
    groups = [n for n in range(len(counts)) if edges[n] < stop and edges[n + 1] > start]
    return groups, edges[groups[0]] if groups else 0


def _kind(of: pa.DataType) -> str | None:
    of = stored_type(of)
    if any(is_type(of) for is_type in _TEXTS):
        return TEXTS
    if any(is_type(of) for is_type in _BYTES):
        return IMAGES
    if pa.types.is_struct(of):
        at = of.get_field_index("bytes")
        return IMAGES if at >= 0 and any(is_type(of[at].type) for is_type in _BYTES) else None
    while any(is_type(of) for is_type in _LISTS):
        of = stored_type(of.value_type)
    return NUMBERS if pa.types.is_integer(of) or pa.types.is_floating(of) or pa.types.is_boolean(of) else None


def numbers(column: pa.ChunkedArray, name: str) -> NDArray[Any]:
    """The array [N, …] of a column of numbers or of lists of one length; what is null is NaN.

    Refused for lists of unlike lengths, with the first row of another one.
    """
    values = pa.concat_arrays([_stored(chunk) for chunk in column.chunks]) if column.chunks else pa.array([])
    num_rows, shape = len(values), [len(values)]
    while any(is_type(values.type) for is_type in _LISTS):
        lengths = pc.list_value_length(values)
        lengths_N = lengths.fill_null(-1).to_numpy(zero_copy_only=False)
        known_N = lengths_N[lengths_N >= 0]
        width = int(known_N[0]) if known_N.size else 0
        if (wrong_N := (lengths_N != width) & (lengths_N >= 0)).any():
            at = int(wrong_N.argmax())
            row = at // max(1, len(values) // num_rows)
            raise Refused(
                f"row {row} of its column '{name}' has {lengths_N[at]} numbers, others have {width}"
            )
        flat = _stored(values.flatten())
        if (missing_N := lengths_N < 0).any():
            taken = np.where(missing_N[:, None], -1, np.arange(width)).reshape(-1)
            taken[taken >= 0] = np.arange(len(flat))
            flat = flat.take(pa.array(taken, mask=taken < 0))
        values, shape = flat, [*shape, width]
    if pa.types.is_float16(values.type) or values.null_count:
        wide = (
            pa.float32()
            if pa.types.is_float16(values.type) or pa.types.is_float32(values.type)
            else pa.float64()
        )
        values = values.cast(wide)
    array: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return array.reshape(shape) if array.size == prod(shape) else array.reshape(num_rows, -1)


def _stored(values: pa.Array) -> pa.Array:
    """Without what only says how it is stored."""
    if isinstance(values, pa.ExtensionArray):
        return _stored(values.storage)
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
