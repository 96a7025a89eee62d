"""The kind `robot` as ingest knows it: a demonstration becomes an episode of images and source arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from robot_foundry.catalog.robot.schema import Schema
from robot_foundry.catalog.store import Store
from robot_foundry.ingest.kind import CachedTable, IngestKind, MadeTables, Preview, UnitTars
from robot_foundry.ingest.robot import preview
from robot_foundry.ingest.robot.absence.asked import Asked
from robot_foundry.ingest.robot.content import members, pictures, survey
from robot_foundry.ingest.robot.content.survey import Surveyed
from robot_foundry.ingest.robot.shard_tables import TABLES_VERSION, TablesTask, shard_tables
from robot_foundry.ingest.robot.spec.spec import MappingSpec, Spec, mapping_json
from robot_foundry.ingest.robot.spec.spec_reader import spec_from_json
from robot_foundry.ingest.robot.version_tables import RobotTables, version_tables, warnings_of
from robot_foundry.ingest.sources import Unit
from robot_foundry.runtime.parallel import Workers
from robot_foundry.shards.reader import ShardReader


class RobotRemapping:
    """See `ingest.kind.Remapping`."""

    def to_json(self, mapping: MappingSpec | Spec) -> dict[str, Any]:
        return mapping_json(_mapping(mapping))

    def asked(self, spec: Mapping[str, Any], mapping: MappingSpec | Spec, where: str) -> Asked:
        if "layout" not in spec:
            return Asked(_mapping(mapping))
        stated = spec_from_json(spec, where)
        return Asked(_mapping(mapping), stated.content, stated.name)


def _mapping(mapping: MappingSpec | Spec) -> MappingSpec:
    return mapping.mapping if isinstance(mapping, Spec) else mapping


@dataclass(frozen=True)
class RobotKind:
    """See `ingest.kind.Kind`."""

    name: str = "robot"
    unit: str = "demonstration"
    tables_version: int = TABLES_VERSION
    remapping: RobotRemapping = RobotRemapping()

    def read_spec(self, values: Any, where: str) -> Spec:
        return spec_from_json(values, where)

    def codecs(self, spec: Spec) -> dict[str, str]:
        return pictures.codecs(spec.content, members.reader_of(spec))

    def bounds(self, unit: Unit, spec: Spec) -> list[int]:
        return members.bounds(unit, spec)

    def compares(self, spec: Spec) -> bool:
        return False

    def compared(
        self, units: Sequence[Unit], spec: Spec, store: Store, workers: Workers, *, quiet: bool
    ) -> Sequence[Unit]:
        return units

    def write(self, unit: Unit, spec: Spec, tars: UnitTars) -> None:
        members.write_episode(unit, spec, tars)

    def survey(self, tar: ShardReader) -> tuple[tuple[Surveyed, ...], tuple[str, ...]]:
        return survey.survey(tar)

    def survey_to_json(self, block: Surveyed) -> list[Any]:
        return block.to_json()

    def survey_from_json(self, values: list[Any]) -> Surveyed:
        return Surveyed.from_json(values)

    def interned(self, block: Surveyed, one: Callable[[Any], Any]) -> Surveyed:
        return survey.interned(block, one)

    def preview(self, spec: Spec, units: Sequence[Unit], source_bytes: int) -> Preview:
        return preview.preview(spec, units, source_bytes)

    def asked(self, spec: Spec) -> Asked:
        return Asked.of(spec)

    def version_tables(self, asked: Asked, blocks: Sequence[Surveyed]) -> AbstractContextManager[RobotTables]:
        return version_tables(asked, blocks)

    def shard_tables(self, task: TablesTask) -> MadeTables:
        made = shard_tables(task)
        frames = CachedTable(made.frames_digest, task.frames_path)
        return MadeTables({"frames": frames}, made.problems, made)

    def warnings(self, provenance: Mapping[str, Any]) -> tuple[str, ...]:
        return warnings_of(provenance)

    def advice(self, schema: Schema) -> list[str]:
        sizes = {camera.name: (camera.height, camera.width) for camera in schema.cameras}
        hint = pictures.advice(sizes)
        return [] if hint is None else [hint]


KIND: IngestKind = RobotKind()
