"""What a kind checks of its versions, what it is given for that, and what it concludes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from robot_foundry.catalog.manifest import Manifest, ShardEntry
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.table_file import TableFile
from robot_foundry.catalog.validation.table_findings import Fault
from robot_foundry.catalog.version import Version
from robot_foundry.checks.finding import Finding
from robot_foundry.shards.reader import ShardReader


@dataclass(frozen=True)
class ShardCheck:
    """What a worker needs.

    `tables` are those of the shard, by name without its key: the digest and file that the manifest names.
    `rows` are those of the shard in the tables of the version that have a column `shard`, None of a damaged
    one.
    """

    store: Store
    version: Version
    kind: str
    schema: Any
    entry: ShardEntry
    tables: Mapping[str, tuple[str, TableFile]]
    rows: Mapping[str, Sequence[Mapping[str, Any]] | None]
    deep: bool
    made_by: str = ""

    @property
    def tar(self) -> str:
        return self.store.shard_tar(self.version.dataset, self.entry.key)

    @property
    def index(self) -> str:
        return self.store.shard_index(self.version.dataset, self.entry.key)

    def table(self, name: str) -> str:
        return self.store.table(self.version.dataset, self.version.version_id, f"{name}/{self.entry.key}")

    def where(self, path: str) -> str:
        return f"{self.store.url}/{path}"


@dataclass(frozen=True)
class Conclusion:
    """What a kind says of a version as a whole.

    `checked` counts what it looked at beside shards, groups, samples, members and tables; `doubts` are of the
    data. `following` says how one thing follows another, by name, where the kind measures that; `lines` say
    it to people.
    """

    checked: Mapping[str, int] = field(default_factory=dict)
    doubts: tuple[Finding, ...] = ()
    following: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()


Tables = Mapping[str, pa.Table | None]  # by name; None where a table is damaged


class Validator(Protocol):
    """What a kind checks, beside manifest, references, tars, indexes, digests of tables and counts.

    Damage is told to `fault`; one fault must not hide the others.
    """

    def count(self, tables: Tables) -> tuple[int, int] | None:
        """Groups and samples by the tables of a version; None where they cannot be told."""
        ...

    def check_tables(self, manifest: Manifest, tables: Tables, fault: Fault) -> None:
        """The tables of a version against each other and its manifest."""
        ...

    def check_members(self, task: ShardCheck, reader: ShardReader, is_intact: bool, fault: Fault) -> Any:
        """What is in a tar whose index is that of the manifest; `is_intact` as far as its bytes were read.

        Where `task.deep` says so, all content of an intact tar is decoded. What is returned goes to
        `check_rows`.
        """
        ...

    def check_rows(self, task: ShardCheck, tables: Tables, members: Any, fault: Fault) -> Any:
        """The tables of a shard against all that is known of it; `members` is None of a tar without use.

        What is returned goes to `conclude`, from another process perhaps.
        """
        ...

    def conclude(
        self, version: Version, manifest: Manifest, tables: Tables, shards: Sequence[Any]
    ) -> Conclusion:
        """What all shards say together; `shards` has what `check_rows` returned of each, in order."""
        ...
