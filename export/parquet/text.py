"""Documents as parquet: `text`, `id` and `file`, its place in the source, and a column for each metadata.

`ingest text` reads them back. A row group is a block of the version.

Legend: D documents of a block, E documents of the version.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.metadata.types import JSON
from robot_foundry.catalog.opened import Part
from robot_foundry.catalog.tars import open_tar
from robot_foundry.catalog.text.schema import schema_of
from robot_foundry.catalog.text.tables import BLOCKS, DOCUMENTS
from robot_foundry.export.parquet.files import METADATA_TYPES, described, write
from robot_foundry.export.parquet.planned import PlannedFile, about, export_files
from robot_foundry.export.report import ExportReport
from robot_foundry.export.request import ExportRequest
from robot_foundry.runtime.errors import UsageError
from robot_foundry.shards.text.blocks import read_meta, read_texts

_OWN = ("text", "id", "file")


@dataclass(frozen=True)
class Rows:
    """A row group: the documents `document_n` of a block, which has `key` in a shard and is of `file`."""

    shard: int
    key: str
    file: str
    document_n: NDArray[np.int64]
    num_bytes: int


def export_text(part: Part, out: Path, request: ExportRequest) -> ExportReport:
    """The selected documents of a version, into a folder. UsageError where these are parts of documents."""
    if request.split_by == "time" and request.split != "all":
        raise UsageError("documents go out whole, and --split-by time cuts them", hint="leave it out")
    files = [
        PlannedFile(
            f"{DOCUMENTS}/{number:06d}.parquet",
            sum(len(group.document_n) for group in groups),
            sum(group.num_bytes for group in groups),
            partial(_write, part, groups),
        )
        for number, groups in enumerate(_files(part, request.options["file_bytes"]))
    ]
    counts = {DOCUMENTS: sum(file.rows for file in files)}
    tables = {DOCUMENTS: f"{DOCUMENTS}/*.parquet"}
    return export_files(part, out, request, files, counts=counts, tables=tables, unit=DOCUMENTS)


def _write(part: Part, groups: Sequence[Rows], path: Path) -> int:
    schema = described(_schema(part), about(part, DOCUMENTS))
    return write(path, schema, (_table(part, group) for group in groups))


def _schema(part: Part) -> pa.Schema:
    own = [(name, pa.string()) for name in _OWN]
    metadata = schema_of(part.manifest).metadata
    return pa.schema([*own, *((_column_of(name), METADATA_TYPES[kind]) for name, kind in metadata.items())])


def _table(part: Part, group: Rows) -> pa.Table:
    manifest = part.manifest
    tar = open_tar(part.opened.store, manifest.dataset, manifest.shards[group.shard].key, manifest.tar_hashes)
    texts, metas = list(read_texts(tar, group.key)), read_meta(tar, group.key)
    types = schema_of(manifest).metadata
    rows: list[dict[str, Any]] = []
    for n in group.document_n.tolist():
        row = {"text": texts[n], "id": metas[n]["id"], "file": group.file}
        for name, kind in types.items():
            value = (metas[n]["metadata"] or {}).get(name)
            as_json = kind == JSON and value is not None
            row[_column_of(name)] = json.dumps(value, ensure_ascii=False) if as_json else value
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=_schema(part))


def _column_of(name: str) -> str:
    return f"metadata.{name}" if name in _OWN else name


def _files(part: Part, file_bytes: int) -> Iterator[list[Rows]]:
    """The row groups of each file: it takes no further one beyond so many bytes."""
    file: list[Rows] = []
    filled = 0
    for group in _groups(part):
        if file and filled + group.num_bytes > file_bytes:
            yield file
            file, filled = [], 0
        file.append(group)
        filled += group.num_bytes
    yield file


def _groups(part: Part) -> Iterator[Rows]:
    geometry, blocks = part.opened.geometry, part.opened.table(BLOCKS).to_pylist()
    is_held_E = part.select().holds(geometry)
    start = 0
    for block in blocks:
        count = block["num_documents"]
        document_n = np.flatnonzero(is_held_E[start : start + count])
        start += count
        if document_n.size:
            size = block["num_bytes"] * document_n.size // count
            yield Rows(block["shard"], block["key"], block["file"], document_n, size)
