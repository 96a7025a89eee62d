"""Parquet: a pair a row, numbered from 0 in its file as DuckDB's `file_row_number`. Row groups are units.

Pictures stand in a column as Hugging Face has them, {bytes, path} or a list of such, or as bytes alone; or a
column names files of the source. All other columns are captions, conversations and metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from robot_foundry.ingest.sources.base import Refused, SourceFile
from robot_foundry.ingest.sources.formats.json_values import UnusableJson
from robot_foundry.ingest.sources.formats.parquet_file import (
    Groups,
    Lost,
    cast_to_json,
    check_json,
    cut,
    opened,
    read_rows,
    read_usable,
    stored_type,
)
from robot_foundry.ingest.sources.pairs import conversations
from robot_foundry.ingest.sources.pairs.asked import Asked
from robot_foundry.ingest.sources.pairs.files_named import (
    MOST_TRIED,
    FoundPart,
    NamedPictures,
    Pictures,
    bounds_and_folder,
    names_of,
    too_large,
)
from robot_foundry.ingest.sources.pairs.raw import RawPair, RawPicture
from robot_foundry.ingest.sources.pairs.record import CAPTION, IMAGE_KEYS, check_number, pair_of, record_of
from robot_foundry.ingest.sources.unusable import Unusable
from robot_foundry.runtime.errors import nearest

_BYTES = (pa.types.is_binary, pa.types.is_large_binary)
_NAMES = (pa.types.is_string, pa.types.is_large_string)
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def parts(path: Path, file: SourceFile, content: Asked) -> list[FoundPart]:
    """The row groups of the file at `path`, which may name companions of `file`. Refused if it is damaged.

    Refused as well if it has no column of pictures or no way to keep another.
    """
    pictures = Pictures(file.companions)
    with opened(path) as table:
        images, others = _columns(table.schema_arrow, content)
        found = cut(table, {*images, *others}, content.unit_bytes)
        if not file.companions or not images:
            return [FoundPart(bounds, num_bytes=num_bytes) for bounds, num_bytes in found.items()]
        every = Groups(0, table.metadata.num_row_groups)
        tried = list(islice(_named(table, every, images), MOST_TRIED))
        folder = pictures.folder(file.path, tried, content)
        parts = [FoundPart(bounds, folder, num_bytes) for bounds, num_bytes in found.items()]
        for part in parts:
            part.name(pictures, _named(table, Groups.of_id(part.bounds), images))
        return parts


def pairs_of_groups(file: SourceFile, unit: str, content: Asked) -> Iterator[RawPair | Unusable]:
    """The pairs of a unit by its id; the file and the pictures that it names are at hand.

    Where a row group is damaged, its rows from there on are one entry.
    """
    bounds, folder = bounds_and_folder(unit)
    pictures = NamedPictures(Pictures(file.companions), folder, content)
    path = Path(file.root, file.path)
    with opened(path) as table:
        images, others = _columns(table.schema_arrow, content)
    # The picture of many questions may be in the file once, and so it is in memory.
    with opened(path, once=images) as table:
        read = partial(_pairs, images=images, others=others, pictures=pictures, content=content)
        yield from read_usable(table, Groups.of_id(bounds), [*images, *others], read)


def _columns(schema: pa.Schema, content: Asked) -> tuple[list[str], dict[str, pa.DataType]]:
    """The columns of pictures, and the types of others that are taken. Refused where one cannot be."""
    names = schema.names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Refused(f"it has two columns '{twice}'")
    images = _image_columns(schema, content)
    others = {name: schema.field(name).type for name in names if name not in images}
    others = {name: of for name, of in others.items() if _is_taken(name, content)}
    check_json(others, "name those to keep in content.metadata, or those of pictures in content.image_keys")
    return images, others


def _image_columns(schema: pa.Schema, content: Asked) -> list[str]:
    """Those asked for; else the first of the usual names; else the only one that Hugging Face marks so."""
    names = schema.names
    if content.image_keys is not None:
        for key in content.image_keys:
            if key not in names:
                raise Refused(f"it has no column '{key}'{nearest(key, names)} (columns: {', '.join(names)})")
        return list(content.image_keys)
    usual = next((name for name in IMAGE_KEYS if name in names and _holds(schema.field(name).type)), None)
    if usual is not None:
        return [usual]
    marked = [name for name in names if _is_marked(_inner(schema.field(name).type))]
    if len(marked) > 1:
        raise Refused(f"several columns hold pictures ({', '.join(marked)}): name some in content.image_keys")
    return marked


def _is_taken(name: str, content: Asked) -> bool:
    """Whether the column may say something of a pair."""
    if content.metadata is None or name in content.metadata or name in conversations.KEYS:
        return True
    return CAPTION.fullmatch(name) is not None if content.captions is None else name in content.captions


def _inner(of: pa.DataType) -> pa.DataType:
    of = stored_type(of)
    return stored_type(of.value_type) if any(is_type(of) for is_type in _LISTS) else of


def _holds(of: pa.DataType) -> bool:
    """Whether values of the type hold or name pictures."""
    inner = _inner(of)
    return _is_marked(inner) or any(is_type(inner) for is_type in (*_BYTES, *_NAMES))


def _is_marked(of: pa.DataType) -> bool:
    """Whether it is {bytes, path}."""
    if not pa.types.is_struct(of):
        return False
    fields = {field.name: stored_type(field.type) for field in of}
    return "bytes" in fields and any(is_type(fields["bytes"]) for is_type in _BYTES)


def _named(table: Any, groups: Groups, images: list[str]) -> Iterator[str]:
    """The names of files in columns of pictures, whose bytes are not read."""
    leaves = [name for image in images for name in _name_leaves(table.schema_arrow.field(image))]
    read = partial(_names_of_batch, images=images)
    for item in read_rows(table, groups, leaves, read) if leaves else ():
        if not isinstance(item, Lost):
            yield item


def _name_leaves(of: pa.Field) -> list[str]:
    """The path of the leaf with names, as parquet has it."""
    is_list = _inner(of.type) is not stored_type(of.type)
    inner, path = _inner(of.type), f"{of.name}.list.element" if is_list else of.name
    if pa.types.is_struct(inner):
        return [f"{path}.path"] if "path" in {field.name for field in inner} else []
    return [path] if any(is_type(inner) for is_type in _NAMES) else []


def _names_of_batch(batch: pa.RecordBatch, row: int, images: list[str]) -> Iterator[str]:
    for image in images:
        for value in batch.column(image).to_pylist() if image in batch.schema.names else ():
            yield from names_of((image, item) for item in (value if isinstance(value, list) else [value]))


def _pairs(
    batch: pa.RecordBatch,
    row: int,
    images: list[str],
    others: dict[str, pa.DataType],
    pictures: NamedPictures,
    content: Asked,
) -> Iterator[RawPair | Unusable]:
    columns = {name: cast_to_json(batch.column(name), of) for name, of in others.items()}
    for number in range(batch.num_rows):
        place = str(row + number)
        name = ""
        try:
            values = {}
            for name, column in columns.items():
                values[name] = column[number].as_py()
            record = record_of(values, content, has_images=False)
            found: list[RawPicture] = []
            for name in images:
                items = _items(batch.column(name)[number])
                check_number([*found, *items])
                found += [_picture(item.as_py(), name, pictures, content) for item in items]
        except UnicodeDecodeError:
            yield Unusable(place, f"its '{name}' is not UTF-8")
        except UnusableJson as error:
            yield Unusable(place, str(error))
        else:
            yield pair_of(place, record, found, content)


def _items(cell: pa.Scalar) -> list[pa.Scalar]:
    """The pictures of a cell, of which none was copied yet."""
    if not cell.is_valid:
        return []
    return list(cell.values) if isinstance(cell, pa.ListScalar) else [cell]


def _picture(value: Any, key: str, pictures: NamedPictures, content: Asked) -> RawPicture:
    """Of bytes, of {bytes, path}, or of a name."""
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        return pictures.read(key, value)
    name = (value.get("path") if isinstance(value, dict) else None) or key
    if len(data) > content.max_picture_bytes:
        return RawPicture(name, None, too_large(content))
    return RawPicture(name, data)
