"""The kind `text` as ingest knows it: a part of a source becomes blocks of documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from robot_foundry.catalog.store import Store
from robot_foundry.ingest.duplicates import compared
from robot_foundry.ingest.kind import IngestKind, MadeTables, Preview, UnitTars
from robot_foundry.ingest.sources import Unit
from robot_foundry.ingest.tables.cached_tables import TablesTask
from robot_foundry.ingest.text.duplicates import TextHashing
from robot_foundry.ingest.text.members import write_unit
from robot_foundry.ingest.text.preview import preview
from robot_foundry.ingest.text.shard_tables import TABLES_VERSION, shard_tables
from robot_foundry.ingest.text.spec import TextSpec, text_spec_from_json
from robot_foundry.ingest.text.survey import SurveyedText, survey
from robot_foundry.ingest.text.version_tables import TextTables, warnings_of
from robot_foundry.runtime.parallel import Workers
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.text.blocks import codec_version


@dataclass(frozen=True)
class TextKind:
    """See `ingest.kind.IngestKind`."""

    name: str = "text"
    unit: str = "document"
    tables_version: int = TABLES_VERSION
    remapping: None = None

    def read_spec(self, values: Any, where: str) -> TextSpec:
        return text_spec_from_json(values, where)

    def codecs(self, spec: TextSpec) -> dict[str, str]:
        return {"text": codec_version()}

    def bounds(self, unit: Unit, spec: TextSpec) -> list[int]:
        return [0, 0]

    def compares(self, spec: TextSpec) -> bool:
        return spec.content.deduplicate

    def compared(
        self, units: Sequence[Unit], spec: TextSpec, store: Store, workers: Workers, *, quiet: bool
    ) -> Sequence[Unit]:
        return compared(units, spec, TextHashing(spec.content), store, workers, quiet=quiet)

    def write(self, unit: Unit, spec: TextSpec, tars: UnitTars) -> None:
        write_unit(unit, spec.content, tars.add)

    def survey(self, tar: ShardReader) -> tuple[tuple[SurveyedText, ...], tuple[str, ...]]:
        return survey(tar)

    def survey_to_json(self, block: SurveyedText) -> list[Any]:
        return block.to_json()

    def survey_from_json(self, values: list[Any]) -> SurveyedText:
        return SurveyedText.from_json(values)

    def interned(self, block: SurveyedText, one: Callable[[Any], Any]) -> SurveyedText:
        return block.interned(one)

    def preview(self, spec: TextSpec, units: Sequence[Unit], source_bytes: int) -> Preview:
        return preview(spec, units, source_bytes)

    def asked(self, spec: TextSpec) -> tuple[str, ...]:
        return spec.content.metadata or ()

    @contextmanager
    def version_tables(self, asked: tuple[str, ...], blocks: Sequence[SurveyedText]) -> Iterator[TextTables]:
        yield TextTables(asked)

    def shard_tables(self, task: TablesTask) -> MadeTables:
        return shard_tables(task)

    def warnings(self, provenance: Mapping[str, Any]) -> tuple[str, ...]:
        return warnings_of(provenance)

    def advice(self, schema: Any) -> list[str]:
        return []


KIND: IngestKind = TextKind()
