"""Parquet: a document a row, numbered from 0 in its file as DuckDB's `file_row_number`. Row groups are units.

Metadata is what JSON can hold: dates, times and decimals are texts, times of a zone in UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.formats.parquet_file import (
    Groups,
    cast_to_json,
    check_json,
    cut,
    opened,
    read_usable,
    stored_type,
)
from robot_foundry.ingest.sources.text.json_document import document_of, too_long
from robot_foundry.ingest.sources.unusable import Unusable
from robot_foundry.ingest.text.spec import TextContent
from robot_foundry.runtime.errors import nearest
from robot_foundry.shards.text.blocks import Document

_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)


def sizes(path: Path, content: TextContent) -> dict[str, int]:
    """The file cut into row groups of `unit_bytes` of text or a little more; the compressed size of each.

    Refused if it is damaged, or if a column that is asked for is not what a document can be of.
    """
    with opened(path) as file:
        names = {content.key, *_metadata_types(file.schema_arrow, content)}
        return cut(file, names, content.unit_bytes)


def documents_of_groups(path: Path, unit: str, content: TextContent) -> Iterator[Document | Unusable]:
    """The documents of the rows of a `unit`, by its id.

    Where a row group is damaged, its rows from there on are one entry.
    """
    with opened(path) as file:
        types = _metadata_types(file.schema_arrow, content)
        read = partial(_documents, types=types, content=content)
        yield from read_usable(file, Groups.of_id(unit), [content.key, *types], read)


def _metadata_types(schema: pa.Schema, content: TextContent) -> dict[str, pa.DataType]:
    """Of the columns that are kept as metadata, by name. Refused if one cannot be, or the text is none."""
    key, names = content.key, schema.names
    if key not in names:
        raise Refused(f"it has no column '{key}'{nearest(key, names)} (columns: {', '.join(names)})")
    taken = [name for name in names if name == key or content.metadata is None or name in content.metadata]
    for name in taken:
        if taken.count(name) > 1:
            raise Refused(f"it has two columns '{name}'")
    if not any(is_type(stored_type(schema.field(key).type)) for is_type in _TEXTS):
        raise Refused(f"its column '{key}' is of {schema.field(key).type}, expected text")
    types = {name: schema.field(name).type for name in taken if name != key}
    check_json(types, "name those to keep in content.metadata")
    return types


def _documents(
    batch: pa.RecordBatch, row: int, types: dict[str, pa.DataType], content: TextContent
) -> Iterator[Document | Unusable]:
    texts = batch.column(content.key).cast(pa.large_binary())
    columns = {name: cast_to_json(batch.column(name), of) for name, of in types.items()}
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
