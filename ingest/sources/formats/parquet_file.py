"""Parquet files of a source: row groups are its units, and what of their values JSON can hold.

Dates, times and decimals are texts, times of a zone in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.unusable import Unusable

Row = TypeVar("Row")
# Rows are read in batches of about so many bytes, a column through a buffer.
BATCH_BYTES, MOST_ROWS = 8 << 20, 4096
BUFFER_BYTES = 1 << 20
# What pyarrow raises of a damaged file. An error of the system is an OSError, too, and has its number.
DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)
_ID = re.compile(r"row_groups_([0-9]+)_to_([0-9]+)")
_NUMBERS = (pa.types.is_integer, pa.types.is_float32, pa.types.is_float64, pa.types.is_boolean)
_AS_TEXT = (
    pa.types.is_string, pa.types.is_large_string, pa.types.is_decimal,
    pa.types.is_date, pa.types.is_time, pa.types.is_timestamp,
)  # fmt: skip


@dataclass(frozen=True)
class Groups:
    """Row groups of a file from `start` to `end` (exclusive). As the `id` of a unit it names itself."""

    start: int
    end: int

    @property
    def id(self) -> str:
        return f"row_groups_{self.start}_to_{self.end}"

    @classmethod
    def of_id(cls, text: str) -> Groups:
        match = _ID.fullmatch(text)
        assert match is not None  # `cut` made it
        return cls(*map(int, match.groups()))


def cut(file: Any, names: Collection[str], unit_bytes: int) -> dict[str, int]:
    """The opened file in parts of `unit_bytes` of the columns of these names, or a little more.

    By the `id` of each, the bytes that its row groups have in the file.
    """
    metadata = file.metadata
    found: dict[str, int] = {}
    start = num_bytes = num_stored = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for index in range(group.num_columns):
            column = group.column(index)
            name = column.path_in_schema
            if name in names or name.partition(".")[0] in names:
                num_bytes += column.total_uncompressed_size
                num_stored += column.total_compressed_size
        if num_bytes >= unit_bytes or number == metadata.num_row_groups - 1:
            found[Groups(start, number + 1).id] = num_stored
            start, num_bytes, num_stored = number + 1, 0, 0
    return found


@dataclass(frozen=True)
class Lost:
    """Rows of a row group, from `row` on, that cannot be read."""

    row: int
    count: int


def read_rows(
    file: Any, groups: Groups, columns: Collection[str], read: Callable[[pa.RecordBatch, int], Iterator[Row]]
) -> Iterator[Row | Lost]:
    """What `read` gives of batches of these columns, each with the number of its first row in the file.

    Where a row group is damaged, its rows from that batch on are lost.
    """
    metadata = file.metadata
    num_rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    first_rows = [0, *accumulate(num_rows)]
    for number in range(groups.start, groups.end):
        row, end = first_rows[number], first_rows[number + 1]
        rows = max(1, min(MOST_ROWS, BATCH_BYTES * num_rows[number] // _num_bytes(metadata, number)))
        try:
            for batch in file.iter_batches(rows, [number], list(columns), use_threads=False):
                yield from read(batch, row)
                row += batch.num_rows
        except DAMAGE as error:
            _check_damage(error)
            yield Lost(row, end - row)


def read_usable(
    file: Any, groups: Groups, columns: Collection[str], read: Callable[[pa.RecordBatch, int], Iterator[Row]]
) -> Iterator[Row | Unusable]:
    """As `read_rows`; rows that are lost together are one entry, which has the number of the first."""
    for item in read_rows(file, groups, columns, read):
        if isinstance(item, Lost):
            reason = "its row group is damaged, and this row and those after it there are lost"
            yield Unusable(str(item.row), reason, item.count)
        else:
            yield item


def check_json(types: Mapping[str, pa.DataType], hint: str) -> None:
    """Refused, with the hint, for a column of a type that JSON cannot hold."""
    for name, of in types.items():
        try:
            json_type(of)
        except TypeError as error:
            raise Refused(f"its column '{name}' is of {error}, which metadata cannot hold: {hint}") from error


def _num_bytes(metadata: Any, number: int) -> int:
    return max(1, metadata.row_group(number).total_byte_size)


@contextmanager
def opened(path: Path, once: Collection[str] = ()) -> Iterator[Any]:
    """The file, of which all that is found damaged refuses the whole.

    Of the columns `once` a value that many rows of a batch have is held once, as an entry of a dictionary.
    """
    from pyarrow import parquet

    options: dict[str, Any] = {"buffer_size": BUFFER_BYTES, "page_checksum_verification": True}
    try:
        with parquet.ParquetFile(path, **options) as file:
            leaves = _leaves(file.metadata.schema, once)
            if not leaves:
                yield file
                return
        with parquet.ParquetFile(path, read_dictionary=leaves, **options) as file:
            yield file
    except DAMAGE as error:
        _check_damage(error)
        raise Refused(f"it is no whole parquet file: {' '.join(str(error).split())}") from error


def _leaves(schema: Any, columns: Collection[str]) -> list[str]:
    """The paths of the columns' texts and bytes, as parquet has them."""
    leaves = (schema.column(number) for number in range(len(schema)))
    return [
        leaf.path
        for leaf in leaves
        if leaf.physical_type == "BYTE_ARRAY"
        and (leaf.path in columns or leaf.path.partition(".")[0] in columns)
    ]


def _check_damage(error: Exception) -> None:
    """Raise it again if it is of the system and not of what the file holds."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error


def cast_to_json(column: pa.Array, of: pa.DataType) -> pa.Array:
    """In two steps, as the text of a time would be in the zone of its type."""
    plain = _plain(of)
    return column.cast(plain).cast(json_type(plain))


def stored_type(of: pa.DataType) -> pa.DataType:
    """Without what only says how it is stored or to be understood."""
    if isinstance(of, pa.BaseExtensionType):
        return stored_type(of.storage_type)
    return stored_type(of.value_type) if pa.types.is_dictionary(of) else of


def _plain(of: pa.DataType) -> pa.DataType:
    of = stored_type(of)
    if pa.types.is_timestamp(of):
        return pa.timestamp(of.unit)
    return _within(of, _plain)


def json_type(of: pa.DataType) -> pa.DataType:
    """The type that JSON holds of it; TypeError with one that it cannot hold."""
    of = stored_type(of)
    if pa.types.is_null(of) or any(is_type(of) for is_type in _NUMBERS):
        return of
    if pa.types.is_float16(of):
        return pa.float32()
    if pa.types.is_duration(of):
        return pa.int64()
    if any(is_type(of) for is_type in _AS_TEXT):
        return pa.large_string()
    inner = _within(of, json_type)
    if inner is of:
        raise TypeError(str(of))
    return inner


def _within(of: pa.DataType, changed: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """A nested type with changed types in it; any other is given back itself."""
    if pa.types.is_map(of):
        return pa.map_(changed(of.key_type), changed(of.item_type))
    if pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of):
        return pa.large_list(changed(of.value_type))
    if pa.types.is_struct(of):
        return pa.struct([pa.field(field.name, changed(field.type)) for field in of])
    return of
