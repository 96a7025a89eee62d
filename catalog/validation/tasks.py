"""What validation hands to a kind, and what the kind concludes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robot_foundry.catalog.manifest import ShardEntry
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.table_file import TableFile
from robot_foundry.catalog.version import Version
from robot_foundry.checks.finding import Finding


@dataclass(frozen=True)
class ShardTask:
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
