"""Parquet files with the same bytes for the same rows, and with what Hugging Face datasets reads of columns.

Every setting that decides bytes is fixed here; what is left is the version of pyarrow.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from robot_foundry.catalog.metadata.types import BOOLEAN, INTEGER, JSON, NUMBER, STRING
from robot_foundry.runtime.canonical import canonical_json

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
# Of metadata by the type that its values share; JSON as text.
METADATA_TYPES = {
    STRING: pa.string(), INTEGER: pa.int64(), NUMBER: pa.float64(), BOOLEAN: pa.bool_(), JSON: pa.string(),
}  # fmt: skip
ABOUT, HUGGING_FACE = b"robot_foundry", b"huggingface"
_LEVEL = 3


def encoders() -> dict[str, str]:
    """What decides the bytes of a file beside its rows."""
    return {"pyarrow": version("pyarrow")}


def described(schema: pa.Schema, about: Mapping[str, Any]) -> pa.Schema:
    """The schema with `about` in its metadata, and the features of its columns."""
    features = {"info": {"features": {field.name: _feature(field.type) for field in schema}}}
    return schema.with_metadata(
        {ABOUT: canonical_json(dict(about)), HUGGING_FACE: json.dumps(features).encode()}
    )


def write(path: Path, schema: pa.Schema, row_groups: Iterable[pa.Table]) -> int:
    """Write a row group for each table; how many rows there are."""
    rows = 0
    plain, compression = [], {}
    for column in _columns(schema):
        is_image = column.endswith(".bytes")
        compression[column] = "NONE" if is_image else "ZSTD"
        plain += [] if is_image else [column]
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    with pq.ParquetWriter(
        path, schema, version="2.6", data_page_version="1.0", compression=compression,
        compression_level={column: _LEVEL for column in plain}, use_dictionary=texts or False,
        write_statistics=plain,
    ) as file:  # fmt: skip
        for table in row_groups:
            file.write_table(table.cast(schema), row_group_size=max(1, table.num_rows))
            rows += table.num_rows
    return rows


def _columns(schema: pa.Schema) -> list[str]:
    """Paths of the leaves, as parquet has them."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    parquet = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return [parquet.column(i).path for i in range(len(parquet))]


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if kind == IMAGE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "Sequence"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    names = {pa.float64(): "float64", pa.float32(): "float32"}
    return {"dtype": names.get(kind, str(kind)), "_type": "Value"}
