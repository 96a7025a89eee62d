"""Image-text pairs as parquet, pictures as they are stored.

Legend: n rows of a shard that are selected.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from robot_foundry.catalog.opened import Part
from robot_foundry.catalog.pairs.derived import pair_of
from robot_foundry.catalog.pairs.schema import schema_of
from robot_foundry.catalog.pairs.tables import BLOCKS, PAIRS
from robot_foundry.catalog.tars import open_tar
from robot_foundry.export.parquet.files import described, write
from robot_foundry.export.parquet.pairs_tables import PairColumns
from robot_foundry.export.parquet.planned import PlannedFile, about, export_files
from robot_foundry.export.report import ExportReport
from robot_foundry.export.request import ExportRequest
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.errors import CorruptData
from robot_foundry.shards.reader import ShardReader

GROUP_ROWS, GROUP_BYTES = 1000, 32 * 2**20
_OPEN_TARS = 64
_ROW_BYTES = 64  # of what is neither text nor picture


@dataclass(frozen=True)
class Rows:
    """A row group: the rows `row_n` of a shard."""

    shard: int
    row_n: NDArray[np.int64]
    num_bytes: int


def export_pairs(part: Part, out: Path, request: ExportRequest) -> ExportReport:
    """The selected pairs of a version, into a folder."""
    work = _Work(part)
    files = [
        PlannedFile(
            f"{PAIRS}/{number:06d}.parquet",
            sum(len(group.row_n) for group in groups),
            sum(group.num_bytes for group in groups),
            partial(work.write, groups),
        )
        for number, groups in enumerate(_files(part, request.options["file_bytes"]))
    ]
    counts = {PAIRS: sum(file.rows for file in files)}
    tables = {PAIRS: f"{PAIRS}/*.parquet"}
    return export_files(part, out, request, files, counts=counts, tables=tables, unit=PAIRS)


class _Work:
    """One version on its way."""

    def __init__(self, part: Part) -> None:
        self.part, self.columns = part, _columns(part)
        self._tar = lru_cache(maxsize=_OPEN_TARS)(self._open_tar)

    def write(self, groups: Sequence[Rows], path: Path) -> int:
        """A file of these row groups."""
        schema = described(self.columns.schema(), about(self.part, PAIRS))
        return write(path, schema, map(self._table, groups))

    def _table(self, group: Rows) -> pa.Table:
        opened = self.part.opened
        blocks = opened.table(BLOCKS)
        first = int(np.searchsorted(blocks["shard"].to_numpy(), group.shard))
        own = self.part.manifest.shards[group.shard].key
        rows = []
        for row in opened.shard_table(PAIRS, group.shard).take(pa.array(group.row_n)).to_pylist():
            pair = pair_of(row)
            data = [self._read(picture.tar or own, picture.member) for picture in pair.pictures]
            rows.append(self.columns.row(pair, blocks["file"][first + row["block"]].as_py(), data))
        return pa.Table.from_pylist(rows, schema=self.columns.schema())

    def _read(self, tar: str, member: str) -> bytes:
        try:
            return self._tar(tar).read_name(member)
        except CorruptData as error:
            version = self.part.component.version
            raise FoundryError(
                f"a picture of {version} cannot go out: {error}",
                hint=f"foundry-data validate {version} --deep",
            ) from error

    def _open_tar(self, key: str) -> ShardReader:
        opened = self.part.opened
        return open_tar(opened.store, opened.manifest.dataset, key, opened.manifest.tar_hashes)


def _columns(part: Part) -> PairColumns:
    """What any pair of the version has, selected or not: so all selections have the same columns."""
    captions: dict[str, None] = {}
    has_turns = has_pictures = has_several = False
    for table in part.opened.group_tables(PAIRS):
        for cell in pc.unique(table["captions"].combine_chunks()).drop_null().to_pylist():
            captions |= dict.fromkeys(json.loads(cell))
        has_turns |= table["turns"].null_count < table.num_rows
        most = pc.max(pc.list_value_length(table["image_member"])).as_py() or 0
        has_pictures, has_several = has_pictures or most > 0, has_several or most > 1
    metadata = schema_of(part.manifest).metadata
    return PairColumns(tuple(sorted(captions)), metadata, has_turns, has_pictures, has_several)


def _files(part: Part, file_bytes: int) -> Iterator[list[Rows]]:
    """The row groups of each file: it takes no further one beyond so many bytes."""
    file: list[Rows] = []
    filled = 0
    for group in _groups(part, min(file_bytes, GROUP_BYTES)):
        if file and filled + group.num_bytes > file_bytes:
            yield file
            file, filled = [], 0
        file.append(group)
        filled += group.num_bytes
    yield file


def _groups(part: Part, most_bytes: int) -> Iterator[Rows]:
    selection = part.select()
    for ordinal in np.unique(selection.shard_R).tolist():
        here = selection.shard_R == ordinal
        spans = zip(selection.start_R[here].tolist(), selection.stop_R[here].tolist(), strict=True)
        row_n = np.concatenate([np.arange(*span, dtype=np.int64) for span in spans])
        table = part.opened.shard_table(PAIRS, ordinal).select(["image_bytes", "num_characters"])
        table = table.take(pa.array(row_n))
        pictures = [sum(sizes or ()) for sizes in table["image_bytes"].to_pylist()]
        size_n = np.array(pictures, np.int64) + table["num_characters"].to_numpy() + _ROW_BYTES
        group_n = _numbered(size_n, most_bytes)
        for number in range(int(group_n[-1]) + 1):
            mine = group_n == number
            yield Rows(ordinal, row_n[mine], int(size_n[mine].sum()))


def _numbered(size_n: NDArray[np.int64], most_bytes: int) -> NDArray[np.int64]:
    """The number of the row group of each row [n], which follow one another."""
    number_n = np.zeros(len(size_n), np.int64)
    number = rows = filled = 0
    for n, size in enumerate(size_n.tolist()):
        if rows and (rows == GROUP_ROWS or filled + size > most_bytes):
            number, rows, filled = number + 1, 0, 0
        number_n[n] = number
        rows, filled = rows + 1, filled + size
    return number_n
