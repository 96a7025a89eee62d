"""Parquet: a document a row, numbered from 0 in its file as DuckDB's `file_row_number`. Row groups are units.

Metadata is what JSON can hold: dates, times and decimals are texts, times of a zone in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.text.json_document import document_of, too_long
from robot_foundry.ingest.sources.unusable import Unusable
from robot_foundry.ingest.text.spec import TextContent
from robot_foundry.runtime.errors import nearest
from robot_foundry.shards.text.blocks import Document

# Rows are read in batches of about so many bytes, a column through a buffer.
BATCH_BYTES, MOST_ROWS = 8 << 20, 4096
BUFFER_BYTES = 1 << 20
# What pyarrow raises of a damaged file. An error of the system is an OSError, too, and has its number.
DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)
_ID = re.compile(r"row_groups_([0-9]+)_to_([0-9]+)")
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
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
        assert match is not None  # `sizes` made it
        return cls(*map(int, match.groups()))


def sizes(path: Path, content: TextContent) -> dict[str, int]:
    """The file cut into row groups of `unit_bytes` of text or a little more; the compressed size of each.

    Refused if it is damaged, or if a column that is asked for is not what a document can be of.
    """
    with _opened(path) as file:
        metadata, names = file.metadata, {content.key, *_metadata_types(file.schema_arrow, content)}
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
            if num_bytes >= content.unit_bytes or number == metadata.num_row_groups - 1:
                found[Groups(start, number + 1).id] = num_stored
                start, num_bytes, num_stored = number + 1, 0, 0
        return found


def documents_of_groups(path: Path, groups: Groups, content: TextContent) -> Iterator[Document | Unusable]:
    """The documents of the rows. Where a row group is damaged, its rows from there on are one entry."""
    with _opened(path) as file:
        types = _metadata_types(file.schema_arrow, content)
        metadata = file.metadata
        num_rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        first_rows = [0, *accumulate(num_rows)]
        for number in range(groups.start, groups.end):
            row, end = first_rows[number], first_rows[number + 1]
            rows = max(1, min(MOST_ROWS, BATCH_BYTES * num_rows[number] // _num_bytes(metadata, number)))
            batches = file.iter_batches(rows, [number], [content.key, *types], use_threads=False)
            try:
                for batch in batches:
                    yield from _documents(batch, row, types, content)
                    row += batch.num_rows
            except DAMAGE as error:
                _check_damage(error)
                reason = "its row group is damaged, and this row and those after it there are lost"
                yield Unusable(str(row), reason, end - row)


def _num_bytes(metadata: Any, number: int) -> int:
    return max(1, metadata.row_group(number).total_byte_size)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, of which all that is found damaged refuses the whole."""
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, buffer_size=BUFFER_BYTES, page_checksum_verification=True) as file:
            yield file
    except DAMAGE as error:
        _check_damage(error)
        raise Refused(f"it is no whole parquet file: {' '.join(str(error).split())}") from error


def _check_damage(error: Exception) -> None:
    """Raise it again if it is of the system and not of what the file holds."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error


def _metadata_types(schema: pa.Schema, content: TextContent) -> dict[str, pa.DataType]:
    """Of the columns that are kept as metadata, by name. Refused if one cannot be, or the text is none."""
    key, names = content.key, schema.names
    if key not in names:
        raise Refused(f"it has no column '{key}'{nearest(key, names)} (columns: {', '.join(names)})")
    taken = [name for name in names if name == key or content.metadata is None or name in content.metadata]
    for name in taken:
        if taken.count(name) > 1:
            raise Refused(f"it has two columns '{name}'")
    if not any(is_type(_stored(schema.field(key).type)) for is_type in _TEXTS):
        raise Refused(f"its column '{key}' is of {schema.field(key).type}, expected text")
    types = {name: schema.field(name).type for name in taken if name != key}
    for name, of in types.items():
        try:
            _as_json(of)
        except TypeError as error:
            hint = "name those to keep in content.metadata"
            raise Refused(f"its column '{name}' is of {error}, which metadata cannot hold: {hint}") from error
    return types


def _documents(
    batch: pa.RecordBatch, row: int, types: dict[str, pa.DataType], content: TextContent
) -> Iterator[Document | Unusable]:
    texts = batch.column(content.key).cast(pa.large_binary())
    columns = {name: _cast(batch.column(name), of) for name, of in types.items()}
    for number in range(batch.num_rows):
        place, values = str(row + number), {}
        try:
            name = content.key
            values[name] = data = texts[number].as_py()
            if data is not None and len(data) > content.max_document_bytes:
                yield Unusable(place, too_long(content))
                continue
            values[name] = None if data is None else data.decode()
            for name, column in columns.items():
                values[name] = column[number].as_py()
        except UnicodeDecodeError:
            yield Unusable(place, f"its '{name}' is not UTF-8")
            continue
        yield document_of(values, place, content)


def _cast(column: pa.Array, of: pa.DataType) -> pa.Array:
    """In two steps, as the text of a time would be in the zone of its type."""
    plain = _plain(of)
    return column.cast(plain).cast(_as_json(plain))


def _stored(of: pa.DataType) -> pa.DataType:
    """Without what only says how it is stored or to be understood."""
    if isinstance(of, pa.BaseExtensionType):
        return _stored(of.storage_type)
    return _stored(of.value_type) if pa.types.is_dictionary(of) else of


def _plain(of: pa.DataType) -> pa.DataType:
    of = _stored(of)
    if pa.types.is_timestamp(of):
        return pa.timestamp(of.unit)
    return _within(of, _plain)


def _as_json(of: pa.DataType) -> pa.DataType:
    """The type that JSON holds of it; TypeError with one that it cannot hold."""
    of = _stored(of)
    if pa.types.is_null(of) or any(is_type(of) for is_type in _NUMBERS):
        return of
    if pa.types.is_float16(of):
        return pa.float32()
    if pa.types.is_duration(of):
        return pa.int64()
    if any(is_type(of) for is_type in _AS_TEXT):
        return pa.large_string()
    inner = _within(of, _as_json)
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
