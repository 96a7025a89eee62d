"""What ingest asks of a kind: what a unit of a source becomes in a shard, and how tables follow from shards.

Engine, plan, shard writer and assembly find and list units, name and write shards, reuse, count, measure and
commit, for any kind. What only the kind of a spec knows they ask its face here, which `kind_of` finds by the
spec's layout. The other faces of a kind are `catalog.kind` and `loader.kind`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from robot_foundry.catalog.kind import Kind as CatalogKind
from robot_foundry.catalog.kind import Schema, face
from robot_foundry.catalog.manifest import Quarantined
from robot_foundry.catalog.store import Store
from robot_foundry.ingest.sources import LAYOUTS, Data, Unit
from robot_foundry.ingest.spec.spec import SourceSpec
from robot_foundry.runtime.parallel import Workers
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.segments import Segment
from robot_foundry.shards.tar import TarWriter


@dataclass(frozen=True)
class UnitTars:
    """Where one unit is written: members go to the tar of `shard_key`, in sorted order, by `add`.

    Where the unit is too long for one, `segments` are further tars, each opened by `segment`, which gives
    None for one that is there already. Where the unit is a whole tar, `adopt` leaves it where it lies, and
    gives the key by which it is a further tar of the shard; Refused if its members cannot be indexed.
    """

    shard_key: str
    segments: tuple[Segment, ...]
    add: Callable[[str, Data], None]
    segment: Callable[[Segment], AbstractContextManager[TarWriter] | None]
    adopt: Callable[[], str]


class SurveyedBlock(Protocol):
    """What is known without reading samples of groups of one unit that lie together in a tar.

    A unit has one block or several: of robots one, which is an episode.
    """

    @property
    def key(self) -> str:
        """As members of the tar and rows of tables name it."""
        ...

    @property
    def unit(self) -> str:
        """The name of its unit of the source."""
        ...

    @property
    def num_groups(self) -> int: ...

    @property
    def num_samples(self) -> int: ...

    @property
    def refused(self) -> Sequence[Quarantined]:
        """Groups of the unit that cannot be read, where the rest of it can; one of its blocks tells them."""
        ...

    @property
    def left_out(self) -> Sequence[int]:
        """How many groups of the unit are left out, for each of `Kind.left_out`; told as `refused` are."""
        ...

    @property
    def source_file(self) -> tuple[str, str]:
        """Path of its file in the source, and what tells its content."""
        ...


@dataclass(frozen=True)
class Tar:
    """A further tar of a shard: with later samples of its block, or one that was adopted."""

    key: str
    sha256: str
    num_bytes: int


@dataclass(frozen=True)
class Shard:
    """A whole shard. `refused` are the units that were meant for it and cannot be read.

    `segments` are its further tars: with the later samples of its block, if that is too long for one, or
    those that its blocks adopt.
    """

    key: str
    tar_sha256: str
    tar_bytes: int
    blocks: tuple[SurveyedBlock, ...]
    refused: tuple[Quarantined, ...]
    reused: bool
    segments: tuple[Tar, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Of all its tars."""
        return self.tar_bytes + sum(tar.num_bytes for tar in self.segments)

    @property
    def num_groups(self) -> int:
        return sum(block.num_groups for block in self.blocks)

    @property
    def num_samples(self) -> int:
        return sum(block.num_samples for block in self.blocks)

    @property
    def quarantined(self) -> list[Quarantined]:
        """The units that cannot be read, and the groups of others."""
        return [*self.refused, *(entry for block in self.blocks for entry in block.refused)]


@dataclass(frozen=True)
class CachedTable:
    """A table of a shard: its `table_digest`, and its path in the cache of the store."""

    digest: str
    path: str


@dataclass(frozen=True)
class MadeTables:
    """What was made of one shard: `tables` of the kind's `shard_tables`, and `rows` for the whole version.

    `problems` says by key of each block that has no rows why.
    """

    tables: Mapping[str, CachedTable]
    problems: Mapping[str, str]
    rows: Any


class VersionTables(Protocol):
    """The tables of a version on their way, shard by shard."""

    @property
    def schema(self) -> Schema: ...

    def task(self, store: Store, dataset: str, shard: Shard) -> Any:
        """What `IngestKind.shard_tables` needs, here or in another process."""
        ...

    def add(self, number: int, ordinal: int, rows: Any) -> None:
        """Keep, in few bytes, `MadeTables.rows` of the shard of that number. Shards come in any order.

        `ordinal` is its place among all tars of the version.
        """
        ...

    def merged(self) -> dict[str, pa.Table]:
        """The tables that a version has one of, by name. After the last `add`."""
        ...

    def counts(self, merged: Mapping[str, pa.Table]) -> tuple[int, int]:
        """Groups and samples of the version."""
        ...

    def provenance(self, merged: Mapping[str, pa.Table]) -> dict[str, Any]:
        """What the manifest is to say of their making. Under `absence`, if there, what nothing took."""
        ...


@dataclass(frozen=True)
class Preview:
    """What a run is expected to make; numbers are None where the listing does not tell them.

    `growth` is stored over source bytes: what is compressed in the source may grow. `schema` is by the first
    readable unit, `sampled`; None if that does not fit the spec. `lines` tell a reader what there would be.
    `refused` are the units that were opened and cannot be read, which none of the counts has.
    """

    holds: CatalogKind
    num_groups: int | None
    num_samples: int | None
    source_bytes: int
    stored_bytes: int
    schema: Schema | None
    sampled: str | None
    lines: tuple[str, ...]
    warnings: tuple[str, ...]
    absence: Mapping[str, Any] | None = None
    refused: tuple[Quarantined, ...] = ()

    @property
    def growth(self) -> float:
        return self.stored_bytes / max(self.source_bytes, 1)

    def to_json(self) -> dict[str, Any]:
        return {
            self.holds.samples: self.num_samples,
            "source_bytes": self.source_bytes,
            "stored_bytes": self.stored_bytes,
            "growth": self.growth,
            "sampled": self.sampled,
            "schema": None if self.schema is None else self.schema.to_json(),
        }


class Remapping(Protocol):
    """For a kind whose tables follow from its tars by a mapping, which a spec has beside the content."""

    def to_json(self, mapping: Any) -> dict[str, Any]:
        """Of a mapping, or of the one of a spec."""
        ...

    def asked(self, spec: Mapping[str, Any], mapping: Any, where: str) -> Any:
        """As `IngestKind.asked`, of another mapping and what a spec says beside it, as JSON."""
        ...


class DerivedKind(Protocol):
    """The ingest's face of a kind as far as it follows from tars.

    name            as manifests have it
    tables_version  raised when other tables follow from the same tars
    remapping       None where tables follow from the tars alone

    A block is one that `survey` gave.
    """

    @property
    def name(self) -> str: ...

    @property
    def tables_version(self) -> int: ...

    @property
    def remapping(self) -> Remapping | None: ...

    def survey(self, tar: ShardReader) -> tuple[tuple[SurveyedBlock, ...], tuple[str, ...]]:
        """The blocks of a shard in the order of its rows, and the keys of its further tars."""
        ...

    def survey_to_json(self, block: Any) -> list[Any]: ...

    def survey_from_json(self, values: list[Any]) -> SurveyedBlock: ...

    def interned(self, block: Any, one: Callable[[Any], Any]) -> SurveyedBlock:
        """The block with all that others have too passed through `one`, so that memory holds it once."""
        ...

    def version_tables(self, asked: Any, blocks: Sequence[Any]) -> AbstractContextManager[VersionTables]:
        """The tables of a version of these blocks, in the order of its shards.

        Shards none of whose blocks has a group are no part of it; their blocks tell what was left out.
        """
        ...

    def shard_tables(self, task: Any) -> MadeTables:
        """The tables of the shard of a `VersionTables.task`; all of them lie in the cache afterwards."""
        ...

    def warnings(self, provenance: Mapping[str, Any]) -> tuple[str, ...]:
        """A sentence on all that a user should know of how a version was made."""
        ...


class IngestKind(DerivedKind, Protocol):
    """The ingest's face of a kind that is made of sources.

    unit  what a user calls a unit of a source: 'demonstration'

    A spec is one that `read_spec` gave.
    """

    @property
    def unit(self) -> str: ...

    def read_spec(self, values: Any, where: str) -> SourceSpec:
        """The spec in parsed YAML or JSON; UsageError names every problem in it."""
        ...

    def codecs(self, spec: Any) -> dict[str, str]:
        """Versions of what decides the bytes of members; they enter the keys of shards with such members."""
        ...

    def bounds(self, unit: Unit, spec: Any) -> list[int]:
        """Where the unit's samples are cut, from 0 to their number; [0, 0] for a unit of one tar."""
        ...

    def compares(self, spec: Any) -> bool:
        """Whether what is written of a unit depends on the units before it: then `compared` is asked."""
        ...

    def compared(
        self, units: Sequence[Unit], spec: Any, store: Store, workers: Workers, *, quiet: bool
    ) -> Sequence[Unit]:
        """The same units, each with what its place among all of them says of it. The plan follows."""
        ...

    def write(self, unit: Unit, spec: Any, tars: UnitTars) -> None:
        """Read the unit, which lies in local files, and write its members.

        Refused, at any sample, if it cannot be read: then no member of it reaches the shard, and segments
        that were written stay without a version that names them.
        """
        ...

    def preview(self, spec: Any, units: Sequence[Unit], source_bytes: int) -> Preview:
        """What a run would make of these units, from their headers and some of the samples of one."""
        ...

    def asked(self, spec: Any) -> Any:
        """What the spec asks of the tables."""
        ...

    def advice(self, schema: Any) -> list[str]:
        """Sentences on what would make a version of that schema better."""
        ...


def kind_of(spec: SourceSpec) -> IngestKind:
    """The kind of what a spec makes, which its layout decides."""
    named: IngestKind = face(LAYOUTS[spec.layout].kind, "ingest")
    return named


def kind_named(name: str) -> DerivedKind:
    """The ingest's face of a kind, be it made of sources or of other versions."""
    named: DerivedKind = face(name, "ingest")
    return named
