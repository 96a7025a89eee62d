"""The tables of a robot version: the mapping fitted to its episodes, their rows, what the checks found."""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from robot_foundry.catalog.robot.plausibility import doubts
from robot_foundry.catalog.robot.schema import Schema
from robot_foundry.catalog.robot.tables import ANNOTATIONS_SCHEMA, EPISODES_SCHEMA, LEAVES_SCHEMA
from robot_foundry.catalog.store import Store
from robot_foundry.checks import rules as checks
from robot_foundry.checks.evidence import Evidence
from robot_foundry.checks.finding import Finding
from robot_foundry.ingest.kind import Shard
from robot_foundry.ingest.robot.absence.absence import Absence, Outcome, absence
from robot_foundry.ingest.robot.absence.asked import Asked
from robot_foundry.ingest.robot.absence.notes import Notes, sentences
from robot_foundry.ingest.robot.content.survey import Surveyed
from robot_foundry.ingest.robot.named import with_named
from robot_foundry.ingest.robot.resolve import resolve
from robot_foundry.ingest.robot.shard_tables import ShardTables, TablesTask
from robot_foundry.ingest.robot.spec.spec import content_json, mapping_json
from robot_foundry.ingest.tables.spilled import Spilled
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.overrides import set_options


@dataclass(frozen=True)
class _Rows:
    """What is kept of one shard, in few bytes."""

    episodes: pa.Table
    annotations: pa.Table
    leaves: int  # the number of the table that is spilled
    problems: Mapping[str, str]
    evidence: bytes  # canonical JSON, compressed
    notes: Notes


@contextmanager
def version_tables(asked: Asked, episodes: Sequence[Surveyed]) -> Iterator[RobotTables]:
    """The tables of these episodes by the mapping that is asked for."""
    with Spilled(LEAVES_SCHEMA) as leaves:
        yield RobotTables(asked, episodes, leaves)


class RobotTables:
    """See `ingest.kind.VersionTables`; digests of shards wait in `leaves`."""

    def __init__(self, asked: Asked, episodes: Sequence[Surveyed], leaves: Spilled) -> None:
        self._is_named = asked.mapping.others is not None
        self._asked, sentences = with_named(asked, episodes)
        self._episodes, self._leaves = episodes, leaves
        resolution = resolve(self._asked.mapping, episodes)
        self._resolution = replace(resolution, warnings=(*sentences, *resolution.warnings))
        self._by_shard: dict[int, _Rows] = {}

    @property
    def schema(self) -> Schema:
        return self._resolution.schema

    def task(self, store: Store, dataset: str, shard: Shard) -> TablesTask:
        by_key = self._resolution.problems
        problems = {episode.key: by_key[episode.key] for episode in shard.blocks if episode.key in by_key}
        return TablesTask(store, dataset, shard.key, self._resolution, problems)

    def add(self, number: int, ordinal: int, rows: ShardTables) -> None:
        def table(listed: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
            return pa.Table.from_pylist([{"shard": ordinal, **row} for row in listed], schema=schema)

        self._by_shard[number] = _Rows(
            table(rows.episodes, EPISODES_SCHEMA),
            table(rows.annotations, ANNOTATIONS_SCHEMA),
            self._leaves.add(table(rows.leaves, LEAVES_SCHEMA)),
            rows.problems,
            zlib.compress(canonical_json(rows.evidence.to_json())),
            rows.notes,
        )

    @property
    def _rows(self) -> list[_Rows]:
        """In the order of shards."""
        return [self._by_shard[number] for number in range(len(self._by_shard))]

    def merged(self) -> dict[str, pa.Table]:
        episodes = pa.concat_tables([EPISODES_SCHEMA.empty_table(), *(rows.episodes for rows in self._rows)])
        annotations = pa.concat_tables(
            [ANNOTATIONS_SCHEMA.empty_table(), *(rows.annotations for rows in self._rows)]
        )
        return {
            "episodes": episodes.combine_chunks(),
            "annotations": annotations.combine_chunks(),
            "leaves": self._leaves.table(rows.leaves for rows in self._rows),
        }

    def counts(self, merged: Mapping[str, pa.Table]) -> tuple[int, int]:
        episodes = merged["episodes"]
        return episodes.num_rows, pc.sum(episodes["num_frames"]).as_py() or 0

    def provenance(self, merged: Mapping[str, pa.Table]) -> dict[str, Any]:
        """Shapes of arrays and controllers, what nothing takes, and what the data checks found."""
        findings = self._findings(merged["leaves"])
        arrays, controllers = self._resolution.arrays, self._resolution.controllers
        return {
            # What the spec's became by what the source says of its columns.
            **({"mapping": mapping_json(self._asked.mapping)} if self._is_named else {}),
            "arrays": {key: [list(shape) for shape in shapes] for key, shapes in arrays.items()},
            "controllers": {name: list(unlike) for name, unlike in controllers.items()},
            "absence": self._absence(merged).record,
            "checks": {
                "version": checks.VERSION,
                "found": len(findings),
                "findings": [finding.to_json() for finding in findings],
            },
        }

    def _findings(self, leaves: pa.Table) -> list[Finding]:
        """What the data checks find, the same for any number of workers."""
        evidence = (Evidence.from_json(json.loads(zlib.decompress(rows.evidence))) for rows in self._rows)
        content = self._asked.content
        return doubts(
            self.schema,
            Evidence.merge_all(evidence),
            leaves,
            mapping_json(self._asked.mapping),
            None if content is None else content_json(content),
        )

    def _absence(self, merged: Mapping[str, pa.Table]) -> Absence:
        """What the source of the written episodes has and nothing takes, and what is asked for and absent."""
        episodes, annotations = merged["episodes"], merged["annotations"]
        num_frames = pc.sum(episodes["num_frames"]).as_py() or 0
        notes = sentences((rows.notes for rows in self._rows), episodes.num_rows, num_frames)
        resolution = replace(self._resolution, warnings=(*self._resolution.warnings, *notes))
        annotated: dict[str, set[tuple[str, str]]] = defaultdict(set)
        columns = (annotations[name].to_pylist() for name in ("key", "kind", "source"))
        for key, kind, source in zip(*columns, strict=True):
            annotated[key].add((kind, source))
        columns = (episodes[name].to_pylist() for name in ("key", "source", "id", "success"))
        outcomes = [
            Outcome(f"{path}#{episode}", success, frozenset(annotated[key]))
            for key, path, episode, success in zip(*columns, strict=True)
        ]
        without_rows = {key for rows in self._rows for key in rows.problems}
        written = [episode for episode in self._episodes if episode.key not in without_rows]
        return absence(self._asked, resolution, written, outcomes)


def warnings_of(provenance: Mapping[str, Any]) -> tuple[str, ...]:
    """What was lost or not found when a version was made, and what the data checks found, a sentence each."""
    lost = provenance.get("absence", {}).get("warnings", ())
    findings = provenance.get("checks", {}).get("findings", ())
    return (*lost, *map(_warning, findings))


def _warning(finding: Mapping[str, Any]) -> str:
    settings = set_options(finding["overrides"])
    return f"{finding['message']}: {finding['remedy']}" + (f" ({settings})" if settings else "")
