"""The kind `pairs` as ingest knows it: a part of a source becomes a block of pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from robot_foundry.catalog.store import Store
from robot_foundry.ingest.duplicates import compared
from robot_foundry.ingest.kind import IngestKind, MadeTables, Preview, UnitTars
from robot_foundry.ingest.pairs.duplicates import PairHashing
from robot_foundry.ingest.pairs.members import write_unit
from robot_foundry.ingest.pairs.pictures import codec_versions
from robot_foundry.ingest.pairs.preview import preview
from robot_foundry.ingest.pairs.shard_tables import TABLES_VERSION, shard_tables
from robot_foundry.ingest.pairs.spec import PairsSpec, pairs_spec_from_json
from robot_foundry.ingest.pairs.survey import SurveyedPairs, survey
from robot_foundry.ingest.pairs.version_tables import PairsTables, warnings_of
from robot_foundry.ingest.sources import Unit
from robot_foundry.ingest.tables.cached_tables import TablesTask
from robot_foundry.runtime.parallel import Workers
from robot_foundry.shards.reader import ShardReader


@dataclass(frozen=True)
class PairsKind:
    """See `ingest.kind.IngestKind`."""

    name: str = "pairs"
    unit: str = "pair"
    tables_version: int = TABLES_VERSION
    remapping: None = None

    def read_spec(self, values: Any, where: str) -> PairsSpec:
        return pairs_spec_from_json(values, where)

    def codecs(self, spec: PairsSpec) -> dict[str, str]:
        """Pictures pass through as they are, unless the spec makes them smaller."""
        return {} if spec.content.resize is None else codec_versions()

    def bounds(self, unit: Unit, spec: PairsSpec) -> list[int]:
        return [0, 0]

    def compares(self, spec: PairsSpec) -> bool:
        return spec.content.deduplicate

    def compared(
        self, units: Sequence[Unit], spec: PairsSpec, store: Store, workers: Workers, *, quiet: bool
    ) -> Sequence[Unit]:
        return compared(units, spec, PairHashing(spec.content), store, workers, quiet=quiet)

    def write(self, unit: Unit, spec: PairsSpec, tars: UnitTars) -> None:
        write_unit(unit, spec.content, tars)

    def survey(self, tar: ShardReader) -> tuple[tuple[SurveyedPairs, ...], tuple[str, ...]]:
        return survey(tar)

    def survey_to_json(self, block: SurveyedPairs) -> list[Any]:
        return block.to_json()

    def survey_from_json(self, values: list[Any]) -> SurveyedPairs:
        return SurveyedPairs.from_json(values)

    def interned(self, block: SurveyedPairs, one: Callable[[Any], Any]) -> SurveyedPairs:
        return block.interned(one)

    def preview(self, spec: PairsSpec, units: Sequence[Unit], source_bytes: int) -> Preview:
        return preview(spec, units, source_bytes)

    def asked(self, spec: PairsSpec) -> tuple[str, ...]:
        return spec.content.captions or ()

    @contextmanager
    def version_tables(
        self, asked: tuple[str, ...], blocks: Sequence[SurveyedPairs]
    ) -> Iterator[PairsTables]:
        yield PairsTables(asked, blocks)

    def shard_tables(self, task: TablesTask) -> MadeTables:
        return shard_tables(task)

    def warnings(self, provenance: Mapping[str, Any]) -> tuple[str, ...]:
        return warnings_of(provenance)

    def advice(self, schema: Any) -> list[str]:
        return []


KIND: IngestKind = PairsKind()
