"""Tables that wait on the disk until all are there, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa


class Spilled:
    """Holds tables of one schema in a temporary file, which is removed at the end of the context."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._count = 0

    def __enter__(self) -> Spilled:
        self._folder = TemporaryDirectory(prefix="robot-foundry-")
        self._path = str(Path(self._folder.name, "tables.arrow"))
        self._writer = pa.ipc.new_file(self._path, self._schema)
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._folder.cleanup()

    def add(self, table: pa.Table) -> int:
        """Keep a table; its number is for `table`."""
        batches = table.combine_chunks().to_batches()
        self._writer.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], self._schema))
        self._count += 1
        return self._count - 1

    def table(self, numbers: Iterable[int]) -> pa.Table:
        """The tables of these numbers as one, each a chunk, mapped from the file. No more may be added."""
        self._writer.close()
        reader = pa.ipc.open_file(pa.memory_map(self._path))
        return pa.Table.from_batches(map(reader.get_batch, numbers), self._schema)
