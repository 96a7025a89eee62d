"""The kind `lines` as ingest knows it: members `<key>.document.json` and `<key>.txt` of each document."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from foundry_testing.lines.catalog.kind import KIND as HELD
from foundry_testing.lines.catalog.tables import DOCUMENTS_SCHEMA, LINES_SCHEMA, Schema
from foundry_testing.lines.ingest.spec import Spec, read_spec
from robot_foundry.catalog.manifest import Quarantined
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import table_digest, write_table
from robot_foundry.catalog.tars import open_tar
from robot_foundry.ingest.kind import CachedTable, IngestKind, MadeTables, Preview, Shard, UnitTars
from robot_foundry.ingest.sources import Refused, Unit
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.keyed import key as key_of
from robot_foundry.runtime.parallel import Workers
from robot_foundry.runtime.storage.cache import keep
from robot_foundry.shards.reader import ShardReader

DOCUMENT, TEXT = ".document.json", ".txt"


@dataclass(frozen=True)
class Document:
    """What a tar says of a document beside its text."""

    num_groups: ClassVar[int] = 1
    refused: ClassVar[tuple[Quarantined, ...]] = ()
    left_out: ClassVar[tuple[int, ...]] = ()

    key: str
    told: Mapping[str, Any]

    @property
    def unit(self) -> str:
        return f"{self.told['source']}#{self.told['id']}"

    @property
    def num_samples(self) -> int:
        return int(self.told["num_lines"])

    @property
    def source_file(self) -> tuple[str, str]:
        return self.told["source"], self.told["blake3"]


@dataclass(frozen=True)
class TablesTask:
    """A shard of which the tables are wanted."""

    store: Store
    dataset: str
    shard_key: str


class LinesTables:
    """The documents of a version on their way."""

    schema = Schema()

    def __init__(self) -> None:
        self._documents: dict[int, list[dict[str, Any]]] = {}
        self._num_blank = 0

    def task(self, store: Store, dataset: str, shard: Shard) -> TablesTask:
        return TablesTask(store, dataset, shard.key)

    def add(self, number: int, ordinal: int, rows: tuple[list[dict[str, Any]], int]) -> None:
        documents, num_blank = rows
        self._documents[number] = [{"shard": ordinal, **row} for row in documents]
        self._num_blank += num_blank

    def merged(self) -> dict[str, pa.Table]:
        rows = [row for number in sorted(self._documents) for row in self._documents[number]]
        return {"documents": pa.Table.from_pylist(rows, schema=DOCUMENTS_SCHEMA)}

    def counts(self, merged: Mapping[str, pa.Table]) -> tuple[int, int]:
        documents = merged["documents"]
        return documents.num_rows, sum(documents["num_lines"].to_pylist())

    def provenance(self, merged: Mapping[str, pa.Table]) -> dict[str, Any]:
        return {"blank": self._num_blank}


@dataclass(frozen=True)
class LinesKind:
    """See `robot_foundry.ingest.kind.Kind`. A document with a form feed goes into tars and gets no rows."""

    name: str = "lines"
    unit: str = "document"
    tables_version: int = 1
    remapping: None = None

    def read_spec(self, values: Any, where: str) -> Spec:
        return read_spec(values, where)

    def codecs(self, spec: Spec) -> dict[str, str]:
        return {}

    def bounds(self, unit: Unit, spec: Spec) -> list[int]:
        return [0, 0]

    def compares(self, spec: Spec) -> bool:
        return False

    def compared(
        self, units: Sequence[Unit], spec: Spec, store: Store, workers: Workers, *, quiet: bool
    ) -> Sequence[Unit]:
        return units

    def write(self, unit: Unit, spec: Spec, tars: UnitTars) -> None:
        with unit.file.local() as path:
            data = path.read_bytes()
        try:
            lines = data.decode("utf-8").removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise Refused(f"its byte {error.start} is not UTF-8") from error
        kept = [line for line in lines if line or spec.content.keep_blank]
        told = {
            "id": unit.id,
            "source": unit.file.path,
            "blake3": unit.file.blake3,
            "num_lines": len(kept),
        }
        tars.add(f"{unit.key}{DOCUMENT}", canonical_json(told))
        tars.add(f"{unit.key}{TEXT}", "\n".join(kept).encode())

    def survey(self, tar: ShardReader) -> tuple[tuple[Document, ...], tuple[str, ...]]:
        names = [name for name in tar.index["name"].to_pylist() if name.endswith(DOCUMENT)]
        documents = (Document(name.removesuffix(DOCUMENT), json.loads(tar.read_name(name))) for name in names)
        return tuple(documents), ()

    def survey_to_json(self, block: Document) -> list[Any]:
        return [block.key, dict(block.told)]

    def survey_from_json(self, values: list[Any]) -> Document:
        return Document(*values)

    def interned(self, block: Document, one: Callable[[Any], Any]) -> Document:
        return block

    def preview(self, spec: Spec, units: Sequence[Unit], source_bytes: int) -> Preview:
        first = units[0].name if units else None
        stored, lines = sum(unit.num_bytes for unit in units), ("text: utf-8",)
        return Preview(HELD, len(units), None, source_bytes, stored, Schema(), first, lines, ())

    def asked(self, spec: Spec) -> None:
        return None

    @contextmanager
    def version_tables(self, asked: None, blocks: Sequence[Document]) -> Iterator[LinesTables]:
        yield LinesTables()

    def shard_tables(self, task: TablesTask) -> MadeTables:
        tar = open_tar(task.store, task.dataset, task.shard_key)
        documents: list[dict[str, Any]] = []
        lines: list[dict[str, Any]] = []
        problems: dict[str, str] = {}
        for ordinal, document in enumerate(self.survey(tar)[0]):
            texts = tar.read_name(f"{document.key}{TEXT}").decode().split("\n")
            row_start = len(lines)
            lines += [{"document": ordinal, "line": n, "text": text} for n, text in enumerate(texts)]
            if any("\f" in text for text in texts):
                problems[document.key] = "it has a form feed"
                continue
            row = {"row_start": row_start, "num_lines": len(texts), "key": document.key}
            row |= {"id": document.told["id"], "source": document.told["source"]}
            documents.append(row | {"split_hash": key_of("split", document.told["blake3"])})
        table = pa.Table.from_pylist(lines, schema=LINES_SCHEMA)
        path = f"cache/tables/lines/{task.shard_key}.arrow"
        keep(task.store.storage, path, write_table(table))
        num_blank = sum(not line["text"] for line in lines)
        tables = {"lines": CachedTable(table_digest(table), path)}
        return MadeTables(tables, problems, (documents, num_blank))

    def warnings(self, provenance: Mapping[str, Any]) -> tuple[str, ...]:
        count = provenance["blank"]
        return (f"{count} lines are blank: content.keep_blank=false leaves them out",) if count else ()

    def advice(self, schema: Schema) -> list[str]:
        return []


KIND: IngestKind = LinesKind()
