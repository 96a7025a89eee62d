"""The table that img2dataset writes beside each tar: of every URL the key, and whether it was fetched."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa

from robot_foundry.ingest.sources.formats.parquet_file import Groups, Lost, opened, read_rows
from robot_foundry.ingest.sources.unusable import Unusable

KEY, STATUS, SUCCESS = "key", "status", "success"


def not_in_tar(path: Path, keys: Collection[str]) -> Iterator[Unusable]:
    """What the table at `path` tells of pairs that the tar does not have, which has these keys.

    Refused if the file is no whole parquet file. A table without keys and status tells nothing.
    """
    with opened(path) as table:
        if not {KEY, STATUS} <= set(table.schema_arrow.names):
            return
        for item in read_rows(table, Groups(0, table.metadata.num_row_groups), [KEY, STATUS], _rows):
            if isinstance(item, Lost):
                yield Unusable(str(item.row), "the table beside its tar is damaged there", item.count)
            elif item[1] != SUCCESS:
                yield Unusable(item[0], f"img2dataset has not fetched it ({item[1]})")
            elif item[0] not in keys:
                yield Unusable(item[0], "img2dataset has fetched it, and its tar lacks it")


def _rows(batch: pa.RecordBatch, row: int) -> Iterator[tuple[str, str]]:
    keys, statuses = (batch.column(name).to_pylist() for name in (KEY, STATUS))
    yield from ((str(key), str(status)) for key, status in zip(keys, statuses, strict=True))
